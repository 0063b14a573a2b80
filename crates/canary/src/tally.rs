//! What one version has done.

use std::time::Duration;

use serde::Serialize;
use sferic_actors::outcome::Answer;

use crate::latencies::Latencies;
use crate::score::{Truth, coverage, error, log_score};

/// Counts and sums of one version.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    predictions: u64,
    failures: u64,
    latencies: Latencies,
    /// Truths that came for its answers.
    truths: u64,
    error: f64,
    score: f64,
    covered: u64,
    /// Of answers with an ellipse: the sum of the probabilities that they promise.
    promised: f64,
    ellipses: u64,
}

/// A tally as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TallyView {
    /// Frames that it has answered.
    pub predictions: u64,
    /// Frames that ended in a failure with it.
    pub failures: u64,
    /// From arrival to answer, milliseconds; `None` before the first.
    pub p50_ms: Option<f64>,
    /// The same.
    pub p99_ms: Option<f64>,
    /// Answers whose truth is known.
    pub truths: u64,
    /// Their mean error: metres, or for classes the share of wrong ones.
    pub error: Option<f64>,
    /// Their mean logarithmic score, `-ln p(truth)`; less is better.
    pub score: Option<f64>,
    /// Share of their ellipses that cover the truth.
    pub coverage: Option<f64>,
    /// The share that should.
    pub promised_coverage: Option<f64>,
}

impl Tally {
    /// A frame that ended: after this time, which is not known of one from the cache, or with a failure.
    pub fn frame(&mut self, ended: Result<Option<Duration>, ()>) {
        match ended {
            Ok(latency) => {
                self.predictions += 1;
                if let Some(latency) = latency {
                    self.latencies.add(latency);
                }
            }
            Err(()) => self.failures += 1,
        }
    }

    /// The truth of an answer; returns its score.
    pub fn truth(&mut self, answer: &Answer, truth: &Truth) -> Option<f64> {
        let score = log_score(answer, truth)?;
        self.truths += 1;
        self.score += score;
        self.error += error(answer, truth).unwrap_or_default();
        if let Some((promised, is_covered)) = coverage(answer, truth) {
            self.ellipses += 1;
            self.promised += promised;
            self.covered += u64::from(is_covered);
        }
        Some(score)
    }

    /// Frames that have ended with it.
    pub fn frames(&self) -> u64 {
        self.predictions + self.failures
    }

    /// For people and programs.
    pub fn view(&self) -> TallyView {
        let ms = |quantile| self.latencies.quantile(quantile).map(|time| time.as_secs_f64() * 1e3);
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        TallyView {
            predictions: self.predictions,
            failures: self.failures,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            truths: self.truths,
            error: mean(self.error, self.truths),
            score: mean(self.score, self.truths),
            coverage: mean(self.covered as f64, self.ellipses),
            promised_coverage: mean(self.promised, self.ellipses),
        }
    }
}
