//! The sides that are measured.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One way to answer frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// sferic, requests over NATS.
    Sferic,
    /// The same daemon over HTTP.
    SfericHttp,
    /// nats-py workers in a queue group, frame by frame.
    NatsPy,
    /// nats-py workers in a queue group, in batches.
    NatsPyBatch,
    /// mosec, frame by frame.
    Mosec,
    /// mosec, in batches.
    MosecBatch,
    /// LitServe, frame by frame.
    Litserve,
    /// LitServe, in batches; only on demand, because its idle workers poll and disturb the others.
    LitserveBatch,
    /// FastAPI with JSON and Redis, samples in base64.
    Fastapi,
    /// FastAPI with JSON and Redis, samples as lists of numbers.
    FastapiLists,
    /// A responder on async-nats that answers 600 bytes and does nothing else.
    Echo,
    /// ONNX Runtime alone, frame by frame, without features.
    Run,
    /// ONNX Runtime alone, in batches, without features.
    RunBatch,
    /// sferic's features and ONNX Runtime, frame by frame, without messages.
    FeaturesRun,
    /// sferic's features and ONNX Runtime, in batches, without messages.
    FeaturesRunBatch,
}

/// What a side is to the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// sferic.
    Ours,
    /// What would be run instead.
    Peer,
    /// What no side can pass.
    Limit,
}

/// Frames of a run, of sides that run batches.
pub const BATCH: usize = 8;

impl Side {
    /// All of them, in the order in which they have their turns.
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Those that are measured where none are named.
    pub fn usual() -> Vec<Self> {
        Self::all().into_iter().filter(|side| *side != Self::LitserveBatch).collect()
    }

    /// Its name on the command line and in the figures.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is.
    pub fn part(self) -> Part {
        match self {
            Self::Sferic | Self::SfericHttp => Part::Ours,
            Self::Echo | Self::Run | Self::RunBatch | Self::FeaturesRun | Self::FeaturesRunBatch => {
                Part::Limit
            }
            _ => Part::Peer,
        }
    }

    /// How it is called in tables, for so many workers.
    pub fn title(self, workers: usize) -> String {
        match self {
            Self::Sferic => "**sferic**, NATS".to_owned(),
            Self::SfericHttp => "**sferic**, HTTP".to_owned(),
            Self::NatsPy => format!("nats-py, {workers} workers"),
            Self::NatsPyBatch => format!("nats-py, {workers} workers, batches to {BATCH}"),
            Self::Mosec => format!("mosec, {workers} workers"),
            Self::MosecBatch => format!("mosec, {workers} workers, batches to {BATCH}"),
            Self::Litserve => format!("LitServe, {workers} workers"),
            Self::LitserveBatch => format!("LitServe, {workers} workers, batches to {BATCH}"),
            Self::Fastapi => format!("FastAPI, {workers} workers, JSON (base64), Redis"),
            Self::FastapiLists => format!("FastAPI, {workers} workers, JSON (lists), Redis"),
            Self::Echo => "bare responder on async-nats".to_owned(),
            Self::Run => format!("ONNX Runtime alone, {workers} threads"),
            Self::RunBatch => format!("ONNX Runtime alone, {workers} threads, batches of {BATCH}"),
            Self::FeaturesRun => format!("features and runs alone, {workers} threads"),
            Self::FeaturesRunBatch => {
                format!("features and runs alone, {workers} threads, batches of {BATCH}")
            }
        }
    }

    /// Frames of a run.
    pub fn batch(self) -> usize {
        match self {
            Self::NatsPyBatch
            | Self::MosecBatch
            | Self::LitserveBatch
            | Self::RunBatch
            | Self::FeaturesRunBatch => BATCH,
            _ => 1,
        }
    }

    /// Whether it is a loop in a process, which nobody asks.
    pub fn is_loop(self) -> bool {
        matches!(self, Self::Run | Self::RunBatch | Self::FeaturesRun | Self::FeaturesRunBatch)
    }

    /// Whether it needs the peers' Python packages.
    pub fn needs_python(self) -> bool {
        self.part() == Part::Peer
    }
}
