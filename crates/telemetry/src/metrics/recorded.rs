//! Counts of published and lost outcomes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use sferic_actors::account::ledger::End;
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::PublishError;
use sferic_actors::outcome::{FailureCode, Outcome, ShedReason};
use tokio::time::Instant;

use super::catalogue as metrics;
use super::family::Reading;
use super::histogram::{Buckets, Histogram};
use crate::stages::{Stage, durations};

/// Label of the sources beyond `telemetry.max_sources`.
const OTHER: &str = "other";

/// Counts and histograms of all outcomes. One lock for all, because only the publisher records.
#[derive(Debug)]
pub struct Recorded(Mutex<RecordedCounts>);

#[derive(Debug, Default)]
struct RecordedCounts {
    predictions: u64,
    failures: [u64; FailureCode::ALL.len()],
    whole: [Histogram; 2],
    stages: [Histogram; Stage::ALL.len()],
    models: Vec<(Arc<ModelId>, ModelCounts)>,
    shed: BySource<{ ShedReason::ALL.len() }>,
    lost: HashMap<&'static str, BySource<1>>,
    payload_bytes: u64,
    samples: u64,
    max_sources: usize,
}

#[derive(Debug, Default)]
struct ModelCounts {
    predictions: u64,
    failures: u64,
    inference: Histogram,
    times: ModelTimes,
}

/// Frames of a version and their times from arrival to publication.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ModelTimes {
    /// Predictions with a run of their own.
    pub computed: FrameTimes,
    /// Those of them in each stage, in the order of [`Stage::ALL`].
    pub stages: [Duration; Stage::ALL.len()],
    /// Predictions without a run of their own.
    pub cached: FrameTimes,
    /// Failures.
    pub failed: FrameTimes,
}

/// How many frames, and their time together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FrameTimes {
    /// How many.
    pub frames: u64,
    /// Their time.
    pub time: Duration,
}

impl FrameTimes {
    fn add(&mut self, duration: Duration) {
        self.frames += 1;
        self.time += duration;
    }
}

/// What was counted of one version of a model.
#[derive(Debug)]
pub struct ModelRecord {
    /// Its predictions.
    pub predictions: u64,
    /// Frames that failed with it.
    pub failures: u64,
    /// Times of its runs, seconds.
    pub inference: Buckets,
    /// How long its frames took.
    pub times: ModelTimes,
}

/// Counts by source; sources beyond the maximum share one entry.
#[derive(Debug)]
struct BySource<const N: usize>(HashMap<String, [u64; N]>);

impl<const N: usize> Default for BySource<N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<const N: usize> BySource<N> {
    fn count(&mut self, source: &str, index: usize, max_sources: usize) {
        self.add(source, index, 1, max_sources);
    }

    fn add(&mut self, source: &str, index: usize, frames: u64, max_sources: usize) {
        // A known source costs no allocation, because under overload this runs for every frame.
        if let Some(counts) = self.0.get_mut(source) {
            counts[index] += frames;
            return;
        }
        let source = if self.0.len() < max_sources { source } else { OTHER };
        self.0.entry(source.to_owned()).or_insert([0; N])[index] += frames;
    }
}

impl Recorded {
    /// No counts yet. At most `max_sources` sources are distinguished.
    pub fn new(max_sources: usize) -> Self {
        Self(Mutex::new(RecordedCounts { max_sources, ..RecordedCounts::default() }))
    }

