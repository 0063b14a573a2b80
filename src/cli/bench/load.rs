//! The load: users that wait for their answers, or frames at given times whatever has been answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::client::{Client, Ended};
use super::frames::Frames;

/// Requests that may be on their way in an open loop; further ones are not sent, and counted as missed.
const MOST: usize = 20_000;

/// Different sources: the users' frames, and those of an open loop in turn.
const SOURCES: u64 = 64;

/// A request that is over. Times are from the beginning of the load.
#[derive(Debug)]
pub struct Done {
    /// When it should have been sent.
    pub intended: Duration,
    /// When it was; `None` where it was not, because too many were on their way.
    pub sent: Option<Duration>,
    pub ended: Duration,
    /// Which of the different frames it was.
    pub which: u32,
    /// `Err`: it could not be sent.
    pub how: Result<Ended, String>,
}

/// What sends.
#[derive(Clone)]
pub struct Load {
    pub client: Arc<Client>,
    pub frames: Arc<Frames>,
    /// The longest time for an outcome.
    pub patience: Duration,
}

impl Load {
    /// So many users, each of which sends its next frame when it has the outcome of the last. `which` are the
    /// frames, which the users take in turn.
    pub fn users(self, users: usize, which: Vec<u32>) -> mpsc::UnboundedReceiver<Done> {
        let (done, receiver) = mpsc::unbounded_channel();
        let (which, next) = (Arc::new(which), Arc::new(AtomicUsize::new(0)));
        let begun = Instant::now();
        for user in 0..users {
            let (load, which, next, done) =
                (self.clone(), Arc::clone(&which), Arc::clone(&next), done.clone());
            tokio::spawn(async move {
                while let Some(which) = which.get(next.fetch_add(1, Relaxed)) {
                    let sent = begun.elapsed();
                    let how = load.ask(user as u64 % SOURCES, *which).await;
                    let ended = begun.elapsed();
                    let request = Done { intended: sent, sent: Some(sent), ended, which: *which, how };
                    if done.send(request).is_err() {
                        return;
                    }
                }
            });
        }
        receiver
    }

    /// A frame at each of these times.
    pub fn at(self, times: Vec<Duration>, which: Vec<u32>) -> mpsc::UnboundedReceiver<Done> {
        let (done, receiver) = mpsc::unbounded_channel();
        let runtime = Handle::current();
        let under_way = Arc::new(AtomicUsize::new(0));
        // A thread of its own: the timer of the runtime has a resolution of a millisecond.
        let sending = move || {
            let begun = Instant::now();
            for (n, (intended, which)) in times.into_iter().zip(which).enumerate() {
                while let Some(left) = intended.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                    std::thread::park_timeout(left);
                }
                if done.is_closed() {
                    return;
                }
                if under_way.load(Relaxed) >= MOST {
                    let (ended, how) = (begun.elapsed(), Ok(Ended::TimedOut));
                    let _ = done.send(Done { intended, sent: None, ended, which, how });
                    continue;
                }
                under_way.fetch_add(1, Relaxed);
                let (load, done, under_way) = (self.clone(), done.clone(), Arc::clone(&under_way));
                runtime.spawn(async move {
                    let sent = begun.elapsed();
                    let how = load.ask(n as u64 % SOURCES, which).await;
                    let ended = begun.elapsed();
                    under_way.fetch_sub(1, Relaxed);
                    let _ = done.send(Done { intended, sent: Some(sent), ended, which, how });
                });
            }
        };
        // Where it does not start nothing is sent, and the receiver ends.
        if let Err(error) = std::thread::Builder::new().name("load".to_owned()).spawn(sending) {
            tracing::error!(%error, "no thread for the load");
        }
        receiver
    }

    async fn ask(&self, user: u64, which: u32) -> Result<Ended, String> {
        let frame = self.frames.frame(which);
        self.client.ask(user, frame, self.patience).await.map_err(|error| format!("{error:#}"))
    }
}
