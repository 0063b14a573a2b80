//! Fakes behind the ports, for tests of the pipeline without a server or a library.
//!
//! A fake frame's payload is `<behaviour>:<id>`, `<behaviour>!<priority>:<id>` or
//! `<behaviour>!<priority>!<budget in ms>:<id>`; see [`Behaviour`].

mod fakes;
mod outcome;
mod snapshot;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
pub use fakes::fake_model;
use fakes::{Behaviours, FakeDecoder, FakeExtractor, FakeModel, FakeRunner, FakeSink};
pub use outcome::OutcomeBuilder;
pub use snapshot::assert_snapshot;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::breaker::{self, Circuits};
use crate::frame::{Envelope, Priority};
use crate::gather::{GatherRules, Needs, Receivers};
use crate::outcome::FailureCode;
use crate::pipeline::Ports;
use crate::ports::{Arrival, LoadedModel};
use crate::routing::{Generation, Models};

/// Behaviour of a fake frame: the word before the colon of its payload.
pub type Behaviour = &'static str;

/// Goes through.
pub const GOOD: Behaviour = "good";
/// Goes through, and is remembered under its id, as far as a `#`.
pub const CACHED: Behaviour = "cached";
/// The same; its features take until [`Fakes::gate`] is opened.
pub const CACHED_HELD: Behaviour = "cached-held";
/// The same; then the extractor panics.
pub const CACHED_HELD_PANICS: Behaviour = "cached-held-panics";
/// The same; then every run with it fails.
pub const CACHED_HELD_POISON: Behaviour = "cached-held-poison";
/// As [`CACHED`]; its run lasts until [`Fakes::gate`] is opened.
pub const CACHED_SLOW: Behaviour = "cached-slow";
/// Cannot be decoded.
pub const INVALID: Behaviour = "invalid";
/// The decoder panics.
pub const DECODER_PANICS: Behaviour = "decoder-panics";
/// The extractor panics.
pub const EXTRACTOR_PANICS: Behaviour = "extractor-panics";
/// Its features take until [`Fakes::gate`] is opened.
pub const SLOW_FEATURES: Behaviour = "slow-features";
/// Every run with it fails.
pub const POISON: Behaviour = "poison";
/// The runner panics.
pub const RUNNER_PANICS: Behaviour = "runner-panics";
/// Its run lasts until [`Fakes::gate`] is opened.
pub const SLOW: Behaviour = "slow";
/// Its run lasts until [`Fakes::gate`] is opened, and ignores cancellation.
pub const STUCK: Behaviour = "stuck";
/// Goes through; its run is expected to take an hour.
pub const COSTLY: Behaviour = "costly";
/// Is gathered with the other frames of the session in its envelope: see [`session_rules`].
pub const GATHERED: Behaviour = "gathered";
/// The same; the run of its session lasts until [`Fakes::gate`] is opened.
pub const GATHERED_SLOW: Behaviour = "gathered-slow";
/// The sink panics, each time.
pub const SINK_PANICS: Behaviour = "sink-panics";

/// How the fake model of gathered frames gathers.
pub fn session_rules() -> GatherRules {
    GatherRules {
        receivers: Receivers::Any(3),
        window: Duration::from_millis(200),
        min_receivers: 2,
        needs: Needs::default(),
    }
}

/// The test's side of the ports.
pub struct Fakes {
    arrivals: Option<mpsc::UnboundedSender<Arrival>>,
    /// The published outcomes in order: the id of the frame, and the code where it failed.
    pub published: mpsc::UnboundedReceiver<(String, Option<FailureCode>)>,
    /// The sizes of the batches that were run.
    pub runs: Arc<Mutex<Vec<usize>>>,
    /// How many frames were given to an extractor.
    pub frames_extracted: Arc<AtomicU64>,
    /// How many frames were given to a runner.
    pub frames_run: Arc<AtomicU64>,
    /// How many predictions came without a run of their own.
    pub hits: Arc<AtomicU64>,
    /// The versions of the models that answered, in the order of publication.
    pub versions: Arc<Mutex<Vec<String>>>,
    /// Reasons of abandoned outcomes.
    pub abandoned: Arc<Mutex<Vec<&'static str>>>,
    /// Lets slow runs and held features go on.
    pub gate: watch::Sender<bool>,
}

