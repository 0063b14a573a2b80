//! A run whose outputs are no answer.

use sferic_actors::outcome::{Failure, FailureCode};

/// The failure of such a frame.
pub(super) fn failed(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InferenceFailed, message)
}
