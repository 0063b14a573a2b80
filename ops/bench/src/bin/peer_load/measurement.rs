//! What is measured, as it is written to a file and read back.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sferic_load::Histogram;

use crate::side::Side;

/// A line of the file of figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first: what was measured, on what.
    Run(Run),
    /// A turn of a side.
    Turn(Turn),
}

/// What was measured, and on what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// When it began, UTC.
    pub date: String,
    /// Name and version of the model.
    pub model: String,
    /// Bytes of a frame in MessagePack.
    pub frame_bytes: usize,
    /// Processes or threads of each side.
    pub workers: usize,
    /// Seconds of a turn.
    pub seconds: f64,
    /// Users of the closed loops.
    pub concurrency: Vec<usize>,
    /// Processor, cores, memory, system.
    pub machine: BTreeMap<String, String>,
    /// By program or package.
    pub versions: BTreeMap<String, String>,
    /// Cores that a side takes while nobody asks it.
    pub idle_cores: BTreeMap<String, f64>,
}

/// What a side is asked in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// So many users that wait for their answers.
    Users(usize),
    /// Half of its own rate at the most users of the round, at random times.
    Half,
    /// Nothing: it is a loop.
    Loop,
}

/// A turn of a side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// From 1.
    pub round: usize,
    /// Who.
    pub side: Side,
    /// What was asked.
    pub load: Load,
    /// Requests a second that were due, where that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<f64>,
    /// What came of it.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Figures of a turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Within the turn.
    pub answers: u64,
    /// Answers a second.
    pub rate: f64,
    /// Median of the latency; of a loop, of a run.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Processor time an answer, by role: `server`, `nats`, `redis`, `client`.
    pub cpu_ms: BTreeMap<String, f64>,
    /// Resident memory at the end by role, summed over processes, pages that they share in each.
    pub rss_mib: BTreeMap<String, f64>,
}

impl Measured {
    /// `cpu_s` is what each role used in this time.
    ///
    /// # Errors
    /// There were no answers.
    pub fn new(
        answers: u64,
        seconds: f64,
        latency: &Histogram,
        cpu_s: BTreeMap<String, f64>,
        rss_mib: BTreeMap<String, f64>,
    ) -> anyhow::Result<Self> {
        ensure!(answers > 0, "no answer within {seconds:.1} s: give a turn more --seconds");
        let quantile = |share| latency.quantile_ms(share).context("no latency");
        Ok(Self {
            answers,
            rate: answers as f64 / seconds,
            p50_ms: quantile(0.5)?,
            p99_ms: quantile(0.99)?,
            cpu_ms: cpu_s.into_iter().map(|(role, s)| (role, s * 1e3 / answers as f64)).collect(),
            rss_mib,
        })
    }

    /// Processor time an answer of all but the client.
    pub fn cpu_ms(&self) -> f64 {
        self.cpu_ms.iter().filter(|(role, _)| *role != "client").map(|(_, ms)| ms).sum()
    }

    /// Of the server and its children; NaN where there is none.
    pub fn server_cpu_ms(&self) -> f64 {
        self.cpu_ms.get("server").copied().unwrap_or(f64::NAN)
    }

    /// Of nats-server or redis-server; NaN where neither takes part.
    pub fn broker_cpu_ms(&self) -> f64 {
        let broker = ["nats", "redis"].iter().find_map(|role| self.cpu_ms.get(*role));
        broker.copied().unwrap_or(f64::NAN)
    }

    /// Of the server and its children; NaN where there is none.
    pub fn server_rss_mib(&self) -> f64 {
        self.rss_mib.get("server").copied().unwrap_or(f64::NAN)
    }
}

/// The middle of values, and their range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Of those values that are numbers; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        Some(Self { median: (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0, low, high })
    }
}

/// The figures of a file.
///
/// # Errors
/// It is none.
pub fn read(text: &str) -> anyhow::Result<(Run, Vec<Turn>)> {
    let (mut run, mut turns) = (None, Vec::new());
    for (index, line) in text.lines().enumerate() {
        match serde_json::from_str(line).with_context(|| format!("line {} is no figure", index + 1))? {
            Line::Run(line) => run = Some(line),
            Line::Turn(turn) => turns.push(turn),
        }
    }
    Ok((run.context("the file does not say what was measured")?, turns))
}
