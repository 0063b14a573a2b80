//! `ops/bench/table`: a day of outcomes into a table, and how much memory that takes.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::json;
use sferic::nats::PrivateServer;
use sferic::usage::Usage;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::sleep;

/// Publishes predictions as a daemon does, and writes them with `sferic watch --parquet`.
#[derive(Debug, Parser)]
struct Args {
    /// The command.
    #[arg(long)]
    sferic: String,
    /// The file to write.
    #[arg(long)]
    file: String,
    /// How many outcomes: by default those of a day at 100 a second.
    #[arg(long, default_value_t = 8_640_000)]
    outcomes: u64,
    /// Outcomes a second.
    #[arg(long, default_value_t = 40_000)]
    rate: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(!Path::new(&args.file).exists(), "{} is there already", args.file);
    let server = PrivateServer::start(&[]).await?;
    let count = args.outcomes.to_string();
    let mut watch = Command::new(&args.sferic)
        .args(["watch", "--url", server.url(), "--parquet", &args.file, "--count", &count])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start sferic")?;
    let mut talk = BufReader::new(watch.stderr.take().context("no standard error")?);
    let mut line = String::new();
    talk.read_line(&mut line).await?;
    ensure!(line.contains("listening"), "{line}");
    let client = async_nats::connect(server.url()).await?;
    let pid = watch.id().context("sferic has ended")?;
    let (begun, mut most, mut said_at) = (Instant::now(), 0, Instant::now());
    for n in 0..args.outcomes {
        let subject = format!("iq.predictions.north.rx{}", n % 20);
        client.publish(subject, rmp_serde::to_vec_named(&prediction(n))?.into()).await?;
        if n % 400 == 0 {
            client.flush().await?;
            let due = Duration::from_secs_f64(n as f64 / args.rate as f64);
            sleep(due.saturating_sub(begun.elapsed())).await;
            most = most.max(Usage::of(pid)?.resident_bytes);
            if said_at.elapsed() > Duration::from_secs(10) {
                said_at = Instant::now();
                eprintln!("{n} of {}, at most {} MB", args.outcomes, most / 1_000_000);
            }
        }
    }
    client.flush().await?;
    let mut said = String::new();
    talk.read_to_string(&mut said).await?;
    let status = watch.wait().await?;
    ensure!(status.success(), "{said}");
    let (seconds, bytes) = (begun.elapsed().as_secs_f64(), std::fs::metadata(&args.file)?.len());
    println!(
        "{} outcomes in {seconds:.0} s, {:.0} a second; {} MB written; resident at most {} MB",
        args.outcomes,
        args.outcomes as f64 / seconds,
        bytes / 1_000_000,
        most / 1_000_000
    );
    Ok(())
}

fn prediction(n: u64) -> serde_json::Value {
    let (x, y) = ((n as f64 * 0.37).sin(), (n as f64 * 0.23).cos());
    json!({
        "frame_id": format!("01a2241f-e7dc-76ab-be59-{n:012}"),
        "source": format!("north.rx{}", n % 20), "session_id": null, "seq": n / 20, "datetime": null,
        "frequency": 868.3e6, "kind": "localization",
        "position": {"latitude": 45.0 + 0.03 * x, "longitude": 7.6 + 0.03 * y},
        "uncertainty": {"sigma_x": 900.0 + 300.0 * x, "sigma_y": 700.0 + 200.0 * y, "theta": 30.0 * x,
            "confidence_interval": 0.68},
        "ellipse": {"semi_major": 1400.0 + 450.0 * x, "semi_minor": 1000.0 + 300.0 * y, "rotation": 30.0 * x,
            "area": 4.4e6},
        "confidence": null, "model": "localization", "model_version": "1", "model_digest": "5f".repeat(32),
        "inference_time_ms": 0.6 + 0.1 * x,
        "stages_ms": {"decode": 0.03, "features": 0.06, "queue": 0.07, "inference": 0.25 + 0.1 * y},
        "batch_size": 1, "_cache_hit": n.is_multiple_of(3),
        "timestamp": format!("2026-11-28T{:02}:{:02}:{:02}.{:02}0000Z",
            n / 360_000 % 24, n / 6000 % 60, n / 100 % 60, n % 100),
    })
}
