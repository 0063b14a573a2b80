//! Warm-up: runs before a model is ready fill caches and arenas, show the shapes of the outputs, and measure
//! batches.

use std::time::{Duration, Instant};

use sferic_models::{Class, Head, Output, Values};

use super::run_inputs::RunInput;
use super::session::{ReadBy, RunTerminator, SharedSession};
use super::trial_frames::TrialFrames;

/// Run time at one batch size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchCost {
    /// Batch size.
    pub batch: usize,
    /// The shortest of the measured runs.
    pub run: Duration,
}

impl BatchCost {
    /// Session time per frame in such a batch, seconds.
    fn per_frame(self) -> f64 {
        self.run.as_secs_f64() / self.batch as f64
    }
}

/// Result of the warm-up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WarmUp {
    /// Run time of every measured size, from 1 on.
    pub costs: Vec<BatchCost>,
    /// Maximum useful batch size.
    pub max_batch: usize,
    /// Whether a frame's outputs depend on the frames it shares a run with.
    pub batch_variant: bool,
}

/// A smaller batch is preferred if it costs at most this much more per frame than the cheapest, because
/// frames wait less for each other.
const AS_GOOD: f64 = 1.04;
/// For runs this short waiting does not matter; of batches of about equal cost, the larger has fewer runs to
/// manage. In the pool, `cnn_loc` had 0.973 of the rate of the bare loop in single frames and 0.977 in
/// batches of two, which cost the library as much per frame.
const QUICK: Duration = Duration::from_millis(1);
const ABOUT_AS_LITTLE: f64 = 1.02;
/// Minimum saving per frame for larger sizes to be tried.
const SAVING: f64 = 0.98;
/// Maximum number of runs of one size, and the time after which no further one is begun.
pub(crate) const RUNS: usize = 20;
pub(crate) const RUNS_TIME: Duration = Duration::from_millis(100);
/// Allowed difference of the outputs of a frame between batches, relative to the largest magnitude of the
/// output: float32 sums in another order.
const TOLERANCE: f64 = 1e-4;

/// Runs a model at batch sizes 1, 2, 4, … up to `max_batch`, and at every other size up to the chosen one.
///
/// The limit is the smallest measured size whose cost a frame is within 4 % of the cheapest, or a larger one
/// within 2 % whose run is over within a millisecond; larger sizes are not tried once two in a row saved
/// nothing. A model whose outputs depend on the batch, or whose runs of two fail, is limited to batches of
/// one.
pub(crate) fn warm_up(
    session: &SharedSession,
    frames: &TrialFrames,
    head: &Head,
    max_batch: usize,
) -> Result<WarmUp, String> {
    let first = measure(session, frames, head, 1)?;
    let mut found = WarmUp { costs: vec![first], max_batch: 1, batch_variant: false };
    if max_batch == 1 {
        return Ok(found);
    }
    // Every frame by itself: a wrong kernel may still get the first of a batch right.
    let mut references = Vec::new();
    let (mut best, mut misses) = (first.per_frame(), 0);
    for batch in sizes(max_batch) {
        for one in references.len()..batch {
            references
                .push(run(session, &frames.batch(one, 1), ReadBy::Head, |outputs| Ok(of_frame(outputs, 0)))?);
        }
        let check = |outputs: &[Output<'_>]| {
            head.check(outputs, batch)?;
            Ok(references
                .iter()
                .enumerate()
                .all(|(index, reference)| close(reference, &of_frame(outputs, index))))
        };
        let cost = run(session, &frames.batch(0, batch), ReadBy::Head, check).and_then(|same| match same {
            true => measure(session, frames, head, batch),
            false => Err("a frame's outputs depend on its batch".into()),
        });
        let Ok(cost) = cost else {
            return Ok(WarmUp { max_batch: 1, batch_variant: true, ..found });
        };
        found.costs.push(cost);
        misses = if cost.per_frame() <= SAVING * best { 0 } else { misses + 1 };
        best = best.min(cost.per_frame());
        if misses == 2 {
            break;
        }
    }
    // Measured again, so that a moment of load on the machine does not decide.
    for cost in &mut found.costs {
        cost.run = cost.run.min(measure(session, frames, head, cost.batch)?.run);
    }
    found.max_batch = worthwhile(&found.costs);
    for batch in (1..found.max_batch).filter(|batch| found.costs.iter().all(|cost| cost.batch != *batch)) {
        run(session, &frames.batch(0, batch), ReadBy::Head, |outputs| head.check(outputs, batch))?;
    }
    Ok(found)
}

fn worthwhile(costs: &[BatchCost]) -> usize {
    let cheapest = costs.iter().map(|cost| cost.per_frame()).fold(f64::INFINITY, f64::min);
    let smallest = costs.iter().find(|cost| cost.per_frame() <= AS_GOOD * cheapest);
    let quick =
        costs.iter().rfind(|cost| cost.run <= QUICK && cost.per_frame() <= ABOUT_AS_LITTLE * cheapest);
    smallest.into_iter().chain(quick).map(|cost| cost.batch).max().unwrap_or(1)
}

