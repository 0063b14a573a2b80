//! What the server refuses of what a command asks. It says so on the connection, a moment later, and of what it accepts it says nothing.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::nats::{Action, Connection};

/// Returns once the server has answered everything that was asked of it before, so that a refusal would be known.
pub async fn settle(connection: &Connection) {
    // A refusal goes through a task of its own, so one echo may overtake it; two do not, unless that task gets no core for so long:
    // whoever goes on looks for refusals further. An echo that is refused has come back as well.
    for _ in 0..2 {
        let _ = connection.echo().await;
    }
}

/// Returns the server's words once it refuses this of one of these subjects.
pub async fn of_any(connection: &Connection, action: Action, subjects: impl IntoIterator<Item = &String>) -> String {
    let of_each = subjects.into_iter().map(|subject| connection.refusals().refused(action, subject, 0));
    match of_each.collect::<FuturesUnordered<_>>().next().await {
        Some(words) => words,
        None => std::future::pending().await,
    }
}
