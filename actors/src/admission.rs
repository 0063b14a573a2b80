//! The permits that bound the whole pipeline, in frames and in bytes.
//!
//! Actor mailboxes are unbounded; these are not. A frame takes its permits before it enters and carries them by value,
//! so they come back wherever it ends.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much may be inside the pipeline at once.
#[derive(Debug)]
pub struct Admission {
    frames: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_frames: usize,
    max_bytes: usize,
}

/// Why a frame was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many frames as may be are in flight.
    #[error("the pipeline is full: {limit} of {limit} frames in flight")]
    Frames {
        /// `limits.in_flight_frames`.
        limit: usize,
    },
    /// The frame's bytes do not fit beside those in flight.
    #[error("the pipeline is full: {in_flight} of {limit} bytes in flight and this frame has {bytes}")]
    Bytes {
        /// Size of this frame's payload, bytes.
        bytes: usize,
        /// Bytes in flight when it came.
        in_flight: usize,
        /// `limits.in_flight_bytes`.
        limit: usize,
    },
    /// The frame would not fit into an empty pipeline either.
    #[error("a frame of {bytes} bytes is over limits.in_flight_bytes, {limit}")]
    NeverFits {
        /// Size of this frame's payload, bytes.
        bytes: usize,
        /// `limits.in_flight_bytes`.
        limit: usize,
    },
}

/// The right to be in the pipeline. The frame's half goes with its answer, the bytes' half with its samples;
/// the frame's half is shared, so that it stays as long as either.
#[derive(Debug)]
pub struct Permit {
    /// One frame.
    pub frame: Arc<OwnedSemaphorePermit>,
    /// As many bytes as the frame's payload has.
    pub bytes: OwnedSemaphorePermit,
}

impl Admission {
    /// At most `max_frames` frames and `max_bytes` bytes of payload at once.
    pub fn new(max_frames: usize, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(Semaphore::MAX_PERMITS);
        Self { frames: Arc::new(Semaphore::new(max_frames)), bytes: Arc::new(Semaphore::new(max_bytes)), max_frames, max_bytes }
    }

    /// Takes the permits for one frame of `bytes` bytes, or says at once what is full.
    pub fn admit(&self, bytes: usize) -> Result<Permit, Refused> {
        let never = Refused::NeverFits { bytes, limit: self.max_bytes };
        if bytes > self.max_bytes {
            return Err(never);
        }
        let wanted = u32::try_from(bytes).map_err(|_| never)?;
        let frame = Arc::clone(&self.frames).try_acquire_owned().map_err(|_| Refused::Frames { limit: self.max_frames })?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(wanted).map_err(|_| Refused::Bytes {
            bytes,
            in_flight: self.max_bytes - self.bytes.available_permits(),
            limit: self.max_bytes,
        })?;
        Ok(Permit { frame: Arc::new(frame), bytes })
    }

    /// Frames and bytes that hold permits now.
    pub fn in_use(&self) -> (usize, usize) {
        (self.max_frames - self.frames.available_permits(), self.max_bytes - self.bytes.available_permits())
    }

    /// The most frames that can hold a permit at once.
    pub fn max_frames(&self) -> usize {
        self.max_frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_by_frames_and_by_bytes_and_gives_back_on_drop() {
        let admission = Admission::new(2, 100);
        let first = admission.admit(60).unwrap();
        assert_eq!(admission.admit(41).unwrap_err(), Refused::Bytes { bytes: 41, in_flight: 60, limit: 100 });
        assert_eq!(admission.in_use(), (1, 60), "a refusal keeps no permit");
        let second = admission.admit(40).unwrap();
        assert_eq!(admission.admit(0).unwrap_err(), Refused::Frames { limit: 2 });
        assert_eq!(admission.admit(101).unwrap_err(), Refused::NeverFits { bytes: 101, limit: 100 });
        drop((first, second));
        assert_eq!(admission.in_use(), (0, 0));
    }
}
