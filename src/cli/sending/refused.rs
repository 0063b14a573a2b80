//! What the server refuses.

use std::collections::BTreeSet;

use crate::cli::refusal;
use crate::nats::{Action, Connection};

/// Returns once the server refuses one of the subjects to which frames were sent, or the inbox on which
/// outcomes come.
pub async fn refused(
    connection: &Connection,
    subjects: &BTreeSet<String>,
    inbox: Option<&String>,
) -> anyhow::Error {
    tokio::select! {
        words = refusal::of_any(connection, Action::Publish, subjects) => refused_publication(&words),
        words = refusal::of_any(connection, Action::Subscribe, inbox) => anyhow::anyhow!(
            "the server refuses the inbox on which outcomes come: {words}; set nats.inbox_prefix to one \
             that this user may subscribe to"
        ),
    }
}

pub fn refused_publication(words: &str) -> anyhow::Error {
    anyhow::anyhow!("the server refuses the frames: {words}; sign in as a user who may publish them")
}