/// 2, 4, 8, … and `max` itself.
fn sizes(max: usize) -> impl Iterator<Item = usize> {
    std::iter::successors((max > 1).then_some(2), move |&size| (size < max).then(|| (size * 2).min(max)))
        .map(move |size| size.min(max))
}

pub(crate) fn run<T>(
    session: &SharedSession,
    inputs: &[RunInput<'_>],
    read_by: ReadBy,
    look: impl FnOnce(&[Output<'_>]) -> Result<T, String>,
) -> Result<T, String> {
    let failed = |error: ort::Error| {
        let shapes: Vec<_> = inputs.iter().map(|input| format!("{:?}", input.shape)).collect();
        format!("a run on {} failed: {error}", shapes.join(", "))
    };
    let outputs = session.run(inputs, read_by, &RunTerminator::default()).map_err(failed)?;
    look(&outputs.views().map_err(failed)?)
}

/// The shortest of a few runs. The first fills caches; it counts only where it is too long to be repeated.
fn measure(
    session: &SharedSession,
    frames: &TrialFrames,
    head: &Head,
    batch: usize,
) -> Result<BatchCost, String> {
    let inputs = frames.batch(0, batch);
    let begun = Instant::now();
    let mut shortest = Duration::MAX;
    for index in 0..=RUNS {
        let run_begun = Instant::now();
        run(session, &inputs, ReadBy::Head, |outputs| head.check(outputs, batch))?;
        shortest = shortest.min(run_begun.elapsed());
        if index > 0 && begun.elapsed() > RUNS_TIME || begun.elapsed() > 2 * RUNS_TIME {
            break;
        }
    }
    Ok(BatchCost { batch, run: shortest })
}

fn of_frame(outputs: &[Output<'_>], frame: usize) -> Vec<Vec<f64>> {
    outputs.iter().map(|output| numbers(output.frame(frame))).collect()
}

/// Floats and scores as numbers; other types byte by byte, which is exact enough to compare.
pub(crate) fn numbers(values: Values<'_>) -> Vec<f64> {
    match values {
        Values::Floats(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Values::Bytes(_, bytes) => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        Values::Classes(classes) => classes.iter().flat_map(of_class).collect(),
        Values::ScoreMaps(maps) => maps.iter().flatten().map(|&(_, score)| f64::from(score)).collect(),
    }
}

fn of_class(class: &Class) -> Vec<f64> {
    match class {
        Class::Number(number) => vec![*number as f64],
        Class::Name(name) => name.bytes().map(f64::from).collect(),
    }
}

fn close(a: &[Vec<f64>], b: &[Vec<f64>]) -> bool {
    a.iter().zip(b).all(|(a, b)| {
        let largest =
            a.iter().chain(b).filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
        let near =
            |a: f64, b: f64| (a - b).abs() <= TOLERANCE * largest || a == b || (a.is_nan() && b.is_nan());
        a.len() == b.len() && a.iter().zip(b).all(|(&a, &b)| near(a, b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_up_to_the_limit() {
        let of = |max| sizes(max).collect::<Vec<_>>();
        assert_eq!(of(1), [0; 0]);
        assert_eq!(of(2), [2]);
        assert_eq!(of(3), [2, 3]);
        assert_eq!(of(8), [2, 4, 8]);
        assert_eq!(of(12), [2, 4, 8, 12]);
    }

    #[test]
    fn a_batch_is_formed_only_where_it_saves_something() {
        let limit = |runs_us: [u64; 4]| {
            let cost = |(index, &run): (usize, &u64)| BatchCost {
                batch: 1 << index,
                run: Duration::from_micros(run),
            };
            worthwhile(&runs_us.iter().enumerate().map(cost).collect::<Vec<_>>())
        };
        assert_eq!(limit([15_000, 30_000, 59_000, 118_000]), 1, "a long run is not shortened by sharing it");
        assert_eq!(limit([100, 120, 160, 240]), 8, "a fixed cost is");
        assert_eq!(limit([430, 861, 1710, 3400]), 2, "short runs are shared where that costs nothing");
        assert_eq!(limit([430, 900, 1800, 3600]), 1, "and not where it does");
    }

    #[test]
    fn outputs_are_close_by_the_magnitude_of_the_whole() {
        let close = |a: &[f64], b: &[f64]| close(&[a.to_vec()], &[b.to_vec()]);
        assert!(close(&[1000.0, 0.01], &[1000.05, 0.0]));
        assert!(!close(&[1000.0, 0.01], &[1000.2, 0.01]));
        assert!(close(&[f64::NAN, f64::INFINITY, 0.0], &[f64::NAN, f64::INFINITY, 0.0]));
        assert!(!close(&[f64::NAN], &[0.0]));
        assert!(!close(&[0.0], &[0.0, 0.0]));
    }
}
