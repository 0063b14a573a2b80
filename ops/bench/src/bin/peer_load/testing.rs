//! Figures for tests.

use std::collections::BTreeMap;

use crate::measurement::{Load, Measured, Run, Turn};
use crate::side::Side;

/// A run of two workers with 1 and 32 users.
pub fn run() -> Run {
    Run {
        date: "2025-01-01".to_owned(),
        model: "small@1".to_owned(),
        frame_bytes: 131_072,
        workers: 2,
        seconds: 1.0,
        concurrency: vec![1, 32],
        machine: BTreeMap::from([("cores".to_owned(), "2".to_owned())]),
        versions: BTreeMap::new(),
        idle_cores: BTreeMap::new(),
    }
}

/// A turn with so many answers a second.
pub fn turn(round: usize, side: Side, load: Load, rate: f64) -> Turn {
    let measured = Measured {
        answers: rate as u64,
        rate,
        p50_ms: 1.0,
        p99_ms: 2.0,
        cpu_ms: BTreeMap::from([("server".to_owned(), 0.5)]),
        rss_mib: BTreeMap::from([("server".to_owned(), 100.0)]),
    };
    Turn { round, side, load, offered: None, measured }
}
