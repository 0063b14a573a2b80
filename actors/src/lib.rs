//! The actors of sferic, their messages, their supervision, and the *ports* to the outside.
//!
//! ```text
//! NATS ─► Ingest ─► Cache ─miss─► Preprocess ─► ModelPool ─► sessions (one thread each)
//!           │ permit  │ hit                        │  ▲           │
//!           └ refused ┴──────────► Publish ◄───────┘  └ circuit ◄─┘ outcomes
//! ```
//!
//! Nothing here names a broker, an inference library or an FFT: those stand behind [`ports`] and are
//! implemented by the root package. So the tests of this crate need neither a server nor a library.
//!
//! State that must survive an actor lives outside it, in [`pipeline::SharedState`]: the ledger, the permits,
//! the outcomes not yet published, the queue the sessions pull from, the circuits, the cache's entries.

pub mod admission;
pub mod breaker;
pub mod cache;
pub mod deadlines;
pub mod flight;
pub mod frame;
pub mod gaps;
pub mod ingest;
pub mod job;
pub mod ledger;
pub mod model_pool;
pub mod outcome;
pub mod pipeline;
pub mod ports;
pub mod preprocess;
pub mod priority;
pub mod publish;
pub mod responder;
pub mod supervision;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trail;
