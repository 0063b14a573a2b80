//! Differences between two versions' answers to the same frames.

use std::time::Duration;

use serde::Serialize;
use sferic_actors::outcome::{Answer, Localization, NamedTensor};

use crate::evidence::Bets;
use crate::histogram::Histogram;
use crate::score::{Truth, coverage, error, log_score};

/// Least distance between two positions, metres; smaller ones count as this.
const LEAST_DISTANCE: f64 = 1e-3;

/// Sums over the frames that the active version and a shadow have both answered.
#[derive(Debug, Clone)]
pub struct Paired {
    frames: u64,
    failures: Pair<u64>,
    both: u64,
    equal: u64,
    compute: Pair<f64>,
    distances: Histogram,
    /// Positions of the shadow within the ellipse of the active version.
    inside: u64,
    /// Sum of the logarithms of the ratios of their sigmas.
    log_sigma_ratio: f64,
    labels: u64,
    same_label: u64,
    /// Sum of the differences of the score of the active version's best label.
    label_score: f64,
    tensors: u64,
    /// The largest difference between two of their numbers.
    tensor: f64,
    truths: u64,
    error: Pair<f64>,
    score: Pair<f64>,
    worse: Bets,
    better: Bets,
}

/// The same of both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pair<T> {
    /// Of the active version.
    pub active: T,
    /// Of the shadow.
    pub shadow: T,
}

impl<T> Pair<T> {
    fn map<U>(self, of: impl Fn(T) -> U) -> Pair<U> {
        Pair { active: of(self.active), shadow: of(self.shadow) }
    }
}

/// [`Paired`] as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedView {
    /// Frames that both have computed, well or not.
    pub frames: u64,
    /// Of these, those on which the model failed.
    pub failures: Pair<u64>,
    /// Share of the answers that are alike in every bit.
    pub equal: Option<f64>,
    /// Mean time of features and run, milliseconds: of the active version by the clock, of the shadow the
    /// processor time of its thread.
    pub compute_ms: Option<Pair<f64>>,
    /// Of positions.
    pub positions: Option<Positions>,
    /// Of classifications.
    pub labels: Option<Labels>,
    /// Of raw outputs: the largest difference between two of their numbers.
    pub largest_difference: Option<f64>,
    /// Where the truth is known.
    pub truth: Option<TruthView>,
}

/// Differences of positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Positions {
    /// Mean distance between them, metres.
    pub mean_m: f64,
    /// Its median.
    pub p50_m: f64,
    /// Its 95th percentile.
    pub p95_m: f64,
    /// Share of the shadow's positions within the active version's ellipse.
    pub inside: f64,
    /// Geometric mean of the shadow's sigmas over the active version's.
    pub sigma_ratio: f64,
}

/// Differences of classifications.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Labels {
    /// Share of the frames with the same best label.
    pub same: f64,
    /// Mean difference of the score of the active version's best label, without its sign.
    pub score_difference: f64,
}

/// What the truth says of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TruthView {
    /// Frames whose truth is known.
    pub frames: u64,
    /// Mean error: metres, or for classes the share of wrong ones.
    pub error: Pair<f64>,
    /// Mean logarithmic score, `-ln p(truth)`; less is better.
    pub score: Pair<f64>,
    /// Evidence that the shadow's score is worse, and that it is better: 1 says nothing, 20 is as rare as one
    /// in twenty where it is not, however often it is looked at.
    pub worse: f64,
    /// The same of better.
    pub better: f64,
}

impl Default for Paired {
    fn default() -> Self {
        Self {
            frames: 0,
            failures: Pair::default(),
            both: 0,
            equal: 0,
            compute: Pair::default(),
            distances: Histogram::new(LEAST_DISTANCE),
            inside: 0,
            log_sigma_ratio: 0.0,
            labels: 0,
            same_label: 0,
            label_score: 0.0,
            tensors: 0,
            tensor: 0.0,
            truths: 0,
            error: Pair::default(),
            score: Pair::default(),
            worse: Bets::default(),
            better: Bets::default(),
        }
    }
}

