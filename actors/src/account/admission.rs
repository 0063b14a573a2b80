//! The permits that bound the whole pipeline, in frames and in bytes.
//!
//! Actor mailboxes are unbounded, so the bound is here: a frame takes its permits before it enters the
//! pipeline and carries them by value. They are released wherever it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds the frames and bytes in the pipeline.
#[derive(Debug)]
pub struct Admission {
    frames: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_frames: usize,
    max_bytes: usize,
    sources: Option<Arc<Sources>>,
}

/// Frames in flight by source; sources without any are not listed.
#[derive(Debug)]
struct Sources {
    in_flight: Mutex<HashMap<Arc<str>, usize>>,
    limit: usize,
}

/// Why a frame was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `limits.in_flight_frames` are in flight.
    #[error("the pipeline is full: {limit} of {limit} frames in flight")]
    Frames {
        /// `limits.in_flight_frames`.
        limit: usize,
    },
    /// The payload does not fit beside those in flight.
    #[error("the pipeline is full: {in_flight} of {limit} bytes in flight and this frame has {bytes}")]
    Bytes {
        /// Size of this frame's payload, bytes.
        bytes: usize,
        /// Bytes in flight when it came.
        in_flight: usize,
        /// `limits.in_flight_bytes`.
        limit: usize,
    },
    /// Its source has its share of the frames in flight.
    #[error(
        "{limit} of {limit} frames of source {source_name:?} in flight, its share of {max_frames} by \
         limits.per_source_share"
    )]
    Source {
        /// The frame's source.
        source_name: String,
        /// The source's share, frames.
        limit: usize,
        /// `limits.in_flight_frames`.
        max_frames: usize,
    },
    /// The payload would not fit into an empty pipeline either.
    #[error("a frame of {bytes} bytes is over limits.in_flight_bytes, {limit}")]
    NeverFits {
        /// Size of this frame's payload, bytes.
        bytes: usize,
        /// `limits.in_flight_bytes`.
        limit: usize,
    },
}

/// The permits of an admitted frame. The frame permit travels with its answer, the byte permit with its
/// samples. The frame permit is shared, so that it is held as long as either.
#[derive(Debug)]
pub struct Permit {
    /// One frame.
    pub frame: Arc<FramePermit>,
    /// As many bytes as the frame's payload has.
    pub bytes: OwnedSemaphorePermit,
}

/// The permit of one frame, in the pipeline or among the refusals that wait to be published.
#[derive(Debug)]
pub struct FramePermit {
    _place: OwnedSemaphorePermit,
    _share: Option<SourceShare>,
}

impl FramePermit {
    /// A permit outside the pipeline, which counts for no source.
    pub fn outside(place: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self { _place: place, _share: None })
    }
}

/// One frame counted in its source's share.
#[derive(Debug)]
struct SourceShare {
    sources: Arc<Sources>,
    source: Arc<str>,
}

impl Sources {
    fn take(self: &Arc<Self>, source: &str) -> Option<SourceShare> {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let source =
            in_flight.get_key_value(source).map_or_else(|| source.into(), |(source, _)| Arc::clone(source));
        let count = in_flight.entry(Arc::clone(&source)).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(SourceShare { sources: Arc::clone(self), source })
    }
}

impl Drop for SourceShare {
    fn drop(&mut self) {
        let mut in_flight = self.sources.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.source);
            }
        }
    }
}

impl Refused {
    /// Whether shedding another frame could admit this one.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Frames { .. } | Self::Bytes { .. })
    }
}

