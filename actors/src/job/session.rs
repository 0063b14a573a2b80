//! The job of a session: one computation for the frames of several receivers.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Job;
use crate::account::admission::FramePermit;
use crate::breaker::CircuitPermit;
use crate::gather::SourceBook;
use crate::outcome::{Failure, LeftOut};
use crate::ports::LoadedModel;
use crate::reply::{Flight, Member};
use crate::tensor::ClockError;

/// Parts of the job of a session.
#[derive(Debug)]
pub struct SessionParts {
    /// Its frames.
    pub frames: Vec<Member>,
    /// The model that answers.
    pub model: Arc<dyn LoadedModel>,
    /// Permit of the model's circuit, or the failure of its frames.
    pub circuit_permit: Result<CircuitPermit, Failure>,
    /// When it was closed.
    pub closed_at: Instant,
    /// The permits of its bytes and of one of its frames.
    pub permits: Option<(OwnedSemaphorePermit, Arc<FramePermit>)>,
    /// Where it is noted who was left out.
    pub book: Arc<Mutex<SourceBook>>,
}

impl Job {
    /// A job for the frames of a session; `None` without one.
    pub fn of_session(parts: SessionParts) -> Option<Self> {
        let SessionParts { frames, model, circuit_permit, closed_at, permits, book } = parts;
        let flight = Flight::of_session(frames)?;
        let (received_at, remember, book) = (closed_at, None, Some(book));
        Some(Self { flight, model, received_at, remember, circuit_permit, permits, book })
    }

    /// Notes frames of the session that turned out to be of no use, and what is known of clocks.
    pub(super) fn note_found(&self, left_out: &[LeftOut], clocks: &[ClockError]) {
        let Some(book) = self.book.as_ref().filter(|_| !left_out.is_empty() || !clocks.is_empty()) else {
            return;
        };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        for ClockError { source, at_ns, late_s, sigma_s } in clocks {
            book.observe_clock(source, *at_ns, *late_s, *sigma_s);
        }
        left_out.iter().for_each(|out| book.leave_out(&out.source, out.reason));
        drop(book);
        if !left_out.is_empty() {
            self.note(|trail| {
                trail.session = trail.session.as_ref().map(|session| Arc::new(session.without(left_out)));
            });
        }
    }

    /// Whether it is a session's. Such a job is never shed for an arriving frame: it holds none of the
    /// permits that one asks for.
    pub fn is_session(&self) -> bool {
        self.flight.is_session()
    }
}
