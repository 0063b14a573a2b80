//! Keeps a client: replaces it when it has ended, and tracks the state of the connection from its events.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_nats::connection::State as ClientState;
use async_nats::{Client, Event, ServerError};
use sferic_settings::Nats;
use sferic_telemetry::{Throttle, with_causes};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::refusals::Refusals;
use super::sign_in::SignIn;
use super::{options, sign_in, words};

/// Minimum time between two clients, so that messages that end each of them do not keep a core busy.
const RESTART_INTERVAL: Duration = Duration::from_millis(100);

/// Time until the next attempt where no client can be created, because the credentials file is missing for
/// example.
const RETRY: Duration = Duration::from_secs(1);

/// Interval at which the state of the client is polled.
const LOOK: Duration = Duration::from_millis(500);

/// State of the connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionState {
    /// Number of the current client.
    pub(super) generation: u64,
    /// Number of connections so far, of all clients together.
    pub(super) epoch: u64,
    pub(super) down: Option<Down>,
}

#[derive(Debug, Clone)]
pub(super) struct Down {
    pub(super) since: Instant,
    pub(super) reason: String,
}

/// State shared by the keeper, the event callback and the handles.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) nats: Nats,
    pub(super) name: String,
    pub(super) state: watch::Sender<ConnectionState>,
    pub(super) refusals: Refusals,
    pub(super) closing: AtomicBool,
    pub(super) restarts: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) unreadable: AtomicU64,
    /// Traffic of clients that have ended.
    pub(super) ended: Mutex<Traffic>,
    pub(super) slow: Throttle,
    pub(super) others: Throttle,
}

/// Traffic of the connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections made, including the first.
    pub connects: u64,
    /// Messages received.
    pub in_messages: u64,
    /// Messages sent.
    pub out_messages: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Bytes sent.
    pub out_bytes: u64,
}

