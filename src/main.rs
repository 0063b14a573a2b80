//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sferic::cli::bench::BenchArgs;
use sferic::cli::breaker::BreakerArgs;
use sferic::cli::cache::CacheArgs;
use sferic::cli::config::ConfigArgs;
use sferic::cli::demo::DemoArgs;
use sferic::cli::doctor::DoctorArgs;
use sferic::cli::models::ModelsArgs;
use sferic::cli::publish::PublishArgs;
use sferic::cli::run::RunArgs;
use sferic::cli::simulate::SimulateArgs;
use sferic::cli::soak::SoakArgs;
use sferic::cli::watch::WatchArgs;

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
    Simulate(SimulateArgs),
    Bench(Box<BenchArgs>),
    Soak(Box<SoakArgs>),
    Models(ModelsArgs),
    Breaker(BreakerArgs),
    Cache(CacheArgs),
    Doctor(DoctorArgs),
    Config(ConfigArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    sferic::nats::words::catch_panics();
    let done = match Root::parse().command {
        Command::Run(args) => args.run().await,
        Command::Demo(args) => args.run().await,
        Command::Publish(args) => args.run().await,
        Command::Watch(args) => args.run().await,
        Command::Simulate(args) => args.run().await,
        Command::Bench(args) => args.run().await,
        Command::Soak(args) => args.run().await,
        Command::Models(args) => args.run().await,
        Command::Breaker(args) => args.run().await,
        Command::Cache(args) => args.run().await,
        Command::Doctor(args) => args.run().await,
        Command::Config(args) => args.run(),
    };
    done.unwrap_or_else(|error| {
        sferic::cli::report(&error);
        sferic::cli::exit_code(&error)
    })
}