impl Paired {
    /// What both made of a frame, `None` where the model failed, and the time it took.
    pub fn frame(&mut self, answers: Pair<Option<&Answer>>, compute: Pair<Duration>) {
        self.frames += 1;
        self.failures.active += u64::from(answers.active.is_none());
        self.failures.shadow += u64::from(answers.shadow.is_none());
        let Pair { active: Some(active), shadow: Some(shadow) } = answers else { return };
        self.both += 1;
        self.compute.active += compute.active.as_secs_f64();
        self.compute.shadow += compute.shadow.as_secs_f64();
        self.equal += u64::from(active == shadow);
        match (active, shadow) {
            (Answer::Localization(to), Answer::Localization(at)) => self.positions(active, to, at),
            (Answer::Classification(labels), Answer::Classification(of_shadow)) => {
                let Some(best) = labels.first() else { return };
                self.labels += 1;
                let same = of_shadow.iter().find(|label| label.label == best.label);
                self.same_label +=
                    u64::from(of_shadow.first().map(|label| &label.label) == Some(&best.label));
                let score = |of: Option<f64>| of.unwrap_or(1.0);
                let of_same = same.map_or(0.0, |label| score(label.score));
                self.label_score += (score(best.score) - of_same).abs();
            }
            (Answer::Tensors(active), Answer::Tensors(shadow)) => {
                self.tensors += 1;
                self.tensor = self.tensor.max(difference(active, shadow));
            }
            _ => {}
        }
    }

    fn positions(&mut self, active: &Answer, to: &Localization, at: &Localization) {
        let place = Truth { position: Some(at.position), label: None };
        self.distances.add(error(active, &place).unwrap_or_default());
        self.inside += u64::from(coverage(active, &place).is_some_and(|(_, is_inside)| is_inside));
        let area = |of: &Localization| of.uncertainty.sigma_x * of.uncertainty.sigma_y;
        let log = (area(at) / area(to)).ln() / 2.0;
        self.log_sigma_ratio += if log.is_finite() { log } else { 0.0 };
    }

    /// The truth of a frame that both have answered. Only independent frames are evidence: the first of a
    /// session.
    pub fn truth(&mut self, answers: Pair<&Answer>, truth: &Truth, is_evidence: bool) {
        let scores = answers.map(|answer| log_score(answer, truth));
        let Pair { active: Some(active), shadow: Some(shadow) } = scores else { return };
        self.truths += 1;
        let errors = answers.map(|answer| error(answer, truth).unwrap_or_default());
        self.error.active += errors.active;
        self.error.shadow += errors.shadow;
        self.score.active += active;
        self.score.shadow += shadow;
        if is_evidence {
            // Antisymmetric, so that its mean is 0 where both are alike.
            let difference = ((shadow - active) / 2.0).tanh();
            self.worse.bet(difference);
            self.better.bet(-difference);
        }
    }

    /// For people and programs.
    pub fn view(&self) -> PairedView {
        let both = self.both;
        let share = |count: u64, of: u64| count as f64 / of as f64;
        let mean = |sum: f64, of: u64| sum / of as f64;
        let placed = self.distances.count();
        let quantile = |quantile| self.distances.quantile(quantile).unwrap_or_default();
        PairedView {
            frames: self.frames,
            failures: self.failures,
            equal: (both > 0).then(|| share(self.equal, both)),
            compute_ms: (both > 0).then(|| self.compute.map(|sum| mean(sum, both) * 1e3)),
            positions: self.distances.mean().map(|mean_m| Positions {
                mean_m,
                p50_m: quantile(0.5),
                p95_m: quantile(0.95),
                inside: share(self.inside, placed),
                sigma_ratio: mean(self.log_sigma_ratio, placed).exp(),
            }),
            labels: (self.labels > 0).then(|| Labels {
                same: share(self.same_label, self.labels),
                score_difference: mean(self.label_score, self.labels),
            }),
            largest_difference: (self.tensors > 0).then_some(self.tensor),
            truth: (self.truths > 0).then(|| TruthView {
                frames: self.truths,
                error: self.error.map(|sum| mean(sum, self.truths)),
                score: self.score.map(|sum| mean(sum, self.truths)),
                worse: self.worse.evidence(),
                better: self.better.evidence(),
            }),
        }
    }
}

/// The largest difference between two numbers of tensors of the same names and shapes; infinite where the
/// tensors are others, or of a type other than float32 and not alike.
fn difference(active: &[NamedTensor], shadow: &[NamedTensor]) -> f64 {
    let of = |active: &NamedTensor| {
        let shadow = shadow.iter().find(|shadow| shadow.name == active.name);
        let same = shadow.filter(|shadow| shadow.shape == active.shape && shadow.dtype == active.dtype);
        let Some(same) = same else { return f64::INFINITY };
        if same.data == active.data {
            return 0.0;
        }
        if active.dtype != "float32" {
            return f64::INFINITY;
        }
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap_or_default());
        let pairs = active.data.chunks_exact(4).zip(same.data.chunks_exact(4));
        let differences = pairs.map(|(active, shadow)| f64::from((number(active) - number(shadow)).abs()));
        differences.fold(0.0, |largest, each| if each.is_nan() { f64::INFINITY } else { each.max(largest) })
    };
    let count = if active.len() == shadow.len() { 0.0 } else { f64::INFINITY };
    active.iter().map(of).fold(count, f64::max)
}

