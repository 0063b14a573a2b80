//! What is kept under a key.

use std::sync::Arc;

use tokio::time::Instant;

use crate::frame::ModelId;
use crate::outcome::Answer;

/// A cached answer.
#[derive(Debug)]
pub struct CachedAnswer {
    /// The answer.
    pub answer: Arc<Answer>,
    /// The model that gave it.
    pub model: Arc<ModelId>,
    /// When it is too old.
    pub expires_at: Instant,
    /// Its memory, bytes.
    pub size: usize,
}
