//! The real pipeline with the real models; only broker and features are left out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use sferic_actors::account::ledger::End;
use sferic_actors::breaker::{self, Circuits};
use sferic_actors::frame::{Envelope, Priority};
use sferic_actors::job::{Job, JobParts, PreparedFrame, WaitingFrame};
use sferic_actors::outcome::{FailureCode, Outcome, PublishError};
use sferic_actors::pipeline::{Config, Pipeline, Ports, SharedState};
use sferic_actors::ports::{Arrival, LoadedModel, OutcomeSink};
use sferic_actors::reply::{Responder, Unanswered};
use sferic_actors::routing::{Generation, Models, Sender};
use sferic_actors::{cache, gather, queue, supervision};
use sferic_bench::statistics::at;
use sferic_onnx::{Model, runners};
use sferic_samples::BufferPool;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::stand_ins::{AcceptsAll, Fixed, Prepared, Unwrapping, samples};

/// A pipeline and the two ends of it.
pub struct Pool {
    pipeline: Pipeline,
    arrivals: mpsc::UnboundedSender<Arrival>,
    published: Arc<Published>,
    budget: Duration,
    feed: Feed,
    /// Frames given to the pool at once: a quarter of their budget's work, 16 to 64 of them.
    outstanding: usize,
}

/// Gives the pool frames as a preprocess worker would.
#[derive(Clone)]
struct Feed {
    shared_state: Arc<SharedState>,
    frame: Fixed,
    tensors: Prepared,
}

/// Counts of published outcomes.
struct Published {
    predictions: AtomicU64,
    failures: AtomicU64,
    /// One permit an outcome.
    outcomes: Semaphore,
    /// Of predictions, and of frames whose deadline passed, since it was last taken.
    latencies_ms: std::sync::Mutex<Vec<f64>>,
    /// Where there is one, the next frame follows on an outcome.
    refill: std::sync::Mutex<Option<Feed>>,
}

impl Pool {
    pub async fn start(
        model: &Arc<Model>,
        shape: [usize; 3],
        budget: Duration,
        sessions: usize,
    ) -> anyhow::Result<Self> {
        let (arrivals, mut arriving) = mpsc::unbounded_channel();
        let published = Arc::new(Published {
            predictions: AtomicU64::default(),
            failures: AtomicU64::default(),
            outcomes: Semaphore::new(0),
            latencies_ms: std::sync::Mutex::default(),
            refill: std::sync::Mutex::default(),
        });
        let circuits = Circuits::new(breaker::Config::default());
        let served: Arc<dyn LoadedModel> = Arc::new(AcceptsAll(Arc::clone(model)));
        let generation = Generation::new(&model.id().name, vec![served], &[], Vec::new(), &circuits);
        let models = Models::new(generation);
        let tensors = Prepared { buffers: BufferPool::new(Duration::from_secs(300), 100 << 20), shape };
        let ports = Ports {
            source: Box::pin(futures::stream::poll_fn(move |context| arriving.poll_recv(context))),
            decoder: Arc::new(Fixed { budget }),
            models,
            circuits,
            extractors: Arc::new({
                let tensors = tensors.clone();
                move || Box::new(tensors.clone())
            }),
            runners: {
                let runners = runners();
                Arc::new(move || Box::new(Unwrapping(runners())))
            },
            sink: Arc::new(Sink(Arc::clone(&published))),
            shared_cache: None,
        };
        let config = Config {
            in_flight_frames: 256,
            in_flight_bytes: 256 << 20,
            per_source_share: 1.0,
            workers: sessions,
            pool: queue::Config { sessions, ..queue::Config::default() },
            cache: cache::Config::default(),
            gather: gather::Config::default(),
            supervision: supervision::Config::default(),
        };
        let pipeline = Pipeline::start(config, ports).await?;
        let feed =
            Feed { shared_state: Arc::clone(pipeline.shared_state()), frame: Fixed { budget }, tensors };
        let quarter = budget.as_secs_f64() / 4.0 * sessions as f64 / model.frame_cost().as_secs_f64();
        Ok(Self {
            pipeline,
            arrivals,
            published,
            budget,
            feed,
            outstanding: (quarter as usize).clamp(16, 64),
        })
    }

