//! Frames at even times, whatever has been answered.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use tokio::time::Instant;

/// Requests at a time, to find what the daemon gets through.
const USERS: usize = 32;

/// How long that is looked for.
const FINDING: Duration = Duration::from_secs(5);

async fn ask(client: &async_nats::Client, frame: Bytes) -> anyhow::Result<bool> {
    let reply = client.request("iq.frames.bench", frame).await?;
    Ok(reply.headers.is_none_or(|headers| headers.get("Nats-Service-Error-Code").is_none()))
}

/// Frames a second that a closed loop gets through.
///
/// # Errors
/// No answer, or a failure.
pub async fn most_per_s(client: &async_nats::Client, frames: &[Bytes]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut asked = stream::iter(frames.iter().cycle().cloned())
        .take_while(|_| std::future::ready(begun.elapsed() < FINDING))
        .map(|frame| ask(client, frame))
        .buffer_unordered(USERS);
    let mut count = 0;
    while let Some(answer) = asked.next().await {
        ensure!(answer?, "the daemon refuses frames");
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// Sends at even times; latencies in milliseconds, from when a frame should have been sent, and how many have
/// failed.
///
/// # Errors
/// No answer.
pub async fn latencies(
    client: &async_nats::Client,
    frames: &[Bytes],
    rate: f64,
    seconds: u32,
) -> anyhow::Result<(Vec<f64>, usize)> {
    let mut waiting = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let count = (rate * f64::from(seconds)) as usize;
    let (mut ms, mut failures, mut sent) = (Vec::with_capacity(count), 0, 0);
    while ms.len() < count {
        tokio::select! {
            due = ticks.tick(), if sent < count => {
                let (client, frame) = (client.clone(), frames[sent % frames.len()].clone());
                waiting.push(tokio::spawn(async move {
                    let is_good = ask(&client, frame).await?;
                    anyhow::Ok((due.elapsed().as_secs_f64() * 1e3, is_good))
                }));
                sent += 1;
            }
            Some(answer) = waiting.next() => {
                let (took, is_good) = answer??;
                ms.push(took);
                failures += usize::from(!is_good);
            }
        }
    }
    Ok((ms, failures))
}
