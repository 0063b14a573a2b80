//! Makes the training data of the shipped models: simulated frames, with features computed as in the daemon.
//!
//! Reads the `[features]` or `[[inputs]]` of a model bundle, so training and serving have the same features,
//! and writes NumPy arrays. The same seed gives the same arrays, whatever the number of threads.

mod captures;
mod generate;
mod inputs;
mod npy;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

use inputs::Inputs;

/// Makes the training data of the shipped models.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The bundle's model.toml; its inputs are computed.
    #[arg(long)]
    model: PathBuf,
    /// Folder for the arrays; made if missing.
    #[arg(long)]
    out: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Simulated scenes: inputs, truth, snr and trilateration.
    Scenes {
        /// Number of scenes.
        #[arg(long)]
        count: usize,
        /// Seed of the simulation.
        #[arg(long)]
        seed: u64,
    },
    /// Simulated single-channel frames: inputs, family and snr.
    Frames {
        /// Number of frames.
        #[arg(long)]
        count: usize,
        /// Seed of the simulation.
        #[arg(long)]
        seed: u64,
        /// Samples in a frame.
        #[arg(long, default_value_t = 8192)]
        samples: usize,
    },
    /// Clean waveforms made elsewhere (samples.npy, family.npy, bandwidth.npy), received as simulated ones
    /// are: inputs, family and snr.
    Waveforms {
        /// Their folder.
        from: PathBuf,
        /// Seed of the simulation.
        #[arg(long)]
        seed: u64,
    },
    /// Frames made elsewhere (samples.npy), as they are: inputs.
    Samples {
        /// Their folder.
        from: PathBuf,
    },
    /// Recordings in a folder of SigMF captures: inputs, and captures.json with the file of each frame.
    Captures {
        /// The folder, searched to any depth.
        folder: PathBuf,
        /// Samples in a frame.
        #[arg(long, default_value_t = 8192)]
        samples: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let inputs = &Inputs::read(&cli.model)?;
    std::fs::create_dir_all(&cli.out).with_context(|| format!("make {}", cli.out.display()))?;
    match cli.what {
        What::Scenes { count, seed } => generate::scenes(inputs, &cli.out, count, seed),
        What::Frames { count, seed, samples } => generate::frames(inputs, &cli.out, count, seed, samples),
        What::Waveforms { from, seed } => generate::waveforms(inputs, &cli.out, &from, seed),
        What::Samples { from } => generate::samples(inputs, &cli.out, &from),
        What::Captures { folder, samples } => captures::captures(inputs, &cli.out, &folder, samples),
    }
}
