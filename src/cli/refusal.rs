//! What the server refuses of what a command asks. It says so on the connection, a moment later, and of what it accepts it says nothing.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::nats::{Action, Connection};

/// Returns the server's words once it refuses this of one of these subjects.
pub async fn of_any(connection: &Connection, action: Action, subjects: impl IntoIterator<Item = &String>) -> String {
    let of_each = subjects.into_iter().map(|subject| connection.refusals().refused(action, subject, 0));
    match of_each.collect::<FuturesUnordered<_>>().next().await {
        Some(words) => words,
        None => std::future::pending().await,
    }
}
