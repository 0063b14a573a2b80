//! What is kept under a key.

use std::sync::Arc;

use tokio::time::Instant;

use crate::outcome::Answer;

/// A cached answer.
#[derive(Debug)]
pub struct CachedAnswer {
    /// The answer.
    pub answer: Arc<Answer>,
    /// When it is too old.
    pub expires_at: Instant,
    /// Its memory, bytes.
    pub size: usize,
}
