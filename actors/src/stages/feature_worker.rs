//! One OS thread that computes features.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::time::Instant;

use crate::job::{PreparedFrame, RawFrame};
use crate::ports::{FeatureWorker, FeatureWorkers};
use crate::queue::{FrameQueue, WorkQueue};

/// Starts the thread of worker `id`, which exits with its generation.
pub fn spawn(
    id: usize,
    generation: u64,
    extractors: &FeatureWorkers,
    frames: &Arc<FrameQueue>,
    queue: &Arc<WorkQueue>,
) -> io::Result<()> {
    let (extractors, frames, queue) = (Arc::clone(extractors), Arc::clone(frames), Arc::clone(queue));
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let _clock = runtime.enter();
        let mut extractor = extractors();
        while let Some(frame) = frames.next(generation) {
            // A panic is a defect of the extractor: its frame is dropped, and so answered, and the extractor
            // is replaced.
            if catch_unwind(AssertUnwindSafe(|| extract(&mut *extractor, frame, &queue))).is_err() {
                tracing::error!("a feature worker panicked; it is replaced");
                extractor = extractors();
            }
        }
    };
    std::thread::Builder::new().name(format!("features-{id}")).spawn(work).map(drop)
}

fn extract(extractor: &mut dyn FeatureWorker, frame: RawFrame, queue: &WorkQueue) {
    let RawFrame { job, content, .. } = frame;
    let begun = Instant::now();
    if job.is_settled(begun) {
        return;
    }
    if let Err(failure) = job.check() {
        return job.fail(failure);
    }
    job.note(|trail| trail.features_begun = Some(begun));
    let inputs = match extractor.extract(&*job.model, content) {
        Ok(inputs) => inputs,
        Err(failure) => return job.fail(failure),
    };
    let prepared_at = Instant::now();
    job.note(|trail| trail.features_ended = Some(prepared_at));
    queue.push(PreparedFrame { job, inputs, prepared_at });
}
