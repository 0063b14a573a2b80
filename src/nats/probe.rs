//! Whether the server still answers: a connection that looks up may be deaf.

use std::time::Duration;

use sferic_actors::supervision::Task;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;

/// How often an echo is asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// After so long without an echo the daemon counts as deaf.
const DEAF_AFTER: Duration = Duration::from_millis(2500);

/// After so long the connection is made anew, since one that is half gone may take the system minutes to notice.
const RECONNECT_AFTER: Duration = Duration::from_secs(10);

/// Sends itself a message every second, over the connection that frames come through.
#[derive(Debug, Clone)]
pub struct Probe {
    echo: watch::Receiver<Echo>,
}

/// The last message that came back.
#[derive(Debug, Clone, Copy)]
struct Echo {
    at: Option<Instant>,
    /// Of which connection.
    epoch: u64,
}

impl Probe {
    /// Starts probing; it ends with the task.
    pub fn start(connection: Connection) -> (Self, Task) {
        let (sender, echo) = watch::channel(Echo { at: None, epoch: 0 });
        (Self { echo }, Task::spawn(probe(connection, sender)))
    }

    /// How long ago the last echo came; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        self.echo.borrow().at.map(|at| at.elapsed())
    }

    /// Whether the connection of `epoch` has answered at all.
    pub fn has_confirmed(&self, epoch: u64) -> bool {
        self.echo.borrow().epoch == epoch
    }

    /// How long the server has been silent, where that is too long.
    pub fn deaf_for(&self) -> Option<Duration> {
        self.age().filter(|age| *age > DEAF_AFTER)
    }
}

async fn probe(connection: Connection, echo: watch::Sender<Echo>) {
    let mut confirmed = 0;
    loop {
        let epoch = connection.epoch();
        // Refused by the server is answered as well.
        let probing = async {
            // Of a new connection it is to be known what the server refuses of its subscriptions.
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
                tracing::warn!(timeout = ?RECONNECT_AFTER, "the NATS server has not answered; connecting anew");
                let _ = connection.client().force_reconnect().await;
            }
            Err(_) => {}
        }
    }
}
