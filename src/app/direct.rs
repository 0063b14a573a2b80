//! What comes beside the frames on NATS: batches, and the frames of HTTP calls.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use sferic_actors::ports::FrameSource;
use sferic_actors::task::Task;
use sferic_settings::Settings;
use tokio::sync::watch;

use crate::batch::Batches;
use crate::ingress::{self, Closing, Ingress};
use crate::nats::{BatchService, Connection, Frames};

/// Time for an outcome beyond the longest budget and its publication.
const GRACE: Duration = Duration::from_secs(10);

/// Publications of an outcome that may be waited for: each may meet a client that ends.
const PUBLICATIONS: u32 = 4;

/// The way in, and those who use it.
pub struct Direct {
    pub ingress: Ingress,
    pub batches: Arc<Batches>,
    /// Answers batches on NATS.
    pub serving: Task,
    closing: Closing,
}

impl Direct {
    /// Opens it beside `source`; gives both as one.
    pub fn open(
        settings: &Settings,
        connection: &Connection,
        instance: &str,
        source: FrameSource,
        frames: &mut Frames,
        gathers: watch::Receiver<bool>,
    ) -> (FrameSource, Self) {
        let (nats, limits) = (&settings.nats, &settings.limits);
        let answer_within = limits.max_timeout + PUBLICATIONS * nats.publish_timeout + GRACE;
        let (ingress, direct, closing) = ingress::open(instance.to_owned(), answer_within);
        // Half of the frames that may be there, so that a batch leaves room for others.
        let share = limits.in_flight_frames as f64 * limits.per_source_share / 2.0;
        let first = 2 * settings.pool.sessions;
        let (budget, patience) = (limits.timeout, limits.max_timeout);
        let batches = Arc::new(Batches::new(first, share as usize, budget, patience, gathers));
        let service = BatchService {
            connection: connection.clone(),
            prefix: nats.prefix.clone(),
            bound: nats.publish_timeout,
            ingress: ingress.clone(),
            batches: Arc::clone(&batches),
            max_bytes: limits.in_flight_bytes,
        };
        let serving = service.start(settings.group(), frames);
        (stream::select(source, direct).boxed(), Self { ingress, batches, serving, closing })
    }

    /// Takes nothing more in, and waits, at most `bound`, for what is in.
    pub async fn close(self, bound: Duration) {
        self.closing.close(bound).await;
    }
}
