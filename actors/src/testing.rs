//! Fakes behind the ports, for tests of the pipeline without a server or a library.
//!
//! A fake frame's payload is `<behaviour>:<id>`, `<behaviour>!<priority>:<id>` or
//! `<behaviour>!<priority>!<budget in ms>:<id>`; see [`Behaviour`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use sferic_samples::Datatype;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::account::ledger::End;
use crate::breaker::{self, Circuits, SharedCircuit};
use crate::frame::{Envelope, FrameInfo, IqSamples, ModelId, Priority, Tensor};
use crate::outcome::{Answer, Failure, FailureCode, Label, Outcome, PublishError};
use crate::pipeline::Ports;
use crate::ports::{
    Arrival, Decoded, Decoder, FeatureWorker, OutcomeSink, Rejected, RunCanceller, RunError, Runner,
};

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
/// The sink panics, each time.
pub const SINK_PANICS: Behaviour = "sink-panics";

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
    /// Reasons of abandoned outcomes.
    pub abandoned: Arc<Mutex<Vec<&'static str>>>,
    /// Lets slow runs and held features go on.
    pub gate: watch::Sender<bool>,
}

impl Fakes {
    /// Ports with fakes behind them, and the other side.
    pub fn new(budget: Duration, breaker: breaker::Config) -> (Ports, Self) {
        let circuits = Circuits::new(breaker);
        let model = Arc::new(ModelId { name: "fake".into(), version: "1".into(), digest: String::new() });
        let (arrivals, mut arriving) = mpsc::unbounded_channel();
        let (publishing, published) = mpsc::unbounded_channel();
        let (gate, abandoned) = (watch::Sender::new(false), Arc::<Mutex<Vec<_>>>::default());
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
            decoder: Arc::new(FakeDecoder { budget, circuit: circuits.of(&model) }),
            circuits,
            extractors: {
                let (gate, frames_extracted) = (gate.subscribe(), Arc::clone(&frames_extracted));
                Arc::new(move || {
                    Box::new(FakeExtractor {
                        gate: gate.clone(),
                        frames_extracted: Arc::clone(&frames_extracted),
                    })
                })
            },
            runners: Arc::new(move || Box::new(runner())),
            sink: Arc::new(FakeSink {
                published: publishing,
                hits: Arc::clone(&hits),
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
            let _ = arrivals.send(Arrival { payload, envelope, origin: None, received_at: Instant::now() });
        }
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
            });
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

fn split(text: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(text).into_owned();
    let (how, id) = text.split_once(':').unwrap_or(("", &text));
    (how.split('!').next().unwrap_or(how).to_owned(), id.to_owned())
}

fn priority(text: &[u8]) -> Priority {
    let level = text.iter().skip_while(|&&byte| byte != b'!').nth(1);
    match level {
        Some(b'0') => Priority::Critical,
        Some(b'1') => Priority::High,
        Some(b'3') => Priority::Low,
        _ => Priority::Normal,
    }
}

fn budget(text: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(text);
    let ms = text.split(':').next()?.split('!').nth(2)?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

struct FakeDecoder {
    budget: Duration,
    circuit: Arc<SharedCircuit>,
}

impl Decoder for FakeDecoder {
    fn decode(&self, payload: &Bytes, envelope: &Envelope) -> Result<Decoded, Rejected> {
        let info = self.identify(payload, envelope);
        let (behaviour, id) = split(payload);
        assert_ne!(behaviour, DECODER_PANICS, "as asked");
        if behaviour == INVALID {
            return Err(Rejected { info, failure: Failure::new(FailureCode::InvalidFrame, "as asked") });
        }
        let mut key = [0; 32];
        let equal = id.split('#').next().unwrap_or_default();
        key[..equal.len().min(32)].copy_from_slice(&equal.as_bytes()[..equal.len().min(32)]);
        Ok(Decoded {
            info,
            samples: IqSamples {
                bytes: payload.clone(),
                datatype: Datatype::Ci8,
                channels: 1,
                sample_rate: None,
            },
            model: Arc::clone(self.circuit.model()),
            circuit_permit: self.circuit.admit(),
            max_batch: usize::MAX,
            expected_run: if behaviour == COSTLY { Duration::from_secs(3600) } else { Duration::ZERO },
            budget: budget(payload).unwrap_or(self.budget),
            priority: priority(payload),
            cache_key: behaviour.starts_with(CACHED).then_some(key),
        })
    }

    fn identify(&self, payload: &Bytes, _: &Envelope) -> FrameInfo {
        let session_id = Some(split(payload).0);
        FrameInfo { frame_id: split(payload).1, session_id, ..FrameInfo::default() }
    }
}

struct FakeExtractor {
    gate: watch::Receiver<bool>,
    frames_extracted: Arc<AtomicU64>,
}

/// The first value of a fake tensor says what its run does.
const BEHAVIOURS: [Behaviour; 5] = [GOOD, POISON, RUNNER_PANICS, SLOW, STUCK];

impl FeatureWorker for FakeExtractor {
    fn extract(&mut self, _: &Arc<ModelId>, samples: &IqSamples) -> Result<Tensor, Failure> {
        let (behaviour, _) = split(&samples.bytes);
        self.frames_extracted.fetch_add(1, Ordering::Relaxed);
        let behaviour = behaviour.strip_prefix("cached-").unwrap_or(&behaviour);
        let behaviour = match behaviour.strip_prefix("held") {
            None => behaviour,
            Some(then) => {
                let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
                assert_ne!(then, "-panics", "as asked");
                then.trim_start_matches('-')
            }
        };
        assert_ne!(behaviour, EXTRACTOR_PANICS, "as asked");
        if behaviour == SLOW_FEATURES {
            let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
        }
        let index = BEHAVIOURS.iter().position(|&known| known == behaviour).unwrap_or(0);
        Ok(Tensor { shape: [1, 1, 1], data: vec![index as f32].into() })
    }
}

struct FakeRunner {
    runs: Arc<Mutex<Vec<usize>>>,
    frames_run: Arc<AtomicU64>,
    gate: watch::Receiver<bool>,
    canceller: Arc<FakeCanceller>,
}

#[derive(Default)]
struct FakeCanceller(watch::Sender<bool>);

impl RunCanceller for FakeCanceller {
    fn cancel(&self) {
        self.0.send_replace(true);
    }

    fn reset(&self) {
        self.0.send_replace(false);
    }
}

impl Runner for FakeRunner {
    fn run(&mut self, _: &ModelId, batch: &[&Tensor]) -> Result<Vec<Result<Answer, Failure>>, RunError> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push(batch.len());
        self.frames_run.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for tensor in batch {
            match BEHAVIOURS[tensor.data[0] as usize] {
                POISON => return Err(RunError("as asked".into())),
                RUNNER_PANICS => panic!("as asked"),
                STUCK => {
                    let _ = futures::executor::block_on(self.gate.wait_for(|&open| open));
                }
                SLOW => {
                    let (mut gate, mut canceller) = (self.gate.clone(), self.canceller.0.subscribe());
                    let (opened, cancelled) = (
                        gate.wait_for(|&open| open).boxed(),
                        canceller.wait_for(|&cancelled| cancelled).boxed(),
                    );
                    if let futures::future::Either::Right(_) =
                        futures::executor::block_on(futures::future::select(opened, cancelled))
                    {
                        return Err(RunError("cancelled".into()));
                    }
                }
                _ => {}
            }
        }
        Ok(batch
            .iter()
            .map(|_| Ok(Answer::Classification(vec![Label { label: "fake".into(), score: Some(1.0) }])))
            .collect())
    }

    fn canceller(&self) -> Arc<dyn RunCanceller> {
        Arc::<FakeCanceller>::clone(&self.canceller)
    }
}

struct FakeSink {
    published: mpsc::UnboundedSender<(String, Option<FailureCode>)>,
    hits: Arc<AtomicU64>,
    abandoned: Arc<Mutex<Vec<&'static str>>>,
}

impl OutcomeSink for FakeSink {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move { outcomes.iter_mut().map(|outcome| Ok(self.publish_one(outcome))).collect() }.boxed()
    }

    fn abandoned(&self, _: &Outcome, publish_error: &PublishError) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(publish_error.reason);
    }
}

impl FakeSink {
    fn publish_one(&self, outcome: &mut Outcome) -> End {
        let code = outcome.result.as_ref().err().map(|failure| failure.code);
        let end = if code.is_some() { End::Failure } else { End::Prediction };
        assert_ne!(outcome.info.session_id.as_deref(), Some(SINK_PANICS), "as asked");
        // As a sink has to: what was published before a crash is not published again.
        if std::mem::replace(&mut outcome.published.subject, true) {
            return end;
        }
        if outcome.result.as_ref().is_ok_and(|prediction| prediction.cache_hit) {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        let _ = self.published.send((outcome.info.frame_id.clone(), code));
        end
    }
}
