//! What is measured of the requests of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::histogram::{Histogram, HistogramError};

/// Significant digits of the histograms of the whole run.
const DIGITS: u8 = 3;

/// Significant digits of a second's histogram: 12 KiB of memory each, so 43 MiB for an hour.
const SLICE_DIGITS: u8 = 2;

/// A request that is over. All times are since the start of the measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When it was due; in a closed loop, when it was sent.
    pub intended: Duration,
    /// When the generator began to send it.
    pub sent: Duration,
    /// When its answer or failure arrived, or it was given up.
    pub ended: Duration,
    /// How it ended.
    pub end: End,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Answered {
        /// Whether the answer is a cache hit.
        is_hit: bool,
    },
    /// It failed.
    Failed {
        /// The failure's code, as `overloaded`.
        code: String,
    },
    /// There was no answer within the time the generator waits.
    TimedOut,
    /// The generator could not send it in time; `sent` and `ended` are not read.
    NotSent,
}

/// Records the requests of a run.
///
/// Latency is counted from `intended`, service time from `sent`, both of requests that were answered or timed
/// out: a timeout counts with the time it was waited for, which is less than it would have taken. Failures
/// are counted by code and have no latency, or a server that refuses fast would look fast.
///
/// The requests of a warm-up are left out by not recording them.
#[derive(Debug, Clone)]
pub struct Recorder {
    window: Option<Duration>,
    pub(crate) latency: Histogram,
    pub(crate) service: Histogram,
    pub(crate) hit_latency: Histogram,
    pub(crate) hit_service: Histogram,
    pub(crate) lag: Histogram,
    pub(crate) answered: u64,
    pub(crate) answered_in_window: u64,
    pub(crate) timed_out: u64,
    pub(crate) not_sent: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) slices: Vec<Slice>,
    last_end: Duration,
    empty_slice: Slice,
}

/// One second of a run.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Requests sent in it.
    pub(crate) sent: u64,
    /// Answers that arrived in it.
    pub(crate) answered: u64,
    /// Failures that arrived in it and requests that were given up.
    pub(crate) failed: u64,
    /// The latency of the requests that were due in it.
    pub(crate) latency: Histogram,
}

impl Recorder {
    /// Creates a recorder of a measurement of length `window`, or of one that ends with its last request,
    /// where its length is not known beforehand.
    ///
    /// # Errors
    /// None that is known: the library checks the bounds of its histograms.
    pub fn new(window: Option<Duration>) -> Result<Self, HistogramError> {
        let empty = Histogram::new(DIGITS)?;
        let latency = Histogram::new(SLICE_DIGITS)?;
        Ok(Self {
            window,
            latency: empty.clone(),
            service: empty.clone(),
            hit_latency: empty.clone(),
            hit_service: empty.clone(),
            lag: empty,
            answered: 0,
            answered_in_window: 0,
            timed_out: 0,
            not_sent: 0,
            failures: BTreeMap::new(),
            slices: Vec::new(),
            last_end: Duration::ZERO,
            empty_slice: Slice { sent: 0, answered: 0, failed: 0, latency },
        })
    }

    /// Records a request that is over, in any order.
    pub fn record(&mut self, request: Request) {
        let Request { intended, sent, ended, end } = request;
        if end == End::NotSent {
            self.not_sent += 1;
            return;
        }
        self.lag.record(sent.saturating_sub(intended));
        self.last_end = self.last_end.max(ended);
        self.slice(sent).sent += 1;
        let (latency, service) = (ended.saturating_sub(intended), ended.saturating_sub(sent));
        match end {
            End::Answered { is_hit } => {
                self.answered += 1;
                self.answered_in_window += u64::from(self.window.is_none_or(|window| ended <= window));
                self.slice(ended).answered += 1;
                if is_hit {
                    self.hit_latency.record(latency);
                    self.hit_service.record(service);
                }
            }
            End::TimedOut => {
                self.timed_out += 1;
                self.slice(ended).failed += 1;
            }
            End::Failed { code } => {
                *self.failures.entry(code).or_default() += 1;
                self.slice(ended).failed += 1;
                return;
            }
            End::NotSent => return,
        }
        self.latency.record(latency);
        self.service.record(service);
        self.slice(intended).latency.record(latency);
    }

