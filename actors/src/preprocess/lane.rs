//! One OS thread that computes features.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::PreprocessArguments;
use crate::frame::{PreparedFrame, RawFrame};
use crate::model_pool::WorkQueue;
use crate::ports::FeatureWorker;

/// The way to a worker's thread. The thread ends when the lane is dropped and its last frame done.
#[derive(Debug)]
pub struct Lane {
    frames: SyncSender<(Box<RawFrame>, oneshot::Sender<()>)>,
}

/// The thread has ended, by a panic of its extractor; the frame it had has been answered.
#[derive(Debug, thiserror::Error)]
#[error("the thread of a feature worker ended")]
pub struct LaneEnded;

impl Lane {
    /// Starts the thread of worker `id`.
    pub fn spawn(id: usize, arguments: &PreprocessArguments) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<(Box<RawFrame>, oneshot::Sender<()>)>(1);
        let PreprocessArguments { extractors, queue, .. } = arguments.clone();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name(format!("features-{id}")).spawn(move || {
            let _clock = runtime.enter();
            let mut extractor = extractors();
            for (frame, done) in receiver {
                extract(&mut *extractor, *frame, &queue);
                let _ = done.send(());
            }
        })?;
        Ok(Self { frames: sender })
    }

    /// Computes a frame's features and lets it wait for a session; returns when the thread is free again.
    pub async fn extract(&self, frame: Box<RawFrame>) -> Result<(), LaneEnded> {
        let (done, is_done) = oneshot::channel();
        // The worker waits for each frame, so the channel has room; otherwise the frame is dropped, and so answered.
        self.frames.try_send((frame, done)).map_err(|_| LaneEnded)?;
        is_done.await.map_err(|_| LaneEnded)
    }
}

fn extract(extractor: &mut dyn FeatureWorker, frame: RawFrame, queue: &WorkQueue) {
    let RawFrame { job, samples, .. } = frame;
    job.note(|trail| trail.features_begun = Some(Instant::now()));
    let tensor = match extractor.extract(&job.model, &samples) {
        Ok(tensor) => tensor,
        Err(failure) => return job.fail(failure),
    };
    drop(samples);
    let prepared_at = Instant::now();
    job.note(|trail| trail.features_ended = Some(prepared_at));
    queue.push(PreparedFrame { job, tensor, prepared_at });
}
