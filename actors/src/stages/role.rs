//! The roles of the actors, and how often each was restarted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Role of a child, in the order they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActorRole {
    /// Publishes outcomes.
    Publish,
    /// Logs the state changes of the circuits.
    Breaker,
    /// Fails frames that wait too long for a session.
    ModelPool,
    /// Computes features.
    Preprocess,
    /// Answers from the cache.
    Cache,
    /// Closes sessions at the end of their windows.
    Gather,
    /// Reads frames.
    Ingest,
}

impl ActorRole {
    /// The role started first.
    pub const FIRST: Self = Self::Publish;
    /// All roles, in order.
    pub const ALL: [Self; 7] = [
        Self::Publish,
        Self::Breaker,
        Self::ModelPool,
        Self::Preprocess,
        Self::Cache,
        Self::Gather,
        Self::Ingest,
    ];

    /// The name as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Breaker => "breaker",
            Self::ModelPool => "model_pool",
            Self::Preprocess => "preprocess",
            Self::Cache => "cache",
            Self::Gather => "gather",
            Self::Ingest => "ingest",
        }
    }
}

/// Number of restarts that the end of each actor has caused.
#[derive(Debug, Default)]
pub struct Restarts([AtomicU64; ActorRole::ALL.len()]);

impl Restarts {
    /// Counts a restart caused by the end of this actor.
    pub fn count(&self, role: ActorRole) {
        self.0[role as usize].fetch_add(1, Relaxed);
    }

    /// Restarts caused by this actor; those restarted along with it are not counted.
    pub fn of(&self, role: ActorRole) -> u64 {
        self.0[role as usize].load(Relaxed)
    }
}
