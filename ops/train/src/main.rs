//! Makes the training data of the shipped models: simulated frames, with features computed as in the daemon.
//!
//! Reads the `[features]` of a model bundle, so training and serving have the same features, and writes NumPy
//! arrays. The same seed gives the same arrays, whatever the number of threads.

mod captures;
mod generate;
mod npy;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use sferic_features::FeatureConfig;

/// Makes the training data of the shipped models.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The bundle's model.toml; its [features] are computed.
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
    /// Simulated scenes: features, truth, snr and trilateration.
    Scenes {
        /// Number of scenes.
        #[arg(long)]
        count: usize,
        /// Seed of the simulation.
        #[arg(long)]
        seed: u64,
    },
    /// Simulated single-channel frames: features, family and snr.
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
    /// Recordings in a folder of SigMF captures: features, and captures.json with the file of each frame.
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
    let config = features_of(&cli.model)?;
    std::fs::create_dir_all(&cli.out).with_context(|| format!("make {}", cli.out.display()))?;
    match cli.what {
        What::Scenes { count, seed } => generate::scenes(&config, &cli.out, count, seed),
        What::Frames { count, seed, samples } => generate::frames(&config, &cli.out, count, seed, samples),
        What::Captures { folder, samples } => captures::captures(&config, &cli.out, &folder, samples),
    }
}

/// The `[features]` table of a bundle.
fn features_of(model_toml: &Path) -> anyhow::Result<FeatureConfig> {
    #[derive(serde::Deserialize)]
    struct Bundle {
        #[serde(default)]
        features: FeatureConfig,
    }
    let text =
        std::fs::read_to_string(model_toml).with_context(|| format!("read {}", model_toml.display()))?;
    let bundle: Bundle = toml::from_str(&text).with_context(|| format!("read {}", model_toml.display()))?;
    bundle.features.validate()?;
    Ok(bundle.features)
}
