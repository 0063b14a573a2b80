//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sferic::cli::publish::PublishArgs;
use sferic::cli::simulate::SimulateArgs;
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
    Publish(Box<PublishArgs>),
    Watch(WatchArgs),
    Simulate(SimulateArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Root::parse().command {
        Command::Publish(args) => args.run().await,
        Command::Watch(args) => args.run().await,
        Command::Simulate(args) => args.run().await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        sferic::cli::exit_code(&error)
    })
}