impl Fakes {
    /// Ports with fakes behind them, and the other side.
    pub fn new(budget: Duration, breaker: breaker::Config) -> (Ports, Self) {
        let circuits = Circuits::new(breaker);
        let gathered = FakeModel::new(GATHERED, "1", Duration::ZERO).gathering(session_rules());
        let models: Vec<Arc<dyn LoadedModel>> = vec![
            fake_model("fake", "1"),
            Arc::new(FakeModel::new(COSTLY, "1", Duration::from_secs(3600))),
            Arc::new(gathered),
        ];
        let models = Models::new(Generation::new("fake", models, &[], Vec::new(), &circuits));
        let behaviours = Arc::<Behaviours>::default();
        let (arrivals, mut arriving) = mpsc::unbounded_channel();
        let (publishing, published) = mpsc::unbounded_channel();
        let (gate, abandoned) = (watch::Sender::new(false), Arc::<Mutex<Vec<_>>>::default());
        let versions = Arc::<Mutex<Vec<String>>>::default();
        let (frames_extracted, hits) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (runs, frames_run) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::<AtomicU64>::default());
        let runner = {
            let (runs, frames_run, gate) = (Arc::clone(&runs), Arc::clone(&frames_run), gate.subscribe());
            move || FakeRunner {
                runs: Arc::clone(&runs),
                frames_run: Arc::clone(&frames_run),
                gate: gate.clone(),
                canceller: Arc::default(),
            }
        };
        let ports = Ports {
            source: Box::pin(futures::stream::poll_fn(move |context| arriving.poll_recv(context))),
            decoder: Arc::new(FakeDecoder { budget, behaviours: Arc::clone(&behaviours) }),
            models,
            circuits,
            extractors: {
                let (gate, frames_extracted) = (gate.subscribe(), Arc::clone(&frames_extracted));
                Arc::new(move || {
                    Box::new(FakeExtractor {
                        gate: gate.clone(),
                        frames_extracted: Arc::clone(&frames_extracted),
                        behaviours: Arc::clone(&behaviours),
                    })
                })
            },
            runners: Arc::new(move || Box::new(runner())),
            sink: Arc::new(FakeSink {
                published: publishing,
                hits: Arc::clone(&hits),
                versions: Arc::clone(&versions),
                abandoned: Arc::clone(&abandoned),
            }),
            shared_cache: None,
        };
        (
            ports,
            Self {
                arrivals: Some(arrivals),
                published,
                runs,
                frames_extracted,
                frames_run,
                hits,
                versions,
                abandoned,
                gate,
            },
        )
    }

    /// Lets a frame arrive.
    pub fn send(&self, behaviour: Behaviour, id: impl std::fmt::Display) {
        self.send_from("", Priority::Normal, behaviour, id);
    }

    /// Lets a frame of a source arrive, as urgent as this.
    pub fn send_from(
        &self,
        source: &str,
        priority: Priority,
        behaviour: Behaviour,
        id: impl std::fmt::Display,
    ) {
        if let Some(arrivals) = &self.arrivals {
            let payload = Bytes::from(format!("{behaviour}!{}:{id}", priority as u8));
            let envelope = Envelope { source: source.to_owned(), ..Envelope::default() };
            let _ = arrivals.send(Arrival {
                payload,
                envelope,
                origin: None,
                received_at: Instant::now(),
                refused: None,
            });
        }
    }

    /// Lets a frame of a session arrive.
    pub fn send_in_session(
        &self,
        session: &str,
        source: &str,
        behaviour: Behaviour,
        id: impl std::fmt::Display,
    ) {
        let envelope = Envelope {
            source: source.to_owned(),
            session_id: Some(session.to_owned()),
            ..Envelope::default()
        };
        self.arrive(Arrival {
            payload: Bytes::from(format!("{behaviour}:{id}")),
            envelope,
            origin: None,
            received_at: Instant::now(),
            refused: None,
        });
    }

    /// Lets a frame arrive that has so long.
    pub fn send_with_budget(
        &self,
        priority: Priority,
        budget_ms: u64,
        behaviour: Behaviour,
        id: impl std::fmt::Display,
    ) {
        if let Some(arrivals) = &self.arrivals {
            let payload = Bytes::from(format!("{behaviour}!{}!{budget_ms}:{id}", priority as u8));
            let _ = arrivals.send(Arrival {
                payload,
                envelope: Envelope::default(),
                origin: None,
                received_at: Instant::now(),
                refused: None,
            });
        }
    }

    /// Lets this frame arrive.
    pub fn arrive(&self, arrival: Arrival) {
        if let Some(arrivals) = &self.arrivals {
            let _ = arrivals.send(arrival);
        }
    }

    /// Ends the source.
    pub fn stop(&mut self) {
        self.arrivals = None;
    }

    /// The next `count` outcomes in order of publication; panics after ten seconds without one.
    pub async fn outcomes(&mut self, count: usize) -> Vec<(String, Option<FailureCode>)> {
        let mut outcomes = Vec::with_capacity(count);
        while outcomes.len() < count {
            match tokio::time::timeout(Duration::from_secs(10), self.published.recv()).await {
                Ok(Some(outcome)) => outcomes.push(outcome),
                _ => panic!("{} of {count} outcomes came: {outcomes:?}", outcomes.len()),
            }
        }
        outcomes
    }
}
