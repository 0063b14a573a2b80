//! What the daemons use while they are measured: as they state it, and as the system has it for a process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::target::Target;
use crate::usage::{OwnUsage, Usage};

/// Interval of the samples.
const EVERY: Duration = Duration::from_secs(1);

/// Time for an answer; seconds without one are bridged.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is used at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Since the beginning.
    pub at: Duration,
    /// As the daemons state it, of all together.
    pub stated: Option<OwnUsage>,
    /// Seconds of processor time and bytes of memory, as the system has them for the process.
    pub process: Option<(f64, u64)>,
}

impl Sample {
    /// Asks the daemons.
    async fn take(target: &Target, pid: Option<u32>, begun: Instant) -> Self {
        let asked = begun.elapsed();
        let statistics = timeout(PATIENCE, target.statistics()).await;
        // The answer says what was used when it was made.
        let at = (asked + begun.elapsed()) / 2;
        let process = pid.and_then(|pid| Usage::of(pid).ok());
        Self {
            at,
            stated: statistics.ok().and_then(Result::ok).and_then(|of| stated(&of)),
            process: process.map(|usage| (usage.cpu_s, usage.resident_bytes)),
        }
    }

    /// Memory in use: as the daemons state it, else as the system has it.
    pub fn resident_bytes(&self) -> Option<u64> {
        let stated = self.stated.as_ref().and_then(|usage| usage.resident_bytes);
        stated.or(self.process.map(|(_, bytes)| bytes))
    }

    /// Seconds of processor time, as the daemons state it.
    fn stated_cpu_s(&self) -> Option<f64> {
        self.stated.as_ref().map(|usage| usage.cpu_s)
    }

    /// Seconds of processor time, as the system has it.
    fn process_cpu_s(&self) -> Option<f64> {
        self.process.map(|(seconds, _)| seconds)
    }
}

/// The sum of what several daemons state; `None` where one states nothing.
fn stated(statistics: &[Value]) -> Option<OwnUsage> {
    let mut all = OwnUsage { resident_bytes: Some(0), ..OwnUsage::default() };
    for daemon in statistics {
        let OwnUsage { cpu_s, resident_bytes, threads_cpu_s } =
            serde_json::from_value(daemon["process"].clone()).ok()?;
        all.cpu_s += cpu_s;
        all.resident_bytes = all.resident_bytes.zip(resident_bytes).map(|(all, one)| all + one);
        for (kind, seconds) in threads_cpu_s {
            *all.threads_cpu_s.entry(kind).or_default() += seconds;
        }
    }
    (!statistics.is_empty()).then_some(all)
}

/// What is used over a measurement, sample by sample.
#[derive(Debug, Default)]
pub struct Costs(Mutex<Vec<Sample>>);

impl Costs {
    /// Begins anew, with a first sample.
    pub async fn begin(&self, target: &Target, pid: Option<u32>) {
        let first = Sample::take(target, pid, Instant::now()).await;
        *self.lock() = vec![Sample { at: Duration::ZERO, ..first }];
    }

