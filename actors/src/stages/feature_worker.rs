//! One OS thread that computes features.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::job::WaitingFrame;
use crate::ports::FeatureWorkers;
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
            let prepare = || {
                if let Some(prepared) = frame.prepare(&mut *extractor) {
                    queue.push(WaitingFrame::Prepared(prepared));
                }
            };
            if catch_unwind(AssertUnwindSafe(prepare)).is_err() {
                tracing::error!("a feature worker panicked; it is replaced");
                extractor = extractors();
            }
        }
    };
    std::thread::Builder::new().name(format!("features-{id}")).spawn(work).map(drop)
}
