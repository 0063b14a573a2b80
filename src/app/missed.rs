//! Counts the frames that are missing in the `seq` of their sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sferic_actors::account::gaps::{GapWatch, Missed};
use sferic_actors::account::ledger::Ledger;
use sferic_telemetry::Throttle;
use sferic_telemetry::metrics::Recorded;
use tokio::time::Instant;

use crate::nats::Peers;

/// Interval at which other members of the queue group are looked for while no gap is open.
const LOOK: Duration = Duration::from_secs(5);

/// Missing frames that another member of the queue group may have received.
#[derive(Debug, Default)]
pub struct Unseen(AtomicU64);

impl Unseen {
    /// Their number.
    pub fn frames(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts each gap as lost where this daemon is alone in its queue group, else as unseen.
pub async fn account(
    gaps: Arc<GapWatch>,
    ledger: Arc<Ledger>,
    recorded: Arc<Recorded>,
    unseen: Arc<Unseen>,
    mut peers: Peers,
) {
    let throttle = Throttle::new(Duration::from_secs(1));
    loop {
        let due = tokio::select! {
            due = gaps.opened() => due,
            () = tokio::time::sleep(LOOK) => {
                peers.look().await;
                continue;
            }
        };
        let (others, ()) = tokio::join!(peers.seen(), tokio::time::sleep_until(due));
        for Missed { source, frames } in gaps.take_due(Instant::now()) {
            if others {
                unseen.0.fetch_add(frames, Relaxed);
                continue;
            }
            ledger.missed(frames);
            recorded.missed("gap", &source, frames);
            if let Some(suppressed) = throttle.pass(Instant::now()) {
                tracing::warn!(source, frames, suppressed, "frames never came: their seq is missing");
            }
        }
    }
}
