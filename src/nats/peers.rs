//! The other members of the queue group, found through their services.

use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;
use super::frames::Input;

/// Timeout of members to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Timeout while a gap waits to be counted.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);

/// Time for which a member counts as present after its last answer.
const SEEN_FOR: Duration = Duration::from_secs(10);

/// The part `input` in the statistics of a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberInput {
    /// Prefix of its subjects.
    pub prefix: String,
    /// Its queue group.
    pub queue_group: String,
    /// State of its input.
    pub state: Input,
}

/// Looks for other members.
#[derive(Debug, Clone)]
pub struct Peers {
    connection: Connection,
    own_id: watch::Receiver<String>,
    own: MemberInput,
    instance: String,
    last_seen: Option<Instant>,
}

/// The part of an answer to `$SRV.PING` that is read.
#[derive(Deserialize)]
struct Pong {
    metadata: Option<PongMetadata>,
}

#[derive(Deserialize)]
struct PongMetadata {
    prefix: Option<String>,
    queue_group: Option<String>,
    instance: Option<String>,
}

/// The part of an answer to `$SRV.STATS` that is read.
#[derive(Deserialize)]
struct Statistics {
    id: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    input: MemberInput,
    breaker: Vec<Circuit>,
}

#[derive(Deserialize)]
struct Circuit {
    state: String,
}

impl Peers {
    /// Finds members that share `prefix` and `queue_group` with the service `own_id`. `instance` in the
    /// metadata identifies this process: unlike the id, it does not change when the client is replaced.
    pub fn new(
        connection: Connection,
        own_id: watch::Receiver<String>,
        instance: &str,
        prefix: &str,
        queue_group: &str,
    ) -> Self {
        let own = MemberInput {
            prefix: prefix.to_owned(),
            queue_group: queue_group.to_owned(),
            state: Input::Reading,
        };
        Self { connection, own_id, own, instance: instance.to_owned(), last_seen: None }
    }

    /// Whether another member reads its input and has a circuit that is not open.
    pub async fn any_healthy(&self) -> bool {
        let (own, own_id) = (self.own.clone(), self.own_id.borrow().clone());
        self.any_answers("$SRV.STATS.sferic", PATIENCE, |answer| is_healthy(&own, &own_id, answer)).await
    }

    /// Refreshes what [`seen`](Self::seen) knows.
    pub async fn look(&mut self) {
        self.ask(PATIENCE).await;
    }

    /// Whether another member answered within the last seconds; otherwise asks now, for a tenth of a second.
    pub async fn seen(&mut self) -> bool {
        let was_seen = self.last_seen.is_some_and(|seen| seen.elapsed() < SEEN_FOR);
        was_seen || self.ask(SHORT_PATIENCE).await
    }

    async fn ask(&mut self, patience: Duration) -> bool {
        let is_there = self
            .any_answers("$SRV.PING.sferic", patience, |answer| is_member(&self.own, &self.instance, answer))
            .await;
        if is_there {
            self.last_seen = Some(Instant::now());
        }
        is_there
    }

    /// Whether an answer to `question` within `patience` is one that `counts`.
    async fn any_answers(
        &self,
        question: &'static str,
        patience: Duration,
        counts: impl Fn(&[u8]) -> bool,
    ) -> bool {
        let asked = async {
            let client = self.connection.client();
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await?;
            client.publish_with_reply(question, inbox, Vec::new().into()).await?;
            while let Some(answer) = answers.next().await {
                if counts(&answer.payload) {
                    return anyhow::Ok(true);
                }
            }
            anyhow::Ok(false)
        };
        // There is no sign that all have answered, so the timeout ends it.
        matches!(tokio::time::timeout(patience, asked).await, Ok(Ok(true)))
    }
}

fn is_member(own: &MemberInput, instance: &str, answer: &[u8]) -> bool {
    let Ok(Pong { metadata: Some(metadata) }) = serde_json::from_slice(answer) else { return false };
    let is_own = |text: Option<String>, own: &str| text.as_deref() == Some(own);
    !is_own(metadata.instance, instance)
        && is_own(metadata.prefix, &own.prefix)
        && is_own(metadata.queue_group, &own.queue_group)
}

fn is_healthy(own: &MemberInput, own_id: &str, answer: &[u8]) -> bool {
    // An answer that cannot be read is not from a member.
    let Ok(Statistics { id, endpoints }) = serde_json::from_slice(answer) else { return false };
    let data: Option<Data> = endpoints.into_iter().find_map(|endpoint| endpoint.data);
    id != own_id
        && data.is_some_and(|data| {
            data.input == *own && data.breaker.iter().any(|circuit| circuit.state != "open")
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_healthy_member_reads_the_same_frames_and_has_a_circuit_that_is_not_open() {
        let own = MemberInput { prefix: "iq".into(), queue_group: "sferic".into(), state: Input::Reading };
        let answer = |id: &str, group: &str, input: &str, circuits: &[&str]| {
            let circuits: Vec<_> =
                circuits.iter().map(|state| json!({"model": "m", "state": state})).collect();
            let input = json!({"prefix": "iq", "queue_group": group, "state": input});
            let data = json!({"input": input, "breaker": circuits, "pool": {}});
            json!({"id": id, "endpoints": [{"name": "health", "data": data}]}).to_string()
        };
        for (id, group, input, circuits, well) in [
            ("other", "sferic", "reading", &["open", "closed"][..], true),
            ("other", "sferic", "reading", &["half_open"], true),
            ("other", "sferic", "reading", &["open"], false),
            ("other", "sferic", "reading", &[], false),
            ("other", "sferic", "paused", &["closed"], false),
            ("other", "another", "reading", &["closed"], false),
            ("own", "sferic", "reading", &["closed"], false),
        ] {
            let found = is_healthy(&own, "own", answer(id, group, input, circuits).as_bytes());
            assert_eq!(found, well, "{id} {group} {input} {circuits:?}");
        }
        for (id, group, member) in
            [("other", "sferic", true), ("other", "another", false), ("own", "sferic", false)]
        {
            let metadata = json!({"prefix": "iq", "queue_group": group, "instance": id});
            let pong = json!({"name": "sferic", "id": id, "version": "1.0.0", "metadata": metadata});
            assert_eq!(is_member(&own, "own", pong.to_string().as_bytes()), member, "{id} {group}");
        }
        assert!(!is_member(&own, "own", br#"{"id": "other"}"#) && !is_member(&own, "own", b"no JSON"));
        assert!(!is_healthy(&own, "own", b"{}") && !is_healthy(&own, "own", b"no JSON"));
    }
}