    /// Counts a published outcome; `of` is its trace and span, where they are kept.
    pub fn published(
        &self,
        outcome: &Outcome,
        end: End,
        published_at: Instant,
        of: Option<(TraceId, SpanId)>,
    ) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        let time = outcome.timestamp;
        counts.payload_bytes += outcome.trail.payload_bytes as u64;
        counts.samples += outcome.trail.samples as u64;
        match &outcome.result {
            Ok(_) => counts.predictions += 1,
            Err(failure) => {
                counts.failures[failure.code as usize] += 1;
                if let Some(shed) = failure.shed {
                    counts.shed.count(&outcome.envelope.source, shed as usize, counts.max_sources);
                }
            }
        }
        let whole = published_at.saturating_duration_since(outcome.received_at);
        counts.whole[usize::from(end == End::Failure)].record(whole.as_secs_f64(), of, time);
        let durations = durations(outcome, published_at);
        for (histogram, duration) in counts.stages.iter_mut().zip(durations) {
            if let Some(duration) = duration {
                histogram.record(duration.as_secs_f64(), of, time);
            }
        }
        if let Some(model) = &outcome.trail.model {
            let known = counts.models.iter().position(|(id, _)| {
                Arc::ptr_eq(id, model) || (&id.name, &id.version) == (&model.name, &model.version)
            });
            let at = known.unwrap_or(counts.models.len());
            if known.is_none() {
                counts.models.push((Arc::clone(model), ModelCounts::default()));
            }
            let (_, model) = &mut counts.models[at];
            match &outcome.result {
                Ok(_) => model.predictions += 1,
                Err(_) => model.failures += 1,
            }
            match &outcome.result {
                Ok(prediction) if prediction.cache_hit => model.times.cached.add(whole),
                Ok(_) => {
                    model.times.computed.add(whole);
                    let stages = model.times.stages.iter_mut().zip(durations);
                    stages.for_each(|(stage, duration)| *stage += duration.unwrap_or_default());
                }
                Err(_) => model.times.failed.add(whole),
            }
            if let Some(inference) = durations[Stage::Inference as usize] {
                model.inference.record(inference.as_secs_f64(), of, time);
            }
        }
    }

    /// Counts an outcome that could not be published.
    pub fn lost(&self, outcome: &Outcome, publish_error: &PublishError) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let max_sources = counts.max_sources;
        counts.lost.entry(publish_error.reason).or_default().count(&outcome.envelope.source, 0, max_sources);
    }

    /// Counts frames that never came: a `gap` in their source's numbers, or passed over by their stream,
    /// which does not say whose they were.
    pub fn missed(&self, reason: &'static str, source: &str, frames: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let max_sources = counts.max_sources;
        counts.lost.entry(reason).or_default().add(source, 0, frames, max_sources);
    }

    /// The numbers of predictions and of failures, and the times of predictions from arrival to publication,
    /// seconds.
    pub fn ended(&self) -> (u64, u64, Buckets) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.predictions, counts.failures.iter().sum(), counts.whole[0].read())
    }

    /// What was counted of one version of a model.
    pub fn of_model(&self, name: &str, version: &str) -> ModelRecord {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = counts.models.iter().find(|(id, _)| (&*id.name, &*id.version) == (name, version));
        let none = ModelCounts::default();
        let counts = found.map_or(&none, |(_, counts)| counts);
        let ModelCounts { predictions, failures, inference, times } = counts;
        let (predictions, failures) = (*predictions, *failures);
        ModelRecord { predictions, failures, inference: inference.read(), times: *times }
    }

    /// Adds the counts to a reading.
    pub fn read(&self, reading: &mut Reading) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.count(&metrics::FRAMES, ["prediction"], counts.predictions);
        for code in FailureCode::ALL {
            reading.count(&metrics::FRAMES, [code.as_str()], counts.failures[code as usize]);
        }
        for (source, by_reason) in &counts.shed.0 {
            for reason in ShedReason::ALL {
                reading.count(&metrics::FRAMES_SHED, [reason.as_str(), source], by_reason[reason as usize]);
            }
        }
        for (reason, by_source) in &counts.lost {
            for (source, [count]) in &by_source.0 {
                reading.count(&metrics::FRAMES_LOST, [reason, source], *count);
            }
        }
        for (outcome, histogram) in ["prediction", "failure"].into_iter().zip(&counts.whole) {
            reading.buckets(&metrics::FRAME_DURATION, [outcome], histogram.read());
        }
        for (stage, histogram) in Stage::ALL.into_iter().zip(&counts.stages) {
            reading.buckets(&metrics::STAGE_DURATION, [stage.as_str()], histogram.read());
        }
        reading.count(&metrics::FRAME_PAYLOAD, [], counts.payload_bytes);
        reading.count(&metrics::FRAME_SAMPLES, [], counts.samples);
        for (id, model) in &counts.models {
            reading.count(&metrics::MODEL_FRAMES, [&id.name, &id.version, "prediction"], model.predictions);
            reading.count(&metrics::MODEL_FRAMES, [&id.name, &id.version, "failure"], model.failures);
        }
        for (id, model) in &counts.models {
            reading.buckets(&metrics::MODEL_INFERENCE, [&id.name, &id.version], model.inference.read());
        }
    }
}
