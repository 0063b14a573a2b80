//! The thread that makes events.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::event::{Event, text};
use super::interest::Kind;
use super::outcome::Published;
use super::viewers::Viewers;
use super::waterfall::{Spectra, Watched};

/// Copies that wait for the thread.
pub const QUEUE: usize = 2048;

/// Events are made together of what came within this time, and each viewer is woken once.
const GATHERED: Duration = Duration::from_millis(25);

/// Between two looks at the daemon.
const LOOK: Duration = Duration::from_secs(1);

/// Why the daemon is starting.
pub const STARTING: &str = "the models are being loaded, or there is no NATS server yet";

/// Reads a state of the daemon.
pub type Read = Box<dyn Fn() -> Value + Send>;

/// Where the state of the daemon is read.
pub struct State {
    /// How it is.
    pub health: Read,
    /// The models in service.
    pub models: Read,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// What the thread gets.
#[derive(Debug)]
pub enum Item {
    /// The daemon runs.
    Open(State),
    /// An outcome was published.
    Outcome(Published),
    /// A frame of a watched source has arrived.
    Frame(Watched),
    /// The daemon stops.
    End,
}

/// Waits for what comes together.
#[allow(clippy::disallowed_methods)] // a thread of its own, which may be blocked
fn gather() {
    std::thread::sleep(GATHERED);
}

/// The thread's.
pub struct Writer {
    viewers: Arc<Viewers>,
    state: Option<State>,
    spectra: Spectra,
}

impl Writer {
    pub fn new(viewers: Arc<Viewers>) -> Self {
        Self { viewers, state: None, spectra: Spectra::default() }
    }

    /// Makes events until the daemon stops.
    pub fn run(mut self, items: &Receiver<Item>) {
        let mut look_at = Instant::now();
        loop {
            let is_over = match items.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(item) => {
                    gather();
                    // In one go, and no more than were there: what arrives meanwhile is for the next one.
                    let waiting: Vec<_> = std::iter::once(item).chain(items.try_iter().take(QUEUE)).collect();
                    !waiting.into_iter().all(|item| self.take(item))
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if is_over {
                return;
            }
            if Instant::now() >= look_at {
                look_at = Instant::now() + LOOK;
                self.look();
            }
            self.viewers.wake();
        }
    }

    /// Makes an event of an item; false at the end.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Open(state) => self.state = Some(state),
            Item::Outcome(published) => {
                self.viewers.queued_bytes.fetch_sub(published.size(), Relaxed);
                let data = String::from_utf8_lossy(&published.event()).into_owned();
                let id = self.viewers.id(published.number);
                self.viewers.give(Event {
                    kind: Kind::Outcome,
                    text: text(Kind::Outcome, Some(&id), &data),
                    number: Some(published.number),
                    source: Some(published.source),
                });
            }
            Item::Frame(watched) => {
                self.viewers.queued_bytes.fetch_sub(watched.payload.len(), Relaxed);
                if let Some(row) = self.spectra.event(&watched) {
                    self.give(Kind::Waterfall, Some(watched.source), &row.to_string());
                }
            }
            Item::End => return false,
        }
        true
    }

    /// Looks at the daemon, where somebody else looks, too.
    fn look(&self) {
        self.viewers.rest();
        if self.viewers.len() == 0 {
            return;
        }
        let Some(state) = &self.state else {
            // As `/ready` says it.
            return self.give(
                Kind::Health,
                None,
                &json!({"status": "starting", "reason": STARTING}).to_string(),
            );
        };
        self.give(Kind::Health, None, &(state.health)().to_string());
        self.give(Kind::Models, None, &(state.models)().to_string());
    }

    fn give(&self, kind: Kind, source: Option<String>, data: &str) {
        self.viewers.give(Event { kind, source, number: None, text: text(kind, None, data) });
    }
}