    /// Takes a sample a second; does not return.
    pub async fn watch(&self, target: &Target, pid: Option<u32>, begun: Instant) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.reset();
        loop {
            ticks.tick().await;
            self.sample(target, pid, begun).await;
        }
    }

    /// Takes a sample.
    pub async fn sample(&self, target: &Target, pid: Option<u32>, begun: Instant) {
        let sample = Sample::take(target, pid, begun).await;
        self.lock().push(sample);
    }

    /// The samples that were taken.
    pub fn samples(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    /// Processor time within this time from the beginning.
    pub fn within(&self, window: Duration) -> Within {
        let samples = self.lock();
        let total = |of: &dyn Fn(&Sample) -> Option<f64>| between(&samples, of, Duration::ZERO, window);
        let stated = |sample: &Sample| sample.stated.as_ref().map(|usage| usage.threads_cpu_s.clone());
        let kinds = samples.first().and_then(stated).unwrap_or_default();
        let of_kind = |kind: &str, sample: &Sample| stated(sample)?.get(kind).copied();
        let by_thread =
            kinds.keys().map(|kind| Some((kind.clone(), total(&|sample| of_kind(kind, sample))?)));
        // One clock for all of it: they differ in what has ended.
        let is_stated = samples.first().is_some_and(|first| first.stated.is_some());
        let cpu_s = if is_stated { Sample::stated_cpu_s } else { Sample::process_cpu_s };
        let seconds = (0..window.as_secs_f64().ceil() as u64).map(Duration::from_secs);
        let by_second = seconds.map(|from| between(&samples, &cpu_s, from, from + EVERY));
        Within {
            total: total(&cpu_s),
            by_second: by_second.collect::<Option<_>>().unwrap_or_default(),
            by_thread: by_thread.collect::<Option<_>>().unwrap_or_default(),
            process: total(&Sample::process_cpu_s),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Processor time within a measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Within {
    /// Of the daemons.
    pub total: Option<Duration>,
    /// The same, second by second; empty where one is not known.
    pub by_second: Vec<Duration>,
    /// The same by kind of thread; empty where it is not known.
    pub by_thread: BTreeMap<String, Duration>,
    /// Of the process, as the system has it.
    pub process: Option<Duration>,
}

/// How much a count of seconds has grown between two times.
fn between(
    samples: &[Sample],
    of: &dyn Fn(&Sample) -> Option<f64>,
    from: Duration,
    to: Duration,
) -> Option<Duration> {
    Duration::try_from_secs_f64((at(samples, of, to)? - at(samples, of, from)?).max(0.0)).ok()
}

/// A count at a time: on the line between the samples around it, before the first and after the last theirs.
fn at(samples: &[Sample], of: &dyn Fn(&Sample) -> Option<f64>, time: Duration) -> Option<f64> {
    let known = || samples.iter().filter_map(|sample| Some((sample.at, of(sample)?)));
    let before = known().take_while(|(at, _)| *at <= time).last();
    let after = known().find(|(at, _)| *at > time);
    match (before, after) {
        (Some((earlier, low)), Some((later, high))) => {
            let share = (time - earlier).as_secs_f64() / (later - earlier).as_secs_f64();
            Some(low + share * (high - low))
        }
        (one, other) => one.or(other).map(|(_, count)| count),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(at_ms: u64, cpu_s: Option<f64>) -> Sample {
        let usage = |cpu_s| OwnUsage {
            cpu_s,
            resident_bytes: Some(7),
            threads_cpu_s: BTreeMap::from([("async".to_owned(), cpu_s / 4.0)]),
        };
        Sample { at: Duration::from_millis(at_ms), stated: cpu_s.map(usage), process: Some((9.0, 8)) }
    }

    #[test]
    fn time_is_that_of_the_window_whenever_the_samples_came_and_one_that_is_missing_is_bridged() {
        let samples = vec![
            sample(0, Some(10.0)),
            sample(1000, Some(10.5)),
            sample(2010, None),
            sample(4000, Some(12.0)),
        ];
        let costs = Costs(Mutex::new(samples));
        let within = costs.within(Duration::from_secs(3));
        let ms = Duration::from_millis;
        assert_eq!(within.total, Some(ms(1500)));
        assert_eq!(within.by_second, [ms(500), ms(500), ms(500)]);
        assert_eq!(within.by_thread, BTreeMap::from([("async".to_owned(), ms(375))]));
        assert_eq!(within.process, Some(Duration::ZERO));
        // The last answer came a moment before the end.
        assert_eq!(costs.within(ms(4100)).total, Some(Duration::from_secs(2)));
        assert_eq!(Costs::default().within(ms(1000)).total, None);
    }

    #[test]
    fn what_daemons_state_is_added_up_and_nothing_is_made_up() {
        let daemon = |cpu_s: f64| {
            let threads = json!({"async": 1.0, "sessions": cpu_s - 1.0});
            json!({"process": {"cpu_s": cpu_s, "resident_bytes": 10, "threads_cpu_s": threads}})
        };
        let both = stated(&[daemon(3.0), daemon(4.0)]).unwrap();
        assert_eq!((both.cpu_s, both.resident_bytes), (7.0, Some(20)));
        assert_eq!(both.threads_cpu_s["sessions"], 5.0);
        assert_eq!(stated(&[daemon(3.0), json!({})]), None);
        assert_eq!(stated(&[]), None);
    }
}
