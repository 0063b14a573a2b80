//! A run as it is reported.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::histogram::{Histogram, Percentiles};
use crate::knee::Knee;
use crate::levels::{Levels, Verdict};
use crate::recorder::Recorder;
use crate::validity::{Validity, validity};

/// The version of the report's format.
const FORMAT: u32 = 1;

/// What the caller knows of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was run, for readers: `model`, `transport`, `mode` and so on. Of these,
    /// [`MUST_AGREE`](crate::MUST_AGREE) are compared.
    pub about: BTreeMap<String, Value>,
    /// When the measurement began.
    pub started: SystemTime,
    /// The size of a frame.
    pub frame: FrameSize,
    /// What the run must reach.
    pub levels: Levels,
    /// The generator's CPU time over the measurement.
    pub generator_cpu: Duration,
    /// The cores that the generator may use.
    pub generator_cores: f64,
    /// The daemon's CPU time over the measurement, where it is known.
    pub daemon_cpu: Option<Duration>,
    /// The daemon's CPU time in each second of the measurement, or nothing; only
    /// [`compare`](crate::compare()) needs it.
    pub daemon_cpu_by_second: Vec<Duration>,
    /// The daemon's CPU time over the measurement by kind of thread, or nothing.
    pub daemon_cpu_by_thread: BTreeMap<String, Duration>,
    /// The daemon's CPU time over the measurement as the system has it for the process, to check the others
    /// by.
    pub process_cpu: Option<Duration>,
}

/// The size of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameSize {
    /// Samples (one I and Q of one channel) in a frame.
    pub samples: u64,
    /// Bytes of a frame as it is sent, with its keys and in its encoding.
    pub bytes: u64,
}

/// A run: what it was, what was measured, and how it is judged. In JSON it has `"format": 1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format.
    pub format: Format,
    /// What was run, as the caller says it.
    pub run: BTreeMap<String, Value>,
    /// When the measurement began, in seconds since 1970.
    #[serde(default)]
    pub started_s: f64,
    /// The size of a frame.
    pub frame: FrameSize,
    /// What was measured.
    pub measured: Measured,
    /// How the run did against its levels.
    pub levels: Vec<Verdict>,
    /// Whether the generator kept up.
    pub validity: Validity,
    /// What a search for the knee found, where there was one; the caller sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knee: Option<Knee>,
    /// Each second of the run, also those after its end in which answers still came.
    pub slices: Vec<SliceReport>,
    /// Latency of all that was answered or timed out.
    pub latency: Histogram,
    /// Service time of all that was answered or timed out.
    pub service: Histogram,
    /// Latency of the cache hits.
    pub hit_latency: Histogram,
}

/// The version of the report's format; reading another is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format;

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        FORMAT
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, String> {
        match format == FORMAT {
            true => Ok(Self),
            false => Err(format!("the report's format is {format}, must be {FORMAT}")),
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The length of the measurement in seconds.
    pub seconds: f64,
    /// Requests due: sent or not.
    pub requests: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Answers that are cache hits.
    pub hits: u64,
    /// Requests that failed with a code.
    pub failed: u64,
    /// Requests without an answer in time.
    pub timed_out: u64,
    /// Requests that the generator could not send.
    pub not_sent: u64,
    /// Failures by code.
    pub failures: BTreeMap<String, u64>,
    /// The share of requests sent that were answered, 0 to 1; `None` where none was sent.
    pub success: Option<f64>,
    /// The share of answers that are cache hits, 0 to 1; `None` where nothing was answered.
    pub hit_rate: Option<f64>,
    /// Answers a second, of those that arrived within the measurement.
    pub rate: f64,
    /// Megasamples a second, at that rate.
    pub megasamples_per_second: f64,
    /// Gigabits of frames a second as they are sent, at that rate.
    pub gigabits_per_second: f64,
    /// From the time a request was due to its end, of all that was answered or timed out.
    pub latency_ms: Option<Percentiles>,
    /// From the time a request was sent to its end, of all that was answered or timed out.
    pub service_ms: Option<Percentiles>,
    /// The latency of cache hits.
    pub hit_latency_ms: Option<Percentiles>,
    /// The service time of cache hits.
    pub hit_service_ms: Option<Percentiles>,
    /// How much later than due the generator sent.
    pub lag_ms: Option<Percentiles>,
    /// CPU time.
    pub cpu: Cpu,
}

/// The CPU time of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Of the daemon; `None` where it is not known or nothing was answered.
    pub daemon: Option<FrameCosts>,
    /// Of the daemon, by kind of thread; these add up to `daemon`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub daemon_by_thread: BTreeMap<String, FrameCosts>,
    /// Of the daemon, as the system has it for the process; only where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<FrameCosts>,
    /// Of the generator; `None` where nothing was answered.
    pub generator: Option<FrameCosts>,
}

