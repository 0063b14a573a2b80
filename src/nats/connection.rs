//! One connection, and since when it is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;
use tokio::time::Instant;

use super::sign_in::{self, SignIn};
use crate::settings::{Nats, given};
use crate::throttle::Throttle;

/// A client, and the state of its connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    down_since: watch::Receiver<Option<Instant>>,
    closing: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Connection {
    /// Whether it is up now.
    pub fn is_up(&self) -> bool {
        self.down_since.borrow().is_none()
    }

    /// How often the client said that it dropped messages because a subscription's buffer was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns once the connection is up; `false` where it has been down for `bound` and so is given up on. Measured from when it
    /// went down, so that of many who wait none waits anew.
    pub async fn is_up_within(&self, bound: Duration) -> bool {
        let mut down_since = self.down_since.clone();
        loop {
            let Some(since) = *down_since.borrow_and_update() else { return true };
            match tokio::time::timeout_at(since + bound, down_since.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }

    /// Returns once the connection has been down for `bound`.
    pub async fn lost(&self, bound: Duration) {
        let mut down_since = self.down_since.clone();
        while self.is_up_within(bound).await {
            if down_since.wait_for(Option::is_some).await.is_err() {
                return;
            }
        }
    }

    /// Closes the connection after what is queued has been sent; at once where there is none.
    pub async fn close(self, bound: Duration) {
        if self.down_since.borrow().is_some() {
            return;
        }
        self.closing.store(true, Ordering::Relaxed);
        let mut down = self.down_since.clone();
        let closing = async {
            let _ = self.client.flush().await;
            if self.client.drain().await.is_ok() {
                let _ = down.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(bound, closing).await;
    }
}

/// Connects as the settings say. `name` is how the server lists the client.
pub async fn connect(nats: &Nats, name: &str) -> anyhow::Result<Connection> {
    let (state, down_since) = watch::channel(None);
    let closing = Arc::new(AtomicBool::new(false));
    let (expected, connection) = (Arc::clone(&closing), name.to_owned());
    let dropped = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&dropped);
    let (slow, others) = (Throttle::new(Duration::from_secs(1)), Throttle::new(Duration::from_secs(1)));
    let mut options = ConnectOptions::new().name(name).connection_timeout(nats.connect_timeout).event_callback(move |event| {
        match event {
            Event::Connected => {
                if state.send_replace(None).is_some() {
                    tracing::info!(connection, "connected to NATS again");
                }
            }
            Event::Disconnected | Event::Closed => {
                if state.borrow().is_none() {
                    state.send_replace(Some(Instant::now()));
                    if !expected.load(Ordering::Relaxed) {
                        tracing::warn!(connection, "disconnected from NATS");
                    }
                }
            }
            Event::Draining => {}
            Event::LameDuckMode => tracing::info!(%event, "NATS"),
            Event::SlowConsumer(id) => {
                counting.fetch_add(1, Ordering::Relaxed);
                if let Some(unsaid) = slow.pass(Instant::now()) {
                    tracing::error!(subscription = id, unsaid, "the NATS client dropped messages: a buffer was full");
                }
            }
            event => {
                if let Some(unsaid) = others.pass(Instant::now()) {
                    tracing::warn!(%event, unsaid, "NATS");
                }
            }
        }
        std::future::ready(())
    });
    let sign_in = SignIn::of(nats)?;
    options = sign_in.apply(options).await?;
    if let Some(file) = given(&nats.tls_ca) {
        options = options.add_root_certificates(file.into()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (given(&nats.tls_cert), given(&nats.tls_key)) {
        options = options.add_client_certificate(cert.into(), key.into()).require_tls(true);
    }
    let shown = nats.shown_url();
    let connecting = tokio::time::timeout(nats.connect_timeout, options.connect(sign_in::addresses(nats)));
    let client = connecting
        .await
        .map_err(|_| anyhow::anyhow!("no NATS server answered at {shown} within nats.connect_timeout, {:?}", nats.connect_timeout))?
        .map_err(|error| sign_in.explain(&error, &shown))?;
    Ok(Connection { client, down_since, closing, dropped })
}
