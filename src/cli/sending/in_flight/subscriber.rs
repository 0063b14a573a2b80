//! Whether somebody listens.

use anyhow::bail;
use async_nats::StatusCode;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use super::InFlight;
use crate::cli::refusal;
use crate::cli::sending::counts::number_of;
use crate::cli::sending::refused::refused_publication;
use crate::nats::Action;

impl InFlight<'_> {
    /// Sends the frame as a request, because the server answers a request without a subscriber. Returns
    /// whether there is one; a user who may not subscribe to an inbox gets no answer, and the frame counts as
    /// received.
    pub(super) async fn has_subscriber(
        &mut self,
        subject: &str,
        id: Option<&str>,
        message: &Bytes,
    ) -> anyhow::Result<bool> {
        let number = self.counts.sent;
        self.publish(subject, id, message.clone(), true).await?;
        self.settle().await?;
        let refused = refusal::of_any(self.connection, Action::Publish, [&subject.to_owned()]).now_or_never();
        let mut has_subscriber = refused.is_none();
        // Reads what is received; unconstrained, because an exhausted task budget would look like the end.
        while let Some(Some(answer)) = unconstrained(self.answers.next()).now_or_never() {
            if number_of(&answer) == Some(number) && answer.status == Some(StatusCode::NO_RESPONDERS) {
                has_subscriber = false;
            } else {
                self.take(&answer)?;
            }
        }
        if !has_subscriber {
            self.held.unanswered.remove(&number);
            if let Some(waiting) = &mut self.waiting {
                waiting.pending.remove(&number);
            }
        }
        refused.map_or(Ok(has_subscriber), |words| Err(refused_publication(&words)))
    }

    /// Waits until the server has processed all commands.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let bound = self.bounds.connection;
        tokio::select! {
            _ = self.connection.settled() => Ok(()),
            () = self.connection.lost(bound), if !self.bounds.is_live => {
                bail!("the connection to NATS was lost for over {bound:?}")
            }
        }
    }
}
