//! The actors of sferic, their messages, their supervision, and the *ports* to the outside.
//!
//! ```text
//! NATS ─► Ingest ─► Cache ─miss─────────────────────────────────► WorkQueue ─► sessions (features, run)
//!           │ permit  │ hit └► FrameQueue ─► feature workers (if any) ─┘            │ circuit, cache
//!           └ refused ┴──────────────────────► Publish ◄──────────────────────────┘ outcomes
//! ```
//!
//! Preprocess spawns the feature workers, ModelPool fails what is overdue in the work queue, and Breaker logs
//! and wakes circuits: no frame passes through their mailboxes.
//!
//! Nothing here names a broker, an inference library or an FFT: those stand behind [`ports`] and are
//! implemented by crates beside this one and by the root package. So the tests of this crate need neither a
//! server nor a library.
//!
//! State that must survive an actor lives outside it, in [`pipeline::SharedState`]: the ledger, the permits,
//! the outcomes not yet published, the queue the sessions pull from, the circuits, the cache's entries.

pub mod account;
pub mod breaker;
pub mod cache;
pub mod frame;
pub mod gather;
pub mod jitter;
pub mod job;
pub mod outcome;
pub mod pipeline;
pub mod ports;
pub mod queue;
pub mod reply;
pub mod routing;
pub mod sessions;
pub mod shared_state;
pub mod stages;
pub mod supervision;
pub mod task;
pub mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