/// The CPU time over the measurement, for each frame answered within it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrameCosts {
    /// Microseconds of CPU time a frame.
    pub us_per_frame: f64,
    /// Microseconds of CPU time a megasample.
    pub us_per_megasample: f64,
}

/// One second of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceReport {
    /// Which second of the measurement, from 0.
    pub second: u64,
    /// Requests sent in it.
    pub sent: u64,
    /// Answers that arrived in it.
    pub answered: u64,
    /// Failures that arrived in it and requests that were given up.
    pub failed: u64,
    /// The median latency in milliseconds of the requests that were due in it.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of that latency, in milliseconds.
    pub p99_ms: Option<f64>,
    /// The daemon's CPU time in it, in microseconds, where it is known.
    pub daemon_cpu_us: Option<f64>,
    /// That latency, to two digits.
    pub latency: Histogram,
}

impl Report {
    /// Reports a run.
    pub fn new(recorder: &Recorder, run: Run) -> Self {
        let measured = measured(recorder, &run);
        let levels = run.levels.judge(measured.latency_ms.as_ref(), measured.success, measured.hit_rate);
        let validity = validity(
            &recorder.lag,
            &recorder.service,
            (recorder.not_sent, measured.requests),
            (run.generator_cpu, run.generator_cores),
            recorder.window(),
        );
        let slices = recorder.slices.iter().zip(0..).map(|(slice, second)| SliceReport {
            second,
            sent: slice.sent,
            answered: slice.answered,
            failed: slice.failed,
            p50_ms: slice.latency.quantile_ms(0.5),
            p99_ms: slice.latency.quantile_ms(0.99),
            daemon_cpu_us: run.daemon_cpu_by_second.get(second as usize).map(|cpu| micros(*cpu)),
            latency: slice.latency.clone(),
        });
        Self {
            format: Format,
            started_s: run.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            frame: run.frame,
            measured,
            levels,
            validity,
            knee: None,
            slices: slices.collect(),
            latency: recorder.latency.clone(),
            service: recorder.service.clone(),
            hit_latency: recorder.hit_latency.clone(),
            run: run.about,
        }
    }

    /// Whether the run is valid and met all of its levels; of a search for the knee, whether there is one.
    pub fn passed(&self) -> bool {
        match &self.knee {
            Some(knee) => knee.rate.is_some(),
            None => self.validity.valid && self.levels_met(),
        }
    }

    /// Whether it met all of its levels, even though frames may have been sent late.
    pub fn reached(&self) -> bool {
        (self.validity.valid || self.validity.only_late) && self.levels_met()
    }

    fn levels_met(&self) -> bool {
        self.levels.iter().all(|verdict| verdict.met)
    }

    /// Whether answers were compared, and some were others than those of the same frames one at a time: the
    /// caller's `verified` of [`Report::run`], with a count `different`.
    pub fn answers_differ(&self) -> bool {
        self.run.get("verified").is_some_and(|verified| verified["different"].as_u64() != Some(0))
    }
}

