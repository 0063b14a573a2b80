//! One connection to NATS that outlives the library's client.
//!
//! The client reconnects by itself, but a message that it cannot read may end its task (async-nats 0.51 asserts that a header value
//! holds no lone CR). Its end is seen here and a new client is made; whoever needs one asks for [`Connection::client`] each time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_nats::connection::State as ClientState;
use async_nats::{Client, Event, Message, ServerError, Subscriber};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sferic_actors::supervision::Task;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::refusals::{Action, Refusals};
use super::sign_in::SignIn;
use super::{options, sign_in, words};
use crate::settings::Nats;
use crate::throttle::Throttle;

/// The shortest time between two clients, so that messages that end each of them do not keep a core busy.
const RESTART_INTERVAL: Duration = Duration::from_millis(100);

/// How long until the next attempt where no client can be made at all, its credentials' file being gone, say.
const RETRY: Duration = Duration::from_secs(1);

/// How often the client is asked for its state.
const LOOK: Duration = Duration::from_millis(500);

/// How long an echo may take before it is asked for again.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to the connection; all clones are of the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    state: watch::Receiver<State>,
    client: Arc<RwLock<Client>>,
    shared: Arc<Shared>,
    _keeper: Arc<Task>,
}

/// How the connection stands.
#[derive(Debug, Clone)]
struct State {
    /// Counts the clients.
    generation: u64,
    /// Counts the connections, of all clients together.
    epoch: u64,
    down: Option<Down>,
}

#[derive(Debug, Clone)]
struct Down {
    since: Instant,
    reason: String,
}

/// What the keeper, the client's events and the handles share.
#[derive(Debug)]
struct Shared {
    nats: Nats,
    name: String,
    state: watch::Sender<State>,
    refusals: Refusals,
    closing: AtomicBool,
    restarts: AtomicU64,
    dropped: AtomicU64,
    unreadable: AtomicU64,
    /// What went through clients that have ended.
    ended: Mutex<Traffic>,
    slow: Throttle,
    others: Throttle,
}

/// What went through the connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections made, the first among them.
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

/// Connects as the settings say. `name` is how the server lists the client.
///
/// # Errors
/// No server answers, or it refuses the user; says where and what.
pub async fn connect(nats: &Nats, name: &str) -> anyhow::Result<Connection> {
    let connecting = tokio::time::timeout(nats.connect_timeout, Connection::open(nats, name, false));
    let none = || {
        let (shown, timeout) = (nats.shown_url(), nats.connect_timeout);
        anyhow::anyhow!("no NATS server answered at {shown} within nats.connect_timeout, {timeout:?}")
    };
    connecting.await.map_err(|_| none())?
}

/// The same, but where no server is there yet, the connection is down until there is one.
///
/// # Errors
/// Addresses or credentials that cannot be read.
pub async fn connect_when_there(nats: &Nats, name: &str) -> anyhow::Result<Connection> {
    Connection::open(nats, name, true).await
}

impl Connection {
    async fn open(nats: &Nats, name: &str, wait: bool) -> anyhow::Result<Self> {
        let down = Some(Down { since: Instant::now(), reason: format!("no NATS server yet at {}", nats.shown_url()) });
        let (state, receiver) = watch::channel(State { generation: 1, epoch: 0, down });
        let shared = Arc::new(Shared {
            nats: nats.clone(),
            name: name.to_owned(),
            state,
            refusals: Refusals::default(),
            closing: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            ended: Mutex::default(),
            slow: Throttle::new(Duration::from_secs(1)),
            others: Throttle::new(Duration::from_secs(1)),
        });
        let (client, ended) = Shared::make_client(&shared, 1, wait).await?;
        if !wait {
            // The event that says so may still be on its way.
            shared.up(1);
        }
        let client = Arc::new(RwLock::new(client));
        let keeper = Task::spawn(keep(Arc::clone(&shared), Arc::clone(&client), ended));
        Ok(Self { state: receiver, client, shared, _keeper: Arc::new(keeper) })
    }

    /// The client of now. Not to be kept: it may end.
    pub fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the clients; asked for before [`client`](Self::client), it tells whether that one is still the one of now.
    pub fn generation(&self) -> u64 {
        self.state.borrow().generation
    }

    /// Counts the connections that were made, whichever client made them.
    pub fn epoch(&self) -> u64 {
        self.state.borrow().epoch
    }

    /// Whether it is up now.
    pub fn is_up(&self) -> bool {
        self.state.borrow().down.is_none()
    }

    /// Why it is down, where it is.
    pub fn down(&self) -> Option<String> {
        self.state.borrow().down.as_ref().map(|down| down.reason.clone())
    }

