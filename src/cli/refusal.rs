//! Permission errors of a command, and subscriptions that are made with an eye on them. The server reports
//! refusals on the connection, a moment later, and does not confirm what it accepts.

use std::pin::pin;

use anyhow::{Context, bail};
use async_nats::Message;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};

use crate::nats::{Action, Connection};

/// Listens to subjects, until the server has processed that.
///
/// # Errors
/// A subject that cannot be listened to, or that the server refuses; `advice` says what to do then.
pub async fn listen(
    connection: &Connection,
    subjects: &[String],
    advice: &str,
) -> anyhow::Result<SelectAll<BoxStream<'static, Message>>> {
    let mut messages = SelectAll::new();
    for subject in subjects {
        let subscribed = connection.subscribe(subject.clone()).await;
        messages.push(subscribed.with_context(|| format!("cannot listen to {subject:?}"))?);
    }
    let refused = pin!(of_any(connection, Action::Subscribe, subjects));
    tokio::select! {
        biased;
        words = refused => bail!(subscription(&words, advice)),
        _ = connection.settled() => Ok(messages),
    }
}

/// The message of a refused subscription.
pub fn subscription(words: &str, advice: &str) -> String {
    format!("the server refuses the subscription: {words}; {advice}")
}

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