#[cfg(test)]
mod tests {
    use sferic_actors::outcome::{Ellipse, Label, Position, Uncertainty};

    use super::*;

    /// A position so many metres to the north of 52° N, with this sigma.
    fn at(north: f64, sigma: f64) -> Answer {
        let scale = (-2.0 * 0.32f64.ln()).sqrt();
        Answer::Localization(Localization {
            position: Position { latitude: 52.0 + north / 111_266.0, longitude: 13.0 },
            uncertainty: Uncertainty {
                sigma_x: sigma,
                sigma_y: sigma,
                theta: 0.0,
                confidence_interval: 0.68,
            },
            ellipse: Ellipse {
                semi_major: scale * sigma,
                semi_minor: scale * sigma,
                rotation: 0.0,
                area: 0.0,
            },
            confidence: None,
            calibrated: false,
        })
    }

    fn both<'a>(active: &'a Answer, shadow: &'a Answer) -> Pair<Option<&'a Answer>> {
        Pair { active: Some(active), shadow: Some(shadow) }
    }

    fn times(active: u64, shadow: u64) -> Pair<Duration> {
        Pair { active, shadow }.map(Duration::from_millis)
    }

    #[test]
    fn positions_are_compared_in_metres() {
        let mut paired = Paired::default();
        paired.frame(both(&at(0.0, 50.0), &at(30.0, 100.0)), times(2, 4));
        paired.frame(both(&at(0.0, 50.0), &at(300.0, 100.0)), times(4, 8));
        paired.frame(both(&at(0.0, 50.0), &at(0.0, 50.0)), times(6, 6));
        paired.frame(Pair { active: Some(&at(0.0, 50.0)), shadow: None }, times(2, 0));
        let view = paired.view();
        assert_eq!((view.frames, view.failures), (4, Pair { active: 0, shadow: 1 }));
        let compute = view.compute_ms.unwrap().map(f64::round);
        assert_eq!((view.equal, compute), (Some(1.0 / 3.0), Pair { active: 4.0, shadow: 6.0 }));
        let positions = view.positions.unwrap();
        assert!((positions.mean_m - 110.0).abs() < 0.1 && (positions.p50_m - 30.0).abs() < 1.0);
        assert!((positions.inside - 2.0 / 3.0).abs() < 1e-12);
        assert!((positions.sigma_ratio - 2f64.powf(2.0 / 3.0)).abs() < 1e-9);
    }

    #[test]
    fn labels_and_numbers_are_compared() {
        let mut paired = Paired::default();
        let labels = |scores: [(&str, f64); 2]| {
            let label = |(label, score): (&str, f64)| Label { label: label.into(), score: Some(score) };
            Answer::Classification(scores.map(label).to_vec())
        };
        let (active, shadow) = (labels([("fm", 0.75), ("am", 0.25)]), labels([("am", 0.5), ("fm", 0.5)]));
        paired.frame(both(&active, &shadow), times(1, 1));
        paired.frame(both(&active, &active), times(1, 1));
        assert_eq!(paired.view().labels, Some(Labels { same: 0.5, score_difference: 0.125 }));
        let tensor = |numbers: &[f32]| {
            let data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let shape = vec![1, numbers.len()];
            Answer::Tensors(vec![NamedTensor { name: "y".into(), shape, dtype: "float32", data }])
        };
        let mut paired = Paired::default();
        let (active, shadow) = (tensor(&[1.0, 2.0]), tensor(&[1.0, 2.25]));
        paired.frame(both(&active, &shadow), times(1, 1));
        assert_eq!(paired.view().largest_difference, Some(0.25));
        paired.frame(both(&active, &tensor(&[1.0])), times(1, 1));
        assert_eq!(paired.view().largest_difference, Some(f64::INFINITY));
    }

    #[test]
    fn where_the_truth_is_known_both_are_scored() {
        let mut paired = Paired::default();
        let truth = Truth { position: Some(Position { latitude: 52.0, longitude: 13.0 }), label: None };
        for n in 0..200 {
            let answers = Pair { active: &at(0.0, 50.0), shadow: &at(100.0, 50.0) };
            paired.truth(answers, &truth, n % 2 == 0);
        }
        let view = paired.view().truth.unwrap();
        assert!((view.error.shadow - 100.0).abs() < 0.1 && view.error.active < 1e-6);
        // (100 / 50)² / 2.
        assert!((view.score.shadow - view.score.active - 2.0).abs() < 0.01);
        assert!(view.worse > 1e6 && view.better < 0.3, "{view:?}");
        paired.truth(Pair { active: &at(0.0, 50.0), shadow: &at(0.0, 50.0) }, &Truth::default(), true);
        assert_eq!(paired.view().truth.unwrap().frames, 200);
    }
}
