//! The other members of the queue group, seen by their statistics.

use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::Connection;
use super::frames::Input;

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a member's statistics say of its input, under `input`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What its subjects begin with.
    pub prefix: String,
    /// Whose frames it shares.
    pub queue_group: String,
    /// Whether it takes its share.
    pub state: Input,
}

/// Looks for other members.
#[derive(Debug)]
pub struct Peers {
    connection: Connection,
    own_id: String,
    own: Member,
}

/// The part of an answer to `$SRV.STATS` that matters here.
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
    input: Member,
    breaker: Vec<Circuit>,
}

#[derive(Deserialize)]
struct Circuit {
    state: String,
}

impl Peers {
    /// Looks for those that share `prefix` and `queue_group` with the service `own_id`.
    pub fn new(connection: Connection, own_id: &str, prefix: &str, queue_group: &str) -> Self {
        let own = Member { prefix: prefix.to_owned(), queue_group: queue_group.to_owned(), state: Input::Reading };
        Self { connection, own_id: own_id.to_owned(), own }
    }

    /// Whether another member reads its input and has a model that runs.
    pub async fn one_is_well(&self) -> bool {
        let asked = async {
            let client = &self.connection.client;
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await?;
            client.publish_with_reply("$SRV.STATS.sferic", inbox, Vec::new().into()).await?;
            while let Some(answer) = answers.next().await {
                if is_well(&self.own, &self.own_id, &answer.payload) {
                    return anyhow::Ok(true);
                }
            }
            anyhow::Ok(false)
        };
        // Nobody says that all have answered.
        matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(true)))
    }
}

fn is_well(own: &Member, own_id: &str, answer: &[u8]) -> bool {
    // What cannot be read is no member of this kind.
    let Ok(Statistics { id, endpoints }) = serde_json::from_slice(answer) else { return false };
    let data: Option<Data> = endpoints.into_iter().find_map(|endpoint| endpoint.data);
    id != own_id && data.is_some_and(|data| data.input == *own && data.breaker.iter().any(|circuit| circuit.state != "open"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn well_is_who_reads_the_same_frames_and_has_a_circuit_that_is_not_open() {
        let own = Member { prefix: "iq".into(), queue_group: "sferic".into(), state: Input::Reading };
        let answer = |id: &str, group: &str, input: &str, circuits: &[&str]| {
            let circuits: Vec<_> = circuits.iter().map(|state| json!({"model": "m", "state": state})).collect();
            let input = json!({"prefix": "iq", "queue_group": group, "state": input});
            json!({"id": id, "endpoints": [{"name": "health", "data": {"input": input, "breaker": circuits, "pool": {}}}]}).to_string()
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
            let found = is_well(&own, "own", answer(id, group, input, circuits).as_bytes());
            assert_eq!(found, well, "{id} {group} {input} {circuits:?}");
        }
        assert!(!is_well(&own, "own", b"{}") && !is_well(&own, "own", b"no JSON"));
    }
}
