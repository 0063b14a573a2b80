//! The other members of the queue group, found through their services.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connection;
use super::input::Input;

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

/// The part of an answer to `$SRV.PING` or `$SRV.INFO` that is read.
#[derive(Deserialize)]
struct Pong {
    metadata: Option<PongMetadata>,
}

#[derive(Deserialize)]
struct PongMetadata {
    prefix: Option<String>,
    queue_group: Option<String>,
    instance: Option<String>,
    session_subject: Option<String>,
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

    /// Whether no other member that answers has been running for longer.
    pub async fn is_eldest(&self) -> bool {
        let is_elder = |answer: &[u8]| {
            // The ids begin with the time.
            member(&self.own, answer).is_some_and(|instance| instance < self.instance)
        };
        !self.any_answers("$SRV.PING.sferic", PATIENCE, is_elder).await
    }

    /// The subject of another member that gathers sessions of `subject` too.
    pub async fn overlapping(&self, subject: &str) -> Option<String> {
        let found = Mutex::new(None);
        self.any_answers("$SRV.INFO.sferic", PATIENCE, |answer| {
            let other = gathers_too(&self.own, &self.instance, subject, answer);
            let is_there = other.is_some();
            *found.lock().unwrap_or_else(PoisonError::into_inner) = other;
            is_there
        })
        .await;
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&mut self, patience: Duration) -> bool {
        let is_there = self
            .any_answers("$SRV.PING.sferic", patience, |answer| {
                member(&self.own, answer).is_some_and(|instance| instance != self.instance)
            })
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

/// The subject of sessions of the member that answered, where it is another one and has messages in common
/// with `subject`.
fn gathers_too(own: &MemberInput, instance: &str, subject: &str, answer: &[u8]) -> Option<String> {
    let other = member(own, answer).filter(|other| other != instance)?;
    let Pong { metadata } = serde_json::from_slice(answer).ok()?;
    let theirs = metadata?.session_subject.filter(|theirs| overlap(subject, theirs))?;
    Some(format!("{theirs} (instance {other})"))
}

/// Whether there are subjects that match both patterns.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

/// The instance that answered, where it is a member of the group.
fn member(own: &MemberInput, answer: &[u8]) -> Option<String> {
    let Pong { metadata } = serde_json::from_slice(answer).ok()?;
    let PongMetadata { prefix, queue_group, instance, .. } = metadata?;
    let is_own = prefix.as_ref() == Some(&own.prefix) && queue_group.as_ref() == Some(&own.queue_group);
    instance.filter(|_| is_own)
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
    fn members_that_gather_the_same_sessions_are_found() {
        for (one, other, do_overlap) in [
            ("iq.sessions.>", "iq.sessions.>", true),
            ("iq.sessions.0.>", "iq.sessions.1.>", false),
            ("iq.sessions.0.>", "iq.sessions.>", true),
            ("iq.sessions.*.0.>", "iq.sessions.7.>", true),
            ("iq.sessions.0.>", "other.sessions.0.>", false),
        ] {
            assert!(overlap(one, other) == do_overlap && overlap(other, one) == do_overlap, "{one} {other}");
        }
        let own = MemberInput { prefix: "iq".into(), queue_group: "sferic".into(), state: Input::Reading };
        let info = |instance: &str, group: &str, subject: Option<&str>| {
            let mut metadata = json!({"prefix": "iq", "queue_group": group, "instance": instance});
            metadata["session_subject"] = subject.into();
            json!({"name": "sferic", "id": "x", "metadata": metadata}).to_string()
        };
        for (instance, group, subject, is_found) in [
            ("other", "sferic", Some("iq.sessions.0.>"), true),
            ("other", "sferic", Some("iq.sessions.1.>"), false),
            ("other", "sferic", None, false),
            ("other", "another", Some("iq.sessions.0.>"), false),
            ("own", "sferic", Some("iq.sessions.0.>"), false),
        ] {
            let answer = info(instance, group, subject);
            let found = gathers_too(&own, "own", "iq.sessions.0.>", answer.as_bytes());
            assert_eq!(found.is_some(), is_found, "{answer}");
        }
    }

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
        for (group, is_member) in [("sferic", true), ("another", false)] {
            let metadata = json!({"prefix": "iq", "queue_group": group, "instance": "other"});
            let pong = json!({"name": "sferic", "id": "x", "version": "1.0.0", "metadata": metadata});
            let expected = is_member.then(|| "other".to_owned());
            assert_eq!(member(&own, pong.to_string().as_bytes()), expected, "{group}");
        }
        assert_eq!((member(&own, br#"{"id": "other"}"#), member(&own, b"no JSON")), (None, None));
        assert!(!is_healthy(&own, "own", b"{}") && !is_healthy(&own, "own", b"no JSON"));
    }
}
