//! Measures a model on each execution provider, for `sferic doctor`.

use std::path::Path;
use std::time::Duration;

use sferic_models::Bundle;

use super::dispatch::Dispatch;
use super::library::Runtime;
use super::options::{ExecutionProvider, Options};
use super::trial::{Difference, Trial};

/// Measurement of one model on one provider with the CPU as fallback, one frame at a time on one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Examination {
    /// The provider.
    pub provider: ExecutionProvider,
    /// Number of measured runs.
    pub runs: usize,
    /// Median of the run times.
    pub p50: Duration,
    /// 99th percentile of the run times; the maximum where fewer than 100 were measured.
    pub p99: Duration,
    /// Speed relative to the CPU, by the medians.
    pub speed_up: f64,
    /// Where its nodes ran; or why that is not known.
    pub dispatch: Result<Dispatch, String>,
    /// Difference of its outputs from those of the CPU.
    pub difference: Difference,
}

/// The providers in the order tried, each with its measurement or its error.
pub type Examinations = Vec<(ExecutionProvider, Result<Examination, String>)>;

/// Limits of the measurement of one provider.
const TIME: Duration = Duration::from_secs(1);
const MOST_RUNS: usize = 200;

/// Measures the bundle in `folder` on the CPU and on each of `providers`, the CPU last.
///
/// # Errors
/// In words: the bundle is refused, or does not run on the CPU. A provider's own error stands in its place.
pub fn examine(
    folder: &Path,
    runtime: &Runtime,
    options: &Options,
    providers: &[ExecutionProvider],
) -> Result<Examinations, String> {
    let bundle = Bundle::read_within(folder, options.max_bytes).map_err(|error| error.to_string())?;
    let trial = Trial::new(runtime, &bundle, options)?;
    let cpu = trial.latencies(&trial.cpu, TIME, MOST_RUNS)?;
    let of = |provider, latencies: &[Duration], difference| Examination {
        provider,
        runs: latencies.len(),
        p50: quantile(latencies, 0.5),
        p99: quantile(latencies, 0.99),
        speed_up: quantile(&cpu, 0.5).as_secs_f64() / quantile(latencies, 0.5).as_secs_f64(),
        dispatch: trial.dispatch(&[provider]),
        difference,
    };
    let tried = |provider| {
        let session = trial.open(&[provider])?;
        let difference = trial.difference(&session)?;
        Ok(of(provider, &trial.latencies(&session, TIME, MOST_RUNS)?, difference))
    };
    let others = providers.iter().filter(|&&provider| provider != ExecutionProvider::Cpu);
    let mut found: Vec<_> = others.map(|&provider| (provider, tried(provider))).collect();
    let nothing = Difference { largest: 0.0, rms: 0.0 };
    found.push((ExecutionProvider::Cpu, Ok(of(ExecutionProvider::Cpu, &cpu, nothing))));
    Ok(found)
}

/// The smallest of the sorted values that `share` of them do not exceed.
fn quantile(rising: &[Duration], share: f64) -> Duration {
    let rank = (share * rising.len() as f64).ceil() as usize;
    rising.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let rising: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&rising, 0.5), Duration::from_millis(100));
        assert_eq!(quantile(&rising, 0.99), Duration::from_millis(198));
        assert_eq!(quantile(&rising[..3], 0.99), Duration::from_millis(3));
        assert_eq!(quantile(&rising[..1], 0.5), Duration::from_millis(1));
    }
}
