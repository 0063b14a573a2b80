//! The command line.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sferic::cli::bench::BenchArgs;
use sferic::cli::breaker::BreakerArgs;
use sferic::cli::cache::CacheArgs;
use sferic::cli::calibrate::CalibrateArgs;
use sferic::cli::config::ConfigArgs;
use sferic::cli::demo::DemoArgs;
use sferic::cli::doctor::DoctorArgs;
use sferic::cli::models::ModelsArgs;
use sferic::cli::publish::PublishArgs;
use sferic::cli::record::RecordArgs;
use sferic::cli::replay::ReplayArgs;
use sferic::cli::run::RunArgs;
use sferic::cli::simulate::SimulateArgs;
use sferic::cli::soak::SoakArgs;
use sferic::cli::watch::WatchArgs;
use sferic_settings::available_cores;
use tokio::runtime::Builder;

/// Runs ONNX models on live radio: IQ frames in over NATS, predictions out.
#[derive(Parser)]
#[command(version)]
struct Root {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(RunArgs),
    Demo(DemoArgs),
    Publish(Box<PublishArgs>),
    Watch(WatchArgs),
    Record(RecordArgs),
    Replay(Box<ReplayArgs>),
    Simulate(SimulateArgs),
    Bench(Box<BenchArgs>),
    Soak(Box<SoakArgs>),
    Models(ModelsArgs),
    Calibrate(CalibrateArgs),
    Breaker(BreakerArgs),
    Cache(CacheArgs),
    Doctor(DoctorArgs),
    Config(ConfigArgs),
}

/// Tokio's variable for the number of its threads.
const ASYNC_THREADS: &str = "TOKIO_WORKER_THREADS";

fn main() -> ExitCode {
    sferic::nats::words::catch_panics();
    let command = Root::parse().command;
    let mut runtime = Builder::new_multi_thread();
    // The sessions compute; each more async thread wakes another for what one would have done as soon
    // (decision 0005).
    if matches!(command, Command::Run(_)) && std::env::var_os(ASYNC_THREADS).is_none() {
        runtime.worker_threads(available_cores().div_ceil(2));
    }
    let done = runtime
        .enable_all()
        .build()
        .context("cannot start the async threads")
        .and_then(|runtime| runtime.block_on(command.run()));
    done.unwrap_or_else(|error| {
        sferic::cli::report(&error);
        sferic::cli::exit_code(&error)
    })
}

impl Command {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => args.run().await,
            Self::Demo(args) => args.run().await,
            Self::Publish(args) => args.run().await,
            Self::Watch(args) => args.run().await,
            Self::Record(args) => args.run().await,
            Self::Replay(args) => args.run().await,
            Self::Simulate(args) => args.run().await,
            Self::Bench(args) => args.run().await,
            Self::Soak(args) => args.run().await,
            Self::Models(args) => args.run().await,
            Self::Calibrate(args) => args.run().await,
            Self::Breaker(args) => args.run().await,
            Self::Cache(args) => args.run().await,
            Self::Doctor(args) => args.run().await,
            Self::Config(args) => args.run(),
        }
    }
}
