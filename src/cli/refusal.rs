//! Permission errors of a command. The server reports them on the connection, a moment later, and does not
//! confirm what it accepts.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::nats::{Action, Connection};

/// Returns the error text once the server refuses this for one of these subjects.
pub async fn of_any(
    connection: &Connection,
    action: Action,
    subjects: impl IntoIterator<Item = &String>,
) -> String {
    let of_each = subjects.into_iter().map(|subject| connection.refusals().refused(action, subject, 0));
    match of_each.collect::<FuturesUnordered<_>>().next().await {
        Some(words) => words,
        None => std::future::pending().await,
    }
}
