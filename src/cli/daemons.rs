//! Requests to the control endpoints of every daemon.

use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::service::NATS_SERVICE_ERROR;
use async_nats::{Message, Request};
use clap::Args;
use futures::{StreamExt, future};
use serde::Deserialize;
use serde_json::Value;

use super::ConnectArgs;
use super::output::Output;
use crate::nats::{self, Connection};

/// How long daemons have to say that they are there.
const PATIENCE: Duration = Duration::from_millis(500);

/// Arguments of a command that asks daemons.
#[derive(Args, Clone, Debug)]
pub struct DaemonArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Asks only the daemon with this id; `nats micro list` and `--json` show the ids.
    #[arg(long, value_name = "ID")]
    daemon: Option<String>,
    /// Prints the answers as JSON, one object a daemon, with its id as `daemon`.
    #[arg(long)]
    json: bool,
}

/// The answer of a daemon, or its error.
#[derive(Debug)]
pub struct Answered {
    /// The daemon's id.
    pub id: String,
    /// The answer, or the message of the error.
    pub result: Result<Value, String>,
}

/// The part of a pong that is read.
#[derive(Deserialize)]
struct Pong {
    id: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    prefix: Option<String>,
}

impl DaemonArgs {
    /// Asks each daemon of the prefix, at the same time, and prints what each answers: as JSON, or as `text`
    /// makes of it. Returns whether none has refused.
    ///
    /// # Errors
    /// No server, no daemon, or standard output is closed.
    pub async fn ask(
        &self,
        endpoint: &str,
        request: &Value,
        timeout: Duration,
        text: impl Fn(&Value) -> String,
    ) -> anyhow::Result<bool> {
        let settings = self.connect.settings()?;
        let connection = nats::connect(&settings.nats, "sferic").await?;
        let ids = match &self.daemon {
            Some(id) => vec![id.clone()],
            None => find(&connection, &settings.nats.prefix).await?,
        };
        if ids.is_empty() {
            let (server, prefix) = (settings.nats.shown_url(), &settings.nats.prefix);
            bail!("no daemon with the prefix {prefix} answers at {server}; is `sferic run` running?");
        }
        let asked = ids.into_iter().map(|id| one(&connection, endpoint, id, request, timeout));
        let answers = future::join_all(asked).await;
        let (output, several) = (Output::plain(), answers.len() > 1);
        let mut good = true;
        for Answered { id, result } in answers {
            match result {
                Ok(mut answer) if self.json => {
                    answer["daemon"] = id.into();
                    output.line(answer)?;
                }
                Ok(answer) => {
                    if several {
                        output.raw(format_args!("daemon {id}"))?;
                    }
                    for line in text(&answer).lines() {
                        output.line(line)?;
                    }
                }
                Err(error) => {
                    good = false;
                    if self.json {
                        output.line(serde_json::json!({"daemon": id, "success": false, "message": error}))?;
                    } else {
                        output.say(format!("daemon {id}: {error}"));
                    }
                }
            }
        }
        Ok(good)
    }
}

/// The ids of the daemons with this prefix, sorted.
pub(super) async fn find(connection: &Connection, prefix: &str) -> anyhow::Result<Vec<String>> {
    let client = connection.client();
    let inbox = client.new_inbox();
    let mut pongs = client.subscribe(inbox.clone()).await.context("cannot listen for daemons")?;
    client.publish_with_reply("$SRV.PING.sferic", inbox, "".into()).await?;
    let mut ids = Vec::new();
    let finding = async {
        while let Some(Message { payload, .. }) = pongs.next().await {
            let Ok(Pong { id, metadata }) = serde_json::from_slice(&payload) else { continue };
            if metadata.and_then(|metadata| metadata.prefix).as_deref() == Some(prefix) {
                ids.push(id);
            }
        }
    };
    // Nothing says that all have answered.
    let _ = tokio::time::timeout(PATIENCE, finding).await;
    ids.sort();
    Ok(ids)
}

async fn one(
    connection: &Connection,
    endpoint: &str,
    id: String,
    request: &Value,
    timeout: Duration,
) -> Answered {
    let subject = format!("sferic.{endpoint}.{id}");
    let request = Request::new().payload(request.to_string().into()).timeout(Some(timeout));
    let result = match connection.client().send_request(subject, request).await {
        Err(error) => Err(format!("no answer: {error}")),
        Ok(message) => match message.headers.as_ref().and_then(|headers| headers.get(NATS_SERVICE_ERROR)) {
            Some(error) => Err(error.to_string()),
            None => serde_json::from_slice(&message.payload)
                .map_err(|error| format!("its answer cannot be read: {error}")),
        },
    };
    Answered { id, result }
}