impl Admission {
    /// Admits at most `max_frames` frames and `max_bytes` bytes of payload at once, and of one source at most
    /// this share of the frames.
    pub fn new(max_frames: usize, max_bytes: usize, per_source_share: f64) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS);
        let limit = ((max_frames as f64 * per_source_share).floor() as usize).max(1);
        let sources =
            (per_source_share < 1.0).then(|| Arc::new(Sources { in_flight: Mutex::default(), limit }));
        Self {
            frames: Arc::new(Semaphore::new(max_frames)),
            bytes: Arc::new(Semaphore::new(max_bytes)),
            max_frames,
            max_bytes,
            sources,
        }
    }

    /// Takes the permits for one frame of `bytes` bytes, or returns at once what is full.
    pub fn admit(&self, source: &str, bytes: usize) -> Result<Permit, Refused> {
        let never = Refused::NeverFits { bytes, limit: self.max_bytes };
        if bytes > self.max_bytes {
            return Err(never);
        }
        let wanted = u32::try_from(bytes).map_err(|_| never)?;
        let share = match &self.sources {
            None => None,
            Some(sources) => Some(sources.take(source).ok_or_else(|| Refused::Source {
                source_name: source.to_owned(),
                limit: sources.limit,
                max_frames: self.max_frames,
            })?),
        };
        let place = Arc::clone(&self.frames)
            .try_acquire_owned()
            .map_err(|_| Refused::Frames { limit: self.max_frames })?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(wanted).map_err(|_| Refused::Bytes {
            bytes,
            in_flight: self.max_bytes - self.bytes.available_permits(),
            limit: self.max_bytes,
        })?;
        Ok(Permit { frame: Arc::new(FramePermit { _place: place, _share: share }), bytes })
    }

    /// Frames and bytes that could be admitted now.
    pub fn free(&self) -> (usize, usize) {
        (self.frames.available_permits(), self.bytes.available_permits())
    }

    /// Waits until this many frames and bytes could be admitted.
    pub async fn room(&self, frames: usize, bytes: usize) {
        let many = |wanted: usize, limit: usize| u32::try_from(wanted.min(limit)).unwrap_or(u32::MAX);
        let (frames, bytes) = (many(frames, self.max_frames), many(bytes, self.max_bytes));
        // Released at once: who admits takes its own.
        let _ = (self.frames.acquire_many(frames).await, self.bytes.acquire_many(bytes).await);
    }

    /// Frames and bytes admitted now.
    pub fn in_use(&self) -> (usize, usize) {
        (self.max_frames - self.frames.available_permits(), self.max_bytes - self.bytes.available_permits())
    }

    /// The maximum number of bytes admitted at once.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The maximum number of frames admitted at once.
    pub fn max_frames(&self) -> usize {
        self.max_frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_by_frames_and_by_bytes_and_releases_on_drop() {
        let admission = Admission::new(2, 100, 1.0);
        let admit = |bytes| admission.admit("a", bytes);
        let first = admit(60).unwrap();
        assert_eq!(admit(41).unwrap_err(), Refused::Bytes { bytes: 41, in_flight: 60, limit: 100 });
        assert_eq!(admission.in_use(), (1, 60), "a refusal holds no permit");
        let second = admit(40).unwrap();
        assert_eq!(admit(0).unwrap_err(), Refused::Frames { limit: 2 });
        assert_eq!(admit(101).unwrap_err(), Refused::NeverFits { bytes: 101, limit: 100 });
        drop((first, second));
        assert_eq!(admission.in_use(), (0, 0));
    }

    #[test]
    fn a_source_is_bounded_by_its_share() {
        let admission = Admission::new(8, 100, 0.25);
        let loud: Vec<_> = (0..2).map(|_| admission.admit("loud", 1).unwrap()).collect();
        let refused = admission.admit("loud", 1).unwrap_err();
        assert_eq!(refused, Refused::Source { source_name: "loud".into(), limit: 2, max_frames: 8 });
        assert!(!refused.is_for_want_of_room());
        let quiet = admission.admit("quiet", 1).unwrap();
        assert_eq!(admission.in_use(), (3, 3), "a refusal holds no permit");
        drop(loud);
        assert!(admission.admit("loud", 1).is_ok());
        drop(quiet);
        assert!(
            admission.sources.unwrap().in_flight.lock().unwrap().is_empty(),
            "sources without frames are removed"
        );
    }
}
