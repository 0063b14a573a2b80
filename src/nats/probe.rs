//! Checks that the server still answers: an established connection may be deaf.

use std::time::Duration;

use sferic_actors::task::Task;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;

/// Interval of the probe.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time without an echo after which the daemon counts as deaf.
const DEAF_AFTER: Duration = Duration::from_millis(2500);

/// Time after which the client reconnects, because the system may take minutes to notice a half-open
/// connection.
const RECONNECT_AFTER: Duration = Duration::from_secs(10);

/// Sends a message to itself every second, over the connection that frames arrive on.
#[derive(Debug, Clone)]
pub struct Probe {
    echo: watch::Receiver<Echo>,
}

/// The last echo.
#[derive(Debug, Clone, Copy)]
struct Echo {
    at: Option<Instant>,
    /// Epoch of its connection.
    epoch: u64,
}

impl Probe {
    /// Starts probing, until the task is dropped.
    pub fn start(connection: Connection) -> (Self, Task) {
        let (sender, echo) = watch::channel(Echo { at: None, epoch: 0 });
        (Self { echo }, Task::spawn(probe(connection, sender)))
    }

    /// Age of the last echo; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        self.echo.borrow().at.map(|at| at.elapsed())
    }

    /// Whether the connection of `epoch` has answered.
    pub fn has_confirmed(&self, epoch: u64) -> bool {
        self.echo.borrow().epoch == epoch
    }

    /// Time since the last echo, where it is too long.
    pub fn deaf_for(&self) -> Option<Duration> {
        self.age().filter(|age| *age > DEAF_AFTER)
    }
}

async fn probe(connection: Connection, echo: watch::Sender<Echo>) {
    let mut confirmed = 0;
    loop {
        let epoch = connection.epoch();
        // A refusal is an answer too.
        let probing = async {
            // On a new connection, also waits for refusals of its subscriptions.
            let _ = if epoch == confirmed { connection.echo().await } else { connection.settled().await };
        };
        match tokio::time::timeout(RECONNECT_AFTER, probing).await {
            Ok(()) if connection.epoch() == epoch => {
                confirmed = epoch;
                echo.send_replace(Echo { at: Some(Instant::now()), epoch });
                tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => {}
                    () = connection.reconnected(epoch) => {}
                }
            }
            Ok(()) => {}
            Err(_) if connection.is_up() && connection.epoch() == epoch => {
                tracing::warn!(timeout = ?RECONNECT_AFTER, "the NATS server has not answered; reconnecting");
                let _ = connection.client().force_reconnect().await;
            }
            Err(_) => {}
        }
    }
}