/// Creates a new client whenever one has ended.
pub(super) async fn keep(shared: Arc<Shared>, client: Arc<RwLock<Client>>, mut ended: Ended) {
    loop {
        // The sender is dropped with the last task of the client. Events are dropped when too many come, so
        // the client is polled too.
        let mut disagreed = false;
        while tokio::time::timeout(LOOK, &mut ended).await.is_err() {
            let state = client.read().unwrap_or_else(PoisonError::into_inner).connection_state();
            let disagrees = shared.disagrees_with(&state);
            // An event may still be on its way, so the first time counts for nothing.
            if disagrees && disagreed {
                shared.agree_with(&state);
            }
            disagreed = disagrees && !disagreed;
        }
        if shared.closing.load(Relaxed) {
            shared.down("the connection is closed".to_owned());
            return;
        }
        let began = Instant::now();
        let reason = words::of_panic().unwrap_or_else(|| "for no known reason".to_owned());
        tracing::error!(connection = shared.name, reason, "the NATS client ended; it is replaced");
        shared.restarts.fetch_add(1, Relaxed);
        shared.unreadable.fetch_add(1, Relaxed);
        shared.down(format!("the NATS client ended: {reason}"));
        let gone = client.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sum = shared.ended().plus(&gone);
        *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = sum;
        let generation = shared.state.borrow().generation + 1;
        let (new, its_end) = loop {
            match Shared::make_client(&shared, generation, true).await {
                Ok(made) => break made,
                Err(error) => {
                    shared.down(format!("no NATS client can be created: {}", with_causes(&error)));
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        ended = its_end;
        *client.write().unwrap_or_else(PoisonError::into_inner) = new;
        shared.state.send_modify(|state| state.generation = generation);
        tokio::time::sleep_until(began + RESTART_INTERVAL).await;
    }
}

/// Resolves, with an error, when the client has ended.
pub(super) type Ended = oneshot::Receiver<()>;

impl Shared {
    /// State of a connection that was never up.
    pub(super) fn new(nats: &Nats, name: &str) -> Arc<Self> {
        let down = Some(Down {
            since: Instant::now(),
            reason: format!("no NATS server yet at {}", nats.shown_url()),
        });
        Arc::new(Self {
            nats: nats.clone(),
            name: name.to_owned(),
            state: watch::Sender::new(ConnectionState { generation: 1, epoch: 0, down }),
            refusals: Refusals::default(),
            closing: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            ended: Mutex::default(),
            slow: Throttle::new(Duration::from_secs(1)),
            others: Throttle::new(Duration::from_secs(1)),
        })
    }

    /// Creates a client; with `wait` at once, without waiting for a server.
    pub(super) async fn make_client(
        shared: &Arc<Self>,
        generation: u64,
        wait: bool,
    ) -> anyhow::Result<(Client, Ended)> {
        let (alive, ended) = oneshot::channel();
        let watching = Arc::clone(shared);
        let sign_in = SignIn::of(&shared.nats)?;
        let options = options::of(&shared.nats, &shared.name, &sign_in).await?.event_callback(move |event| {
            let _ends_with_the_client = &alive;
            watching.on_event(generation, event);
            std::future::ready(())
        });
        let options = if wait { options.retry_on_initial_connect() } else { options };
        match options.connect(sign_in::addresses(&shared.nats)).await {
            Ok(client) => Ok((client, ended)),
            Err(error) => Err(sign_in.explain(&error, &shared.nats.shown_url()).await.into()),
        }
    }

    fn on_event(&self, generation: u64, event: Event) {
        let connection = &self.name;
        match event {
            Event::Connected => self.connected(generation),
            Event::Disconnected | Event::Closed => self.disconnected(),
            Event::Draining => {}
            Event::LameDuckMode => tracing::info!(%event, "NATS"),
            Event::SlowConsumer(id) => {
                self.dropped.fetch_add(1, Relaxed);
                if let Some(suppressed) = self.slow.pass(Instant::now()) {
                    tracing::error!(
                        subscription = id,
                        suppressed,
                        "the NATS client dropped messages: a buffer was full"
                    );
                }
            }
            event => {
                match &event {
                    Event::ServerError(ServerError::Other(words)) => self.refusals.record(words),
                    // Failed attempts to connect.
                    Event::ClientError(error) => self.still_down(&error.to_string()),
                    _ => {}
                }
                if let Some(suppressed) = self.others.pass(Instant::now()) {
                    tracing::warn!(connection, %event, suppressed, "NATS");
                }
            }
        }
    }

    fn disagrees_with(&self, client: &ClientState) -> bool {
        let is_up = self.state.borrow().down.is_none();
        *client != ClientState::Pending && is_up != (*client == ClientState::Connected)
    }

    /// Applies the state of the client, because its event was dropped.
    fn agree_with(&self, client: &ClientState) {
        let generation = self.state.borrow().generation;
        if *client == ClientState::Connected {
            self.up(generation);
        } else {
            self.disconnected();
        }
    }

    fn connected(&self, generation: u64) {
        if self.state.borrow().down.is_none() {
            // The event of the disconnection was dropped; this is a new connection all the same.
            self.state.send_modify(|state| state.epoch += 1);
        }
        self.up(generation);
    }

    pub(super) fn up(&self, generation: u64) {
        let has_changed = self.state.send_if_modified(|state| {
            let has_changed = state.down.is_some() && state.generation <= generation;
            if has_changed {
                (state.down, state.epoch) = (None, state.epoch + 1);
            }
            has_changed
        });
        if has_changed {
            tracing::info!(connection = self.name, server = self.nats.shown_url(), "connected to NATS");
        }
    }

    fn disconnected(&self) {
        if self.closing.load(Relaxed) {
            self.down("the connection is closed".to_owned());
        }
        if self.state.borrow().down.is_some() {
            return;
        }
        let reason = words::of_disconnect();
        let unreadable = reason.as_ref().is_some_and(|words| words.is_about_a_message);
        self.unreadable.fetch_add(unreadable.into(), Relaxed);
        let reason = reason.map_or_else(|| "the server closed the connection".to_owned(), |words| words.text);
        tracing::warn!(connection = self.name, reason, unreadable, "disconnected from NATS");
        self.down(format!("disconnected from NATS at {}: {reason}", self.nats.shown_url()));
    }

    pub(super) fn down(&self, reason: String) {
        self.state.send_modify(|state| {
            let since = state.down.as_ref().map_or_else(Instant::now, |down| down.since);
            state.down = Some(Down { since, reason });
        });
    }

    /// Updates the reason why the connection is down.
    fn still_down(&self, why: &str) {
        let detail = words::of_attempt().unwrap_or_else(|| why.trim_start_matches("nats: ").to_owned());
        let reason = format!("no connection to NATS at {}: {detail}", self.nats.shown_url());
        self.state.send_if_modified(|state| match &mut state.down {
            Some(down) => {
                down.reason = reason;
                true
            }
            None => false,
        });
    }

    /// Returns once the connection is closed on purpose and down.
    pub(super) async fn closed(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so this ends only with the condition.
        let _ = state.wait_for(|state| state.down.is_some() && self.closing.load(Relaxed)).await;
    }

    pub(super) fn ended(&self) -> Traffic {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traffic {
    pub(super) fn plus(self, client: &Client) -> Self {
        let of_client = client.statistics();
        Self {
            connects: self.connects + of_client.connects.load(Relaxed),
            in_messages: self.in_messages + of_client.in_messages.load(Relaxed),
            out_messages: self.out_messages + of_client.out_messages.load(Relaxed),
            in_bytes: self.in_bytes + of_client.in_bytes.load(Relaxed),
            out_bytes: self.out_bytes + of_client.out_bytes.load(Relaxed),
        }
    }
}
