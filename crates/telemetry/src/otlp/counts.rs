//! What is exported, and the counts of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Maximum number of frames in the queue; about 2 KB each.
pub(super) const FRAMES: u64 = 1024;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Traces, Self::Metrics];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// Counters of the export.
#[derive(Debug, Default)]
pub struct ExportCounts {
    /// Frames whose spans the collector accepted.
    pub exported: AtomicU64,
    /// Frames whose spans were dropped because the queue was full.
    pub queue_full: AtomicU64,
    /// Frames whose spans the collector rejected, or that were left at shutdown.
    pub failed: AtomicU64,
    /// Failures and slow frames over the number kept per second.
    pub limited: AtomicU64,
    /// Accepted and failed requests, by signal.
    pub requests: [[AtomicU64; 2]; 2],
    pub(super) waiting: AtomicU64,
}

impl ExportCounts {
    /// Frames whose spans are queued.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Capacity of the queue.
    pub const LIMIT: u64 = FRAMES;
}
