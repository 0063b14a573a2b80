//! Copies of frames for versions that only watch, bounded apart from the frames themselves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::frame::{Content, ModelId};

/// Copies at most; they are worked on one by one.
const COPIES: usize = 32;

/// The content of a frame, kept for a version that is to see it too. Shares the bytes of the message.
pub struct FrameCopy {
    /// What the frame held.
    pub content: Content,
    /// The version.
    pub model: Arc<ModelId>,
    _place: [OwnedSemaphorePermit; 2],
}

impl fmt::Debug for FrameCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCopy").field("model", &self.model).finish_non_exhaustive()
    }
}

/// Bounds the copies.
#[derive(Debug)]
pub struct Copies {
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    no_room: AtomicU64,
}

impl Copies {
    /// Copies of so many bytes together at most.
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS);
        let (places, bytes) = (Semaphore::new(COPIES), Semaphore::new(max_bytes));
        Self { places: places.into(), bytes: bytes.into(), no_room: AtomicU64::new(0) }
    }

    /// Keeps the content of a frame; `None` where there is no room.
    pub fn keep(&self, content: &Content, model: Arc<ModelId>) -> Option<Arc<FrameCopy>> {
        let take = |of: &Arc<Semaphore>, count: usize| {
            Arc::clone(of).try_acquire_many_owned(u32::try_from(count).ok()?).ok()
        };
        let taken = take(&self.places, 1).zip(take(&self.bytes, content.bytes()));
        let Some((place, bytes)) = taken else {
            self.no_room.fetch_add(1, Relaxed);
            return None;
        };
        Some(Arc::new(FrameCopy { content: content.clone(), model, _place: [place, bytes] }))
    }

    /// Frames that were not copied for want of room.
    pub fn no_room(&self) -> u64 {
        self.no_room.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sferic_samples::Datatype;

    use super::*;
    use crate::frame::IqSamples;

    #[test]
    fn copies_are_bounded_in_number_and_in_bytes() {
        let content = |bytes: usize| {
            let bytes = Bytes::from(vec![0; bytes]);
            Content::from(IqSamples { bytes, datatype: Datatype::Cf32Le, channels: 1, sample_rate: None })
        };
        let copies = Copies::new(1000);
        let keep = |bytes| copies.keep(&content(bytes), Arc::default());
        let first = keep(600).unwrap();
        assert!(keep(600).is_none() && keep(400).is_some());
        drop(first);
        let all: Vec<_> = (0..COPIES).filter_map(|_| keep(8)).collect();
        assert_eq!((all.len(), keep(8).is_none(), copies.no_room()), (COPIES, true, 2));
    }
}
