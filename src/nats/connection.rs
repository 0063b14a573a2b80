//! One connection to NATS that outlives the client of the library.
//!
//! The client reconnects by itself, but a message that it cannot read may end its task (async-nats 0.51
//! asserts that a header value holds no lone CR). The keeper then creates a new client, so callers get the
//! client from [`Connection::client`] each time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sferic_actors::task::Task;
use sferic_settings::Nats;
use tokio::sync::watch;

use super::keeper::{ConnectionState, Shared, Traffic, keep};
use super::refusals::{Action, Refusals};

/// Timeout after which an echo is requested again.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum delay between an echo and the events that the server sent before it: the client passes events to a
/// task of its own, so an echo overtakes them by microseconds, or by some milliseconds on busy cores.
const EVENT_LAG: Duration = Duration::from_millis(20);

/// A handle to the connection; clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    state: watch::Receiver<ConnectionState>,
    client: Arc<RwLock<Client>>,
    shared: Arc<Shared>,
    _keeper: Arc<Task>,
}

/// Connects with these settings. `name` is the client name that the server lists.
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

/// Like [`connect`], but does not need a server: the connection is down until there is one.
///
/// # Errors
/// Addresses or credentials that cannot be read.
pub async fn connect_when_there(nats: &Nats, name: &str) -> anyhow::Result<Connection> {
    Connection::open(nats, name, true).await
}

impl Connection {
    async fn open(nats: &Nats, name: &str, wait: bool) -> anyhow::Result<Self> {
        let shared = Shared::new(nats, name);
        let state = shared.state.subscribe();
        let (client, ended) = Shared::make_client(&shared, 1, wait).await?;
        if !wait {
            // The event that reports it may still be queued.
            shared.up(1);
        }
        let client = Arc::new(RwLock::new(client));
        let keeper = Task::spawn(keep(Arc::clone(&shared), Arc::clone(&client), ended));
        Ok(Self { state, client, shared, _keeper: Arc::new(keeper) })
    }

    /// The current client. Not to be kept, because it may end.
    pub fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of the current client. Read before [`client`](Self::client), it shows later whether that client
    /// is still the current one.
    pub fn generation(&self) -> u64 {
        self.state.borrow().generation
    }

    /// Number of connections made so far by all clients.
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

    /// Times the client reported dropped messages because the buffer of a subscription was full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Times the client ended and was replaced.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Relaxed)
    }

    /// Messages that the client could not read, each of which ended a connection or the client.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable.load(Relaxed)
    }

    /// Traffic of all clients.
    pub fn traffic(&self) -> Traffic {
        self.shared.ended().plus(&self.client())
    }

    /// Waits until the connection is up; `false` once it has been down for `bound`. The bound counts from
    /// when it went down, so that callers do not each wait anew.
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

    /// Waits for a client newer than `generation`; `false` where none will come because the connection is
    /// closed.
    pub async fn renewed(&self, generation: u64) -> bool {
        let mut state = self.state.clone();
        tokio::select! {
            renewed = state.wait_for(|state| state.generation > generation) => renewed.is_ok(),
            () = self.shared.closed() => false,
        }
    }

    /// Waits for a connection newer than `epoch`.
    pub async fn reconnected(&self, epoch: u64) {
        let mut state = self.state.clone();
        if state.wait_for(|state| state.epoch > epoch && state.down.is_none()).await.is_err() {
            std::future::pending().await
        }
    }

    /// Messages of a subject, across replaced clients; the stream ends when the connection is closed.
    pub async fn subscribe(
        &self,
        subject: String,
    ) -> Result<BoxStream<'static, Message>, async_nats::SubscribeError> {
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

    /// Waits until the server has executed every command sent before, and everything that it had sent before
    /// is received. The commands of a connection are executed in order, so this sends a message to itself and
    /// waits for it.
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
                    // The client has ended; or the connection may have been lost meanwhile, and the message
                    // with it.
                    Ok(None) if !self.renewed(generation).await => {
                        return Err("the connection is closed".to_owned());
                    }
                    Ok(None) | Err(_) => {}
                },
            }
        }
    }

    /// Waits until every refusal of the commands sent before is in [`refusals`](Self::refusals).
    ///
    /// # Errors
    /// The server refuses the echo, which settles it as well; in its words.
    pub async fn settled(&self) -> Result<(), String> {
        let echoed = self.echo().await;
        tokio::time::sleep(EVENT_LAG).await;
        echoed
    }

    /// Closes the connection after sending what is queued; at once where it is down.
    pub async fn close(self, bound: Duration) {
        self.shared.closing.store(true, Relaxed);
        // Wakes those that wait for another client.
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