    /// Predictions a second with always so many prepared frames given to the pool.
    pub async fn closed_loop(&self, time: Duration) -> anyhow::Result<f64> {
        self.refill(Some(self.feed.clone()));
        for _ in 0..self.outstanding {
            self.feed.enqueue()?;
        }
        let (began, before) = (Instant::now(), self.published.predictions.load(Relaxed));
        tokio::time::sleep(time).await;
        let rate = (self.published.predictions.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        self.refill(None);
        self.feed.shared_state.ledger.idle().await;
        self.published.outcomes.forget_permits(usize::MAX);
        Ok(rate)
    }

    fn refill(&self, feed: Option<Feed>) {
        *self.published.refill.lock().unwrap_or_else(PoisonError::into_inner) = feed;
    }

    /// Predictions a second through the whole pipeline, with always 32 frames in flight.
    pub async fn peak(&self, time: Duration) -> anyhow::Result<f64> {
        for _ in 0..32 {
            self.send()?;
        }
        let (began, mut frames) = (Instant::now(), 0);
        while began.elapsed() < time {
            self.outcome().await?;
            self.send()?;
            frames += 1;
        }
        let rate = f64::from(frames) / began.elapsed().as_secs_f64();
        for _ in 0..32 {
            self.outcome().await?;
        }
        Ok(rate)
    }

    /// Three times `peak` frames a second for this long, whatever comes out; then one at a time until their
    /// latency is as before.
    pub async fn flood(&self, peak: f64, time: Duration) -> anyhow::Result<Value> {
        let calm = self.calm_latency_ms().await?;
        self.take_latencies();
        let (before, failed_before) =
            (self.published.predictions.load(Relaxed), self.published.failures.load(Relaxed));
        let (began, mut sent, mut rss) = (Instant::now(), 0u64, None);
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while began.elapsed() < time {
            tick.tick().await;
            let due = (began.elapsed().as_secs_f64() * 3.0 * peak) as u64;
            for _ in sent..due {
                self.send()?;
            }
            sent = due.max(sent);
            if rss.is_none() && began.elapsed() > time / 6 {
                rss = Some(resident_mib()?);
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let served = self.published.predictions.load(Relaxed) - before;
        let (ended, late_rss) = (Instant::now(), resident_mib()?);
        let served_ms = self.take_latencies();
        while self.published.predictions.load(Relaxed) + self.published.failures.load(Relaxed)
            - before
            - failed_before
            < sent
        {
            self.outcome().await?;
        }
        while self.calm_latency_ms().await? > 2.0 * calm {}
        let back_after = ended.elapsed();
        // Those of the flood were not waited for one by one.
        self.published.outcomes.forget_permits(usize::MAX);
        let stats = self.pipeline.shared_state().queue.stats();
        Ok(json!({
            "offered_per_second": sent as f64 / seconds,
            "served_per_second": served as f64 / seconds,
            "goodput_of_peak": served as f64 / seconds / peak,
            "served_ms": {"p50": at(&served_ms, 0.5), "p99": at(&served_ms, 0.99)},
            "budget_ms": self.budget.as_millis() as u64,
            "rss_mib": [rss, Some(late_rss)],
            "back_after_ms": back_after.as_secs_f64() * 1e3,
            "pool": stats,
        }))
    }

    /// Milliseconds to the answer of each of so many frames, one after the other.
    pub async fn one_by_one(&self, frames: usize) -> anyhow::Result<Vec<f64>> {
        for _ in 0..frames {
            self.send()?;
            self.outcome().await?;
        }
        Ok(self.take_latencies())
    }

    pub async fn stop(self) {
        drop(self.arrivals);
        self.pipeline.shut_down(Duration::from_secs(5)).await;
    }

    /// The median of a few frames one at a time.
    async fn calm_latency_ms(&self) -> anyhow::Result<f64> {
        self.published.outcomes.forget_permits(usize::MAX);
        self.take_latencies();
        for _ in 0..9 {
            self.send()?;
            self.outcome().await?;
        }
        Ok(at(&self.take_latencies(), 0.5))
    }

    fn take_latencies(&self) -> Vec<f64> {
        self.published
            .latencies_ms
            .lock()
            .map(|mut latencies| std::mem::take(&mut *latencies))
            .unwrap_or_default()
    }

    fn send(&self) -> anyhow::Result<()> {
        let arrival = Arrival {
            payload: Bytes::from_static(b"frame"),
            envelope: Envelope::default(),
            origin: None,
            received_at: Instant::now(),
            refused: None,
        };
        self.arrivals.send(arrival).context("the pipeline has ended")
    }

    async fn outcome(&self) -> anyhow::Result<()> {
        let published =
            tokio::time::timeout(Duration::from_secs(10), self.published.outcomes.acquire()).await;
        published.context("no outcome within ten seconds")??.forget();
        Ok(())
    }
}

impl Feed {
    fn enqueue(&self) -> anyhow::Result<()> {
        let shared_state = &self.shared_state;
        let received_at = Instant::now();
        let permit = shared_state.admission.admit("", 0)?;
        let (ticket, place) = (shared_state.ledger.open(), Some(Arc::clone(&permit.frame)));
        let unanswered = Unanswered::new(
            Envelope::default(),
            None,
            received_at,
            ticket,
            place,
            Arc::clone(&shared_state.outcomes),
        );
        let budget = self.frame.budget;
        let routed = shared_state
            .models
            .current()
            .route(None, Sender::default(), &samples(Bytes::new()).into())
            .map_err(|failure| anyhow::anyhow!(failure.message))?;
        let responder = Responder::new(unanswered, budget);
        shared_state.deadlines.watch(received_at + budget, &responder);
        let job =
            Job::new(JobParts { responder, routed, received_at, budget, priority: Priority::Normal, permit });
        let (inputs, prepared_at) = (self.tensors.tensor().into(), Instant::now());
        shared_state.queue.push(WaitingFrame::Prepared(PreparedFrame { job, inputs, prepared_at }));
        Ok(())
    }
}

struct Sink(Arc<Published>);

impl OutcomeSink for Sink {
    fn publish<'a>(&'a self, outcomes: &'a mut [Outcome]) -> BoxFuture<'a, Vec<Result<End, PublishError>>> {
        async move { outcomes.iter().map(|outcome| Ok(self.count(outcome))).collect() }.boxed()
    }
}

impl Sink {
    fn count(&self, outcome: &Outcome) -> End {
        let end = if outcome.result.is_ok() { End::Prediction } else { End::Failure };
        let count = if end == End::Prediction { &self.0.predictions } else { &self.0.failures };
        count.fetch_add(1, Relaxed);
        let was_begun =
            outcome.result.as_ref().err().is_none_or(|failure| failure.code == FailureCode::DeadlineExceeded);
        if was_begun && let Ok(mut latencies) = self.0.latencies_ms.lock() {
            latencies.push((outcome.settled_at - outcome.received_at).as_secs_f64() * 1e3);
        }
        self.0.outcomes.add_permits(1);
        if let Some(feed) = &*self.0.refill.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that is refused is missing from then on, and from the rate.
            let _ = feed.enqueue();
        }
        end
    }
}

/// From Linux's /proc.
fn resident_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next());
    Ok(rss.context("no VmRSS")?.parse::<f64>()? / 1024.0)
}