fn measured(recorder: &Recorder, run: &Run) -> Measured {
    let seconds = recorder.window().as_secs_f64();
    let rate = if seconds > 0.0 { recorder.answered_in_window as f64 / seconds } else { 0.0 };
    let FrameSize { samples, bytes } = run.frame;
    let costs = |cpu: Duration| {
        let us_per_frame = micros(cpu) / share_of(recorder.answered_in_window)?;
        Some(FrameCosts { us_per_frame, us_per_megasample: us_per_frame / share_of(samples)? * 1e6 })
    };
    let hits = recorder.hit_latency.count();
    Measured {
        seconds,
        requests: recorder.sent() + recorder.not_sent,
        answered: recorder.answered,
        hits,
        failed: recorder.failures.values().sum(),
        timed_out: recorder.timed_out,
        not_sent: recorder.not_sent,
        failures: recorder.failures.clone(),
        success: share_of(recorder.sent()).map(|sent| recorder.answered as f64 / sent),
        hit_rate: share_of(recorder.answered).map(|answered| hits as f64 / answered),
        rate,
        megasamples_per_second: rate * samples as f64 / 1e6,
        gigabits_per_second: rate * bytes as f64 * 8.0 / 1e9,
        latency_ms: recorder.latency.percentiles(),
        service_ms: recorder.service.percentiles(),
        hit_latency_ms: recorder.hit_latency.percentiles(),
        hit_service_ms: recorder.hit_service.percentiles(),
        lag_ms: recorder.lag.percentiles(),
        cpu: Cpu {
            daemon: run.daemon_cpu.and_then(costs),
            daemon_by_thread: run
                .daemon_cpu_by_thread
                .iter()
                .filter_map(|(kind, cpu)| Some((kind.clone(), costs(*cpu)?)))
                .collect(),
            process: run.process_cpu.and_then(costs),
            generator: costs(run.generator_cpu),
        },
    }
}

/// A count to divide by; `None` for 0.
fn share_of(count: u64) -> Option<f64> {
    (count > 0).then_some(count as f64)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{End, Request};
    use crate::testing::{answered, ms, report, run};

    #[test]
    fn rates_and_costs_follow_from_answers_and_frames() {
        let mut recorder = Recorder::new(Some(Duration::from_secs(10))).unwrap();
        (0..1000).for_each(|n| recorder.record(answered(n * 10, 5, n % 2 == 0)));
        let failed = End::Failed { code: "overloaded".to_owned() };
        recorder.record(Request { intended: ms(1), sent: ms(1), ended: ms(2), end: failed });
        let by_thread = [("sessions", 1500), ("async", 500)];
        let by_thread = by_thread.map(|(kind, millis)| (kind.to_owned(), ms(millis)));
        let run = Run {
            daemon_cpu: Some(Duration::from_secs(2)),
            daemon_cpu_by_thread: BTreeMap::from(by_thread),
            process_cpu: Some(ms(2010)),
            ..run()
        };
        let report = Report::new(&recorder, run);
        let measured = &report.measured;
        assert_eq!((measured.rate, measured.hit_rate), (100.0, Some(0.5)));
        assert_eq!(measured.success, Some(1000.0 / 1001.0));
        assert!((measured.megasamples_per_second - 1.2288).abs() < 1e-9);
        assert!((measured.gigabits_per_second - 0.078_643_2).abs() < 1e-9);
        let costs = measured.cpu.daemon.unwrap();
        assert!((costs.us_per_frame - 2000.0).abs() < 1e-6);
        assert!((costs.us_per_megasample - 2000.0 / 0.012_288).abs() < 1e-3);
        let by_thread = &measured.cpu.daemon_by_thread;
        assert!((by_thread["sessions"].us_per_frame - 1500.0).abs() < 1e-6, "{by_thread:?}");
        assert!((by_thread["async"].us_per_frame - 500.0).abs() < 1e-6, "{by_thread:?}");
        assert!((measured.cpu.process.unwrap().us_per_frame - 2010.0).abs() < 1e-6);
        assert!(report.passed(), "{:?} {:?}", report.levels, report.validity);
    }

    #[test]
    fn a_report_survives_json_and_another_format_is_refused() {
        let report = report(3, 20.0, 100, 1);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.starts_with(r#"{"format":1,"#), "{}", &json[..40]);
        let read: Report = serde_json::from_str(&json).unwrap();
        // JSON gives some numbers back with another last bit.
        assert!((read.measured.rate - report.measured.rate).abs() < 1e-9);
        assert_eq!(Report { measured: report.measured.clone(), ..read }, report);
        let error = serde_json::from_str::<Report>(&json.replacen(":1", ":2", 1)).unwrap_err().to_string();
        assert!(error.contains("the report's format is 2, must be 1"), "{error}");
    }

    #[test]
    fn an_empty_run_is_reported_as_invalid() {
        let report = Report::new(&Recorder::new(None).unwrap(), run());
        assert!(!report.validity.valid && !report.passed());
        assert_eq!((report.measured.rate, report.measured.success), (0.0, None));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn a_minute_of_a_run_stays_small() {
        let size = serde_json::to_string(&report(60, 20.0, 100, 1)).unwrap().len();
        assert!(size < 60 * 1024, "{size} bytes for a minute");
    }
}