    /// What the server has refused.
    pub fn refusals(&self) -> &Refusals {
        &self.shared.refusals
    }

    /// How often the client said that it dropped messages because a subscription's buffer was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// How often the client ended and was made anew.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Relaxed)
    }

    /// Messages that the client could not read, each of which ended a connection or the client.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Relaxed)
    }

    /// What went through all clients.
    pub fn traffic(&self) -> Traffic {
        self.shared.ended().plus(&self.client())
    }

    /// Returns once the connection is up; `false` where it has been down for `bound` and so is given up on. Measured from when it
    /// went down, so that of many who wait none waits anew.
    pub async fn is_up_within(&self, bound: Duration) -> bool {
        let mut state = self.state.clone();
        loop {
            let since = state.borrow_and_update().down.as_ref().map(|down| down.since);
            let Some(since) = since else { return true };
            match tokio::time::timeout_at(since + bound, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    /// Returns once the connection has been down for `bound`.
    pub async fn lost(&self, bound: Duration) {
        let mut state = self.state.clone();
        while self.is_up_within(bound).await {
            if state.wait_for(|state| state.down.is_some()).await.is_err() {
                return;
            }
        }
    }

    /// Returns once there is a client after the one of `generation`; `false` where there will be none, the connection being closed.
    pub async fn renewed(&self, generation: u64) -> bool {
        let mut state = self.state.clone();
        tokio::select! {
            renewed = state.wait_for(|state| state.generation > generation) => renewed.is_ok(),
            () = self.shared.closed() => false,
        }
    }

    /// Returns once another connection was made than the one of `epoch`.
    pub async fn reconnected(&self, epoch: u64) {
        let mut state = self.state.clone();
        if state.wait_for(|state| state.epoch > epoch && state.down.is_none()).await.is_err() {
            std::future::pending().await
        }
    }

    /// Messages of a subject, whichever client reads them; they end when the connection is closed.
    pub async fn subscribe(&self, subject: String) -> Result<BoxStream<'static, Message>, async_nats::SubscribeError> {
        let generation = self.generation();
        let first = self.client().subscribe(subject.clone()).await?;
        let start = (self.clone(), subject, generation, first);
        Ok(stream::unfold(start, |(connection, subject, mut generation, mut subscriber)| async move {
            loop {
                if let Some(message) = subscriber.next().await {
                    return Some((message, (connection, subject, generation, subscriber)));
                }
                (generation, subscriber) = connection.resubscribe(generation, &subject).await?;
            }
        })
        .boxed())
    }

    async fn resubscribe(&self, ended: u64, subject: &str) -> Option<(u64, Subscriber)> {
        let mut ended = ended;
        loop {
            if !self.renewed(ended).await {
                return None;
            }
            ended = self.generation();
            if let Ok(subscriber) = self.client().subscribe(subject.to_owned()).await {
                return Some((ended, subscriber));
            }
        }
    }

    /// Returns once the server has done everything that was asked of it before, and all that it had sent before has been received:
    /// commands of one connection are carried out in order, so a message to oneself is asked for and awaited.
    ///
    /// # Errors
    /// The server refuses the message or its subscription; in its words.
    pub async fn echo(&self) -> Result<(), String> {
        let mut state = self.state.clone();
        loop {
            if state.wait_for(|state| state.down.is_none()).await.is_err() {
                return Err("the connection is closed".to_owned());
            }
            let generation = self.generation();
            let client = self.client();
            let inbox = client.new_inbox();
            let echoed = async {
                let mut echo = client.subscribe(inbox.clone()).await.ok()?;
                client.publish(inbox.clone(), Vec::new().into()).await.ok()?;
                echo.next().await
            };
            tokio::select! {
                words = self.refusals().refused(Action::Subscribe, &inbox, 0) => return Err(words),
                words = self.refusals().refused(Action::Publish, &inbox, 0) => return Err(words),
                echoed = tokio::time::timeout(ECHO_TIMEOUT, echoed) => match echoed {
                    Ok(Some(_)) => return Ok(()),
                    // The client has ended; or the connection may have been lost meanwhile, and the message with it.
                    Ok(None) if !self.renewed(generation).await => return Err("the connection is closed".to_owned()),
                    Ok(None) | Err(_) => {}
                },
            }
        }
    }

    /// Closes the connection after what is queued has been sent; at once where there is none.
    pub async fn close(self, bound: Duration) {
        self.shared.closing.store(true, Relaxed);
        // Whoever waits for another client looks again.
        self.shared.state.send_modify(|_| {});
        if !self.is_up() {
            return;
        }
        let client = self.client();
        let closing = async {
            let _ = client.flush().await;
            if client.drain().await.is_ok() {
                self.shared.closed().await;
            }
        };
        let _ = tokio::time::timeout(bound, closing).await;
    }
}

/// Makes a new client whenever one has ended.
async fn keep(shared: Arc<Shared>, client: Arc<RwLock<Client>>, mut ended: Ended) {
    loop {
        // The sender goes with the client's last task. Events are dropped where too many come, so the client is asked as well.
        let mut disagreed = false;
        while tokio::time::timeout(LOOK, &mut ended).await.is_err() {
            let state = client.read().unwrap_or_else(PoisonError::into_inner).connection_state();
            disagreed = shared.disagrees_with(&state) && (!disagreed || shared.agree_with(&state));
        }
        if shared.closing.load(Relaxed) {
            shared.down("the connection is closed".to_owned());
            return;
        }
        let began = Instant::now();
        let reason = words::of_panic().unwrap_or_else(|| "for no known reason".to_owned());
        tracing::error!(connection = shared.name, reason, "the NATS client ended; it is made anew");
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
                    shared.down(format!("no NATS client can be made: {error:#}"));
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

/// Resolves, to an error, when the client has ended.
type Ended = oneshot::Receiver<()>;

impl Shared {
    /// Makes a client; one that waits for a server is there at once.
    async fn make_client(shared: &Arc<Self>, generation: u64, wait: bool) -> anyhow::Result<(Client, Ended)> {
        let (alive, ended) = oneshot::channel();
        let watching = Arc::clone(shared);
        let sign_in = SignIn::of(&shared.nats)?;
        let options = options::of(&shared.nats, &shared.name, &sign_in).await?.event_callback(move |event| {
            let _ends_with_the_client = &alive;
            watching.saw(generation, event);
            std::future::ready(())
        });
        let options = if wait { options.retry_on_initial_connect() } else { options };
        let connecting = options.connect(sign_in::addresses(&shared.nats)).await;
        let client = connecting.map_err(|error| sign_in.explain(&error, &shared.nats.shown_url()))?;
        Ok((client, ended))
    }

    fn saw(&self, generation: u64, event: Event) {
        let connection = &self.name;
        match event {
            Event::Connected => self.connected(generation),
            Event::Disconnected | Event::Closed => self.disconnected(),
            Event::Draining => {}
            Event::LameDuckMode => tracing::info!(%event, "NATS"),
            Event::SlowConsumer(id) => {
                self.dropped.fetch_add(1, Relaxed);
                if let Some(unsaid) = self.slow.pass(Instant::now()) {
                    tracing::error!(subscription = id, unsaid, "the NATS client dropped messages: a buffer was full");
                }
            }
            event => {
                match &event {
                    Event::ServerError(ServerError::Other(words)) => self.refusals.saw(words),
                    // Attempts to connect that failed.
                    Event::ClientError(error) => self.still_down(&error.to_string()),
                    _ => {}
                }
                if let Some(unsaid) = self.others.pass(Instant::now()) {
                    tracing::warn!(connection, %event, unsaid, "NATS");
                }
            }
        }
    }

    fn disagrees_with(&self, client: &ClientState) -> bool {
        let is_up = self.state.borrow().down.is_none();
        *client != ClientState::Pending && is_up != (*client == ClientState::Connected)
    }

    /// Makes up for an event that was dropped. Nothing is left to disagree about then.
    fn agree_with(&self, client: &ClientState) -> bool {
        let generation = self.state.borrow().generation;
        if *client == ClientState::Connected {
            self.up(generation)
        } else {
            self.disconnected()
        }
        false
    }

    fn connected(&self, generation: u64) {
        if self.state.borrow().down.is_none() {
            // The event of the end before it was dropped; it is another connection all the same.
            self.state.send_modify(|state| state.epoch += 1);
        }
        self.up(generation);
    }

    fn up(&self, generation: u64) {
        let is_news = self.state.send_if_modified(|state| {
            let is_news = state.down.is_some() && state.generation <= generation;
            if is_news {
                (state.down, state.epoch) = (None, state.epoch + 1);
            }
            is_news
        });
        if is_news {
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

    fn down(&self, reason: String) {
        self.state.send_modify(|state| {
            let since = state.down.as_ref().map_or_else(Instant::now, |down| down.since);
            state.down = Some(Down { since, reason });
        });
    }

    /// Says why it is not back yet.
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
    async fn closed(&self) {
        let mut state = self.state.subscribe();
        // The sender is our own, so this ends only with the condition.
        let _ = state.wait_for(|state| state.down.is_some() && self.closing.load(Relaxed)).await;
    }

    fn ended(&self) -> Traffic {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traffic {
    fn plus(self, client: &Client) -> Self {
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
