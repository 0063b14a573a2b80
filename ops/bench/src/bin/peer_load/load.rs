//! Loads a side: users that wait for their answers, or requests at given times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sferic_load::{Arrivals, Histogram};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{Door, PATIENCE, User};
use crate::measurement::Measured;
use crate::processes::{Roles, used};

/// Numbers of frames, none of which is sent twice.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Requests on their way in an open loop; a side with more has not kept up.
const MOST: usize = 400;

/// Significant digits of latencies.
const DIGITS: u8 = 3;

fn number() -> u64 {
    NUMBER.fetch_add(1, Relaxed)
}

/// So many users, each of which sends its next frame when it has the answer to its last. What ends before
/// `warm_up` is over is not measured; the latency of requests that end after the window counts, or the slow
/// ones of a short window would be missing.
///
/// # Errors
/// A request fails.
pub async fn closed(
    door: &Door,
    roles: &Roles,
    users: usize,
    warm_up: Duration,
    time: Duration,
) -> anyhow::Result<Measured> {
    let mut ready = Vec::new();
    for n in 0..users {
        ready.push(door.user(n as u64).await?);
    }
    let start = Instant::now() + warm_up;
    let end = start + time;
    let mut tasks = JoinSet::new();
    for mut user in ready {
        tasks.spawn(async move {
            // When each ended, and what it took.
            let mut done = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok(done);
                }
                user.ask(Some(number())).await?;
                let ended = Instant::now();
                if ended >= start {
                    done.push((ended, ended - sent));
                }
            }
        });
    }
    tokio::time::sleep_until(start.into()).await;
    let (before, began) = (used(roles)?, Instant::now());
    tokio::time::sleep_until(end.into()).await;
    let (after, seconds) = (used(roles)?, began.elapsed().as_secs_f64());
    let (mut latency, mut answers) = (Histogram::new(DIGITS)?, 0);
    while let Some(done) = next(&mut tasks).await? {
        for (ended, took) in done {
            latency.record(took);
            answers += u64::from(ended < end);
        }
    }
    // The two looks at the processes are not as exactly apart as the window's ends.
    let share = time.as_secs_f64() / seconds;
    let cpu_s = after.cpu_since(&before).into_iter().map(|(role, cpu_s)| (role, cpu_s * share)).collect();
    Measured::new(answers, time.as_secs_f64(), &latency, cpu_s, after.resident_mib())
}

/// A Poisson process of this rate. Latency is from when a request was due, so that a stall shows in all that
/// were due in it.
///
/// # Errors
/// A request fails, or the side does not keep up.
pub async fn open(
    door: &Door,
    roles: &Roles,
    rate: f64,
    seed: u64,
    time: Duration,
) -> anyhow::Result<Measured> {
    let arrivals: Vec<Duration> = Arrivals::poisson(rate, seed)?.within(time).collect();
    ensure!(!arrivals.is_empty(), "no request is due within {time:?} at {rate:.2} a second");
    let mut free: Vec<User> = Vec::new();
    for n in 0..8 {
        free.push(door.user(n).await?);
    }
    let before = used(roles)?;
    let (due, mut receiver) = mpsc::unbounded_channel();
    let begun = Arc::new(Instant::now());
    let clock = Arc::clone(&begun);
    // A thread of its own: the runtime's timer has a resolution of a millisecond.
    let schedule = std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
        for intended in arrivals {
            while let Some(left) = intended.checked_sub(clock.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            if due.send(intended).is_err() {
                return;
            }
        }
    })?;
    let mut tasks = JoinSet::new();
    let (mut latency, mut answers, mut opened) = (Histogram::new(DIGITS)?, 0, free.len() as u64);
    let mut take = |(user, took): (User, Duration), free: &mut Vec<User>| {
        free.push(user);
        latency.record(took);
        answers += 1;
    };
    while let Some(intended) = receiver.recv().await {
        while let Some(done) = tasks.try_join_next() {
            take(done??, &mut free);
        }
        ensure!(tasks.len() < MOST, "{MOST} requests are on their way: it does not keep up with {rate:.1}/s");
        let mut user = match free.pop() {
            Some(user) => user,
            None => {
                opened += 1;
                door.user(opened).await?
            }
        };
        let begun = Arc::clone(&begun);
        tasks.spawn(async move {
            user.ask(Some(number())).await?;
            anyhow::Ok((user, begun.elapsed() - intended))
        });
    }
    schedule.join().map_err(|_| anyhow::anyhow!("the schedule panicked"))?;
    while let Some(done) = next(&mut tasks).await? {
        take(done, &mut free);
    }
    let (after, seconds) = (used(roles)?, begun.elapsed().as_secs_f64());
    Measured::new(answers, seconds, &latency, after.cpu_since(&before), after.resident_mib())
}

/// What the next task that ends has done, in bounded time.
async fn next<T: 'static>(tasks: &mut JoinSet<anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    let next = tokio::time::timeout(PATIENCE, tasks.join_next()).await;
    next.with_context(|| format!("no answer within {PATIENCE:?}"))?.transpose()?.transpose()
}