    /// Returns the length of the measurement.
    pub fn window(&self) -> Duration {
        self.window.unwrap_or(self.last_end)
    }

    /// Returns how many requests were sent and are over.
    pub(crate) fn sent(&self) -> u64 {
        self.answered + self.timed_out + self.failures.values().sum::<u64>()
    }

    fn slice(&mut self, at: Duration) -> &mut Slice {
        let second = at.as_secs() as usize;
        if second >= self.slices.len() {
            self.slices.resize(second + 1, self.empty_slice.clone());
        }
        &mut self.slices[second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answered, ms};

    #[test]
    fn a_stall_shows_in_latency_by_the_intended_time_and_not_in_service_time() {
        // 100 requests a second for 60 s, answered in 1 ms; one at a time, and one of them takes 1 s.
        let mut recorder = Recorder::new(Some(Duration::from_secs(60))).unwrap();
        let mut free = Duration::ZERO;
        for n in 0..6000 {
            let intended = ms(10 * n);
            let sent = intended.max(free);
            free = sent + ms(if n == 3000 { 1000 } else { 1 });
            recorder.record(Request { intended, sent, ended: free, end: End::Answered { is_hit: false } });
        }
        let (latency, service) =
            (recorder.latency.percentiles().unwrap(), recorder.service.percentiles().unwrap());
        assert!(latency.p99 > 400.0 && latency.p50 < 1.1, "{latency:?}");
        assert!(service.p99 < 1.1, "{service:?}");
        assert!(recorder.lag.quantile_ms(0.99).unwrap() > 400.0);
        let p99 = |second: usize| recorder.slices[second].latency.quantile_ms(0.99).unwrap();
        assert!(p99(29) < 1.1 && p99(30) > 900.0, "{} and {}", p99(29), p99(30));
    }

    #[test]
    fn each_end_is_counted_where_it_belongs() {
        let mut recorder = Recorder::new(Some(Duration::from_secs(2))).unwrap();
        recorder.record(answered(100, 10, true));
        recorder.record(answered(1990, 20, false));
        let ended = |end| Request { intended: ms(500), sent: ms(501), ended: ms(1500), end };
        recorder.record(ended(End::Failed { code: "overloaded".to_owned() }));
        recorder.record(ended(End::TimedOut));
        recorder.record(ended(End::NotSent));

        assert_eq!(
            (recorder.answered, recorder.answered_in_window),
            (2, 1),
            "one was answered after the end"
        );
        assert_eq!((recorder.timed_out, recorder.not_sent, recorder.sent()), (1, 1, 4));
        assert_eq!(recorder.failures, BTreeMap::from([("overloaded".to_owned(), 1)]));
        assert_eq!((recorder.latency.count(), recorder.hit_latency.count(), recorder.lag.count()), (3, 1, 4));
        assert!((recorder.latency.quantile_ms(1.0).unwrap() / 1000.0 - 1.0).abs() < 1e-3, "the timeout");
        let slices: Vec<_> =
            recorder.slices.iter().map(|slice| (slice.sent, slice.answered, slice.failed)).collect();
        assert_eq!(slices, [(3, 1, 0), (1, 0, 2), (0, 1, 0)]);
        assert_eq!(recorder.slices[0].latency.count(), 2, "latency belongs to the second it was due in");
    }

    #[test]
    fn a_run_without_a_length_ends_with_its_last_request() {
        let mut recorder = Recorder::new(None).unwrap();
        recorder.record(answered(100, 2400, false));
        assert_eq!((recorder.window(), recorder.answered_in_window), (ms(2500), 1));
    }
}
