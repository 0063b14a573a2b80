//! Whether the generator kept up, so that what was measured is the server's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// Lag may be this whatever the service time: what timers are off by.
const LEAST_LAG_MS: f64 = 1.0;

/// The percentiles of the lag that are judged.
const PERCENTILES: [u32; 2] = [50, 99];

/// Each may be this share of the same percentile of the service time.
const LAG_SHARE: f64 = 0.1;

/// The share of requests that may be left unsent.
const MISSED_SHARE: f64 = 0.001;

/// The share of its cores that the generator may use.
const CPU_SHARE: f64 = 0.9;

/// Whether a run can be judged at all: one whose generator did not keep up is invalid, not slow.
///
/// A run is invalid if
/// - the median or the 99th percentile of the generator's lag (how much later than due requests were sent) is
///   over 1 ms and over 10 % of the same percentile of the service time. Lag is part of latency, so this
///   bounds what the generator adds to each percentile: about a tenth;
/// - over 0.1 % of the requests due were not sent;
/// - the generator used over 90 % of its cores over the run: near that, it queues for itself; or
/// - nothing was answered and nothing timed out.
///
/// The lag is compared with the service time because latency itself grows with the lag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Whether there are no reasons against the run.
    pub valid: bool,
    /// Whether the generator sent late or had no CPU time left, so that a higher rate would measure the
    /// generator.
    #[serde(default)]
    pub generator_limited: bool,
    /// Whether all that is wrong is that requests were sent late. Latency counts that, so what was met in
    /// such a run was met; only what was missed may be the generator's.
    #[serde(default)]
    pub only_late: bool,
    /// What is wrong, with the value and its limit.
    pub reasons: Vec<String>,
}

/// Judges the generator by its lag, the service times, its slots (missed, of all), its CPU time, its cores
/// and the length of the run.
pub(crate) fn validity(
    lag: &Histogram,
    service: &Histogram,
    (missed, requests): (u64, u64),
    (cpu, cores): (Duration, f64),
    window: Duration,
) -> Validity {
    let late = PERCENTILES.into_iter().find_map(|percentile| {
        let of = |histogram: &Histogram| histogram.quantile_ms(f64::from(percentile) / 100.0);
        let (lag, limit) = (of(lag)?, (of(service).unwrap_or_default() * LAG_SHARE).max(LEAST_LAG_MS));
        (lag > limit).then_some((percentile, lag, limit))
    });
    let missed_share = missed as f64 / requests.max(1) as f64;
    let cpu_share = cpu.as_secs_f64() / (cores * window.as_secs_f64());
    let is_spent = cpu_share > CPU_SHARE && !window.is_zero();
    let generator_limited = late.is_some() || is_spent;
    let reasons = [
        late.map(|(percentile, lag, limit)| {
            format!("the generator sent late: p{percentile} of its lag is {lag:.3} ms, at most {limit:.3} ms")
        }),
        (missed_share > MISSED_SHARE).then(|| {
            let percent = missed_share * 1e2;
            format!("the generator did not send {missed} requests, {percent:.2} %, at most 0.1 %")
        }),
        is_spent.then(|| {
            let percent = cpu_share * 1e2;
            format!("the generator used {percent:.0} % of its {cores} cores, at most 90 %")
        }),
        (service.count() == 0).then(|| "nothing was answered: there is no latency to judge".to_owned()),
    ];
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    let only_late = late.is_some() && reasons.len() == 1;
    Validity { valid: reasons.is_empty(), generator_limited, only_late, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn constant(micros: u64) -> Histogram {
        let mut histogram = Histogram::new(3).unwrap();
        (0..1000).for_each(|_| histogram.record(Duration::from_micros(micros)));
        histogram
    }

    fn judged(lag_us: u64, service_us: u64, missed: u64, cpu_s: f64) -> Validity {
        let cpu = (Duration::from_secs_f64(cpu_s), 2.0);
        validity(&constant(lag_us), &constant(service_us), (missed, 10_000), cpu, WINDOW)
    }

    #[test]
    fn each_limit_is_a_reason_only_beyond_it() {
        assert_eq!(judged(990, 200, 10, 17.9).reasons, Vec::<String>::new());
        assert_eq!(judged(4900, 50_000, 0, 1.0).reasons, Vec::<String>::new());
        for (lag, service, missed, cpu, word) in [
            (1010, 200, 0, 1.0, "late"),
            (5200, 50_000, 0, 1.0, "late"),
            (1, 200, 11, 1.0, "did not send 11"),
            (1, 200, 0, 18.1, "of its 2 cores"),
        ] {
            let Validity { generator_limited, only_late, reasons, .. } = judged(lag, service, missed, cpu);
            assert_eq!(only_late, word == "late");
            // Frames are not sent where too many are on their way: the daemon's delay, not the generator's.
            assert_eq!(generator_limited, missed == 0);
            assert!(reasons.len() == 1 && reasons[0].contains(word), "{word}: {reasons:?}");
        }
    }

    #[test]
    fn each_percentile_of_the_lag_is_compared_with_the_same_of_the_service_time() {
        let reasons = |lag: [u64; 2], service: [u64; 2]| {
            let of = |[most, few]: [u64; 2]| {
                let mut histogram = Histogram::new(3).unwrap();
                (0..1000).for_each(|n| {
                    histogram.record(Duration::from_millis(if n % 20 == 0 { few } else { most }));
                });
                histogram
            };
            validity(&of(lag), &of(service), (0, 1000), (Duration::from_secs(1), 2.0), WINDOW).reasons
        };
        // What is slow for the server is slow for one that shares its cores.
        assert_eq!(reasons([0, 9], [5, 100]), Vec::<String>::new());
        assert!(reasons([0, 11], [5, 100])[0].contains("p99 of its lag is 11"));
        assert!(reasons([2, 2], [5, 100])[0].contains("p50 of its lag is 2"));
    }

    #[test]
    fn a_run_without_an_answer_is_invalid() {
        let empty = Histogram::new(3).unwrap();
        let cpu = (Duration::ZERO, 2.0);
        let Validity { valid, generator_limited, .. } = validity(&empty, &empty, (0, 0), cpu, WINDOW);
        assert!(!valid && !generator_limited);
    }
}
