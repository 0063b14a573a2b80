//! What answers a frame: its slot, the frames that share a computation, the deadlines, and the outcomes that
//! wait to be published.

mod deadlines;
mod flight;
mod outcome_queue;
mod slot;

pub use deadlines::Deadlines;
pub use flight::{Flight, Joining, Member};
pub use outcome_queue::{MAX_BATCH, OutcomeQueue, Receiving};
pub use slot::{ExpiryListener, Responder, Unanswered, deadline_exceeded, dropped};
