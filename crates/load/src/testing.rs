//! Runs for tests.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use rand::distr::Distribution;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::Exp1;

use crate::levels::Levels;
use crate::recorder::{End, Recorder, Request};
use crate::report::{FrameSize, Report, Run};

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A request that was due and sent at a time and answered after a latency, both in milliseconds.
pub(crate) fn answered(at: u64, latency: u64, is_hit: bool) -> Request {
    Request { intended: ms(at), sent: ms(at), ended: ms(at + latency), end: End::Answered { is_hit } }
}

/// What a test's run was.
pub(crate) fn run() -> Run {
    let about = [("model", "localization"), ("transport", "nats"), ("target", "nats://<host>&\"co\"")];
    let about = about.map(|(key, value)| (key.to_owned(), value.into()));
    Run {
        about: BTreeMap::from(about),
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        frame: FrameSize { samples: 12_288, bytes: 98_304 },
        levels: Levels { p99: Some(ms(750)), success: Some(0.99), ..Levels::default() },
        generator_cpu: Duration::from_secs(3),
        generator_cores: 2.0,
        daemon_cpu: None,
        daemon_cpu_by_second: Vec::new(),
        daemon_cpu_by_thread: BTreeMap::new(),
        process_cpu: None,
    }
}

/// The report of a run of `seconds` at 200 requests a second, whose exponential latencies have a mean of
/// `mean_ms` that drifts from second to second by a tenth or so; a frame costs `cpu_us` of the daemon.
pub(crate) fn report(seconds: u64, mean_ms: f64, cpu_us: u64, seed: u64) -> Report {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut recorder = Recorder::new(Some(Duration::from_secs(seconds))).unwrap();
    let mut drift = 0.0;
    for n in 0..seconds * 200 {
        if n % 200 == 0 {
            drift = 0.7 * drift + rng.random_range(-0.1..0.1);
        }
        let unit: f64 = Exp1.sample(&mut rng);
        let sent = ms(n * 5);
        let ended = sent + Duration::from_secs_f64((1.0 + drift) * mean_ms * (0.2 + unit) / 1e3);
        recorder.record(Request { intended: sent, sent, ended, end: End::Answered { is_hit: n % 4 == 3 } });
    }
    let cpu = Duration::from_micros(200 * cpu_us);
    Report::new(
        &recorder,
        Run {
            daemon_cpu: Some(cpu * seconds as u32),
            daemon_cpu_by_second: vec![cpu; seconds as usize],
            ..run()
        },
    )
}
