//! One connection to NATS that outlives the library's client.
//!
//! The client reconnects by itself, but a message that it cannot read may end its task (async-nats 0.51 asserts that a header value
//! holds no lone CR). Its end is seen here and a new client is made; whoever needs one asks for [`Connection::client`] each time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sferic_actors::supervision::Task;
use tokio::sync::watch;

use super::keeper::{Shared, State, Traffic, keep};
use super::refusals::{Action, Refusals};
use crate::settings::Nats;

/// How long an echo may take before it is asked for again.
const ECHO_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the client may take to hand on what the server said before an echo: it queues that for a task of its own, so that the
/// echo overtakes it, by microseconds where cores are free and by some milliseconds where other programs want them.
const EVENT_LAG: Duration = Duration::from_millis(20);

/// A handle to the connection; all clones are of the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    state: watch::Receiver<State>,
    client: Arc<RwLock<Client>>,
    shared: Arc<Shared>,
    _keeper: Arc<Task>,
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
        let shared = Shared::new(nats, name);
        let state = shared.state.subscribe();
        let (client, ended) = Shared::make_client(&shared, 1, wait).await?;
        if !wait {
            // The event that says so may still be on its way.
            shared.up(1);
        }
        let client = Arc::new(RwLock::new(client));
        let keeper = Task::spawn(keep(Arc::clone(&shared), Arc::clone(&client), ended));
        Ok(Self { state, client, shared, _keeper: Arc::new(keeper) })
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

    /// Returns once what the server refuses of everything that was asked of it before is known, in [`refusals`](Self::refusals).
    ///
    /// # Errors
    /// The server refuses the echo, which settles it as well; in its words.
    pub async fn settled(&self) -> Result<(), String> {
        let echoed = self.echo().await;
        tokio::time::sleep(EVENT_LAG).await;
        echoed
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
