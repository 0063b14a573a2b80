//! Copies of frames for versions that only watch, bounded apart from the frames themselves.

use std::fmt;
use std::sync::Arc;

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
}

impl Copies {
    /// Copies of so many bytes together at most.
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS);
        let (places, bytes) = (Semaphore::new(COPIES), Semaphore::new(max_bytes));
        Self { places: places.into(), bytes: bytes.into() }
    }

    /// Keeps the content of a frame.
    ///
    /// # Errors
    /// There is no room; gives the version back.
    pub fn keep(&self, content: &Content, model: Arc<ModelId>) -> Result<Arc<FrameCopy>, Arc<ModelId>> {
        let take = |of: &Arc<Semaphore>, count: usize| {
            Arc::clone(of).try_acquire_many_owned(u32::try_from(count).ok()?).ok()
        };
        let taken = take(&self.places, 1).zip(take(&self.bytes, content.bytes()));
        match taken {
            Some((place, bytes)) => {
                Ok(Arc::new(FrameCopy { content: content.clone(), model, _place: [place, bytes] }))
            }
            None => Err(model),
        }
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
        assert!(keep(600).is_err() && keep(400).is_ok());
        drop(first);
        let all: Vec<_> = (0..COPIES).map_while(|_| keep(8).ok()).collect();
        assert_eq!((all.len(), keep(8).is_err()), (COPIES, true));
    }
}
