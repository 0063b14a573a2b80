//! What the server promises of streams.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use humantime_serde::re::humantime::format_duration;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::json;
use sferic_settings::Settings;
use sferic_telemetry::with_causes;
use tokio::sync::watch;

use super::finding::Finding;
use crate::nats::jetstream::Streams;
use crate::nats::{self, Connection, SessionInput};

/// Versions of nats-server that lose what they have acknowledged: a stream of three copies may drop messages
/// after a restart.
const KNOWN_TO_LOSE: [&str; 1] = ["2.12.1"];

/// What nats-server does where its configuration does not say.
const SYNC_INTERVAL: Duration = Duration::from_secs(2 * 60);

/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Examines JetStream, the streams and the consumers; nothing where there is no server, which is a finding of
/// its own.
pub async fn examine(settings: &Settings, monitor: Option<&Uri>) -> Vec<Finding> {
    let Ok(connection) = nats::connect(&settings.nats, "sferic doctor").await else { return Vec::new() };
    // Whether a model gathers is known once the models are loaded.
    let gathers = watch::Sender::new(false).subscribe();
    let in_use = watch::Sender::new(false);
    let sessions = SessionInput { subject: settings.session_subject(), gathers, in_use };
    let streams = Streams::new(connection.clone(), &settings.jetstream, &settings.nats.prefix, sessions);
    let mut findings = vec![storage(&connection, &streams, monitor).await];
    if findings.iter().all(|finding| finding.result.is_ok()) {
        for (what, result) in streams.examine().await {
            findings.push(Finding::new(what, result.map_err(|error| with_causes(&error))));
        }
    }
    connection.close(settings.nats.connect_timeout).await;
    findings
}

/// How the server keeps what it has acknowledged.
async fn storage(connection: &Connection, streams: &Streams, monitor: Option<&Uri>) -> Finding {
    let version = connection.client().server_info().version;
    if let Err(error) = streams.context().query_account().await {
        let advice = "start nats-server with --jetstream, and enable it for the account";
        return Finding::new("JetStream", Err(format!("{}; {advice}", with_causes(&error.into()))));
    }
    if KNOWN_TO_LOSE.contains(&version.as_str()) {
        let text = format!("nats-server {version} is known to lose acknowledged messages: take a newer one");
        return Finding::new("JetStream", Err(text));
    }
    let asked = match monitor {
        Some(address) => monitored(address).await.map(Some),
        None => Ok(of_system(connection).await),
    };
    let config = match asked {
        Ok(config) => config,
        Err(error) => return Finding::new("JetStream", Err(with_causes(&error))),
    };
    let details = json!({
        "version": version,
        "sync_always": config.as_ref().map(|config| config.sync_always),
        "sync_interval_s": config.as_ref().map(|config| config.interval().as_secs_f64()),
    });
    Finding { what: "JetStream".into(), result: Ok(promise(config.as_ref())), details }
}

fn promise(config: Option<&StoreConfig>) -> String {
    let survives = "what is acknowledged survives a kill of the server";
    match config {
        Some(config) if config.sync_always => format!("sync_always: {survives}, and a power cut"),
        Some(config) => {
            let interval = format_duration(config.interval());
            format!("sync_interval {interval}: {survives}; a power cut costs what is younger, without copies")
        }
        None => format!(
            "{survives}; a power cut costs what is younger than its sync_interval, {} where its \
             configuration does not say: --monitor asks for it",
            format_duration(SYNC_INTERVAL)
        ),
    }
}

/// The part `config` of `/jsz`.
#[derive(Deserialize)]
struct StoreConfig {
    #[serde(default)]
    sync_always: bool,
    /// Nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

impl StoreConfig {
    fn interval(&self) -> Duration {
        match self.sync_interval {
            0 => SYNC_INTERVAL,
            nanoseconds => Duration::from_nanos(nanoseconds),
        }
    }
}

#[derive(Deserialize)]
struct Jsz {
    config: StoreConfig,
}

/// By the monitoring port.
async fn monitored(address: &Uri) -> anyhow::Result<StoreConfig> {
    let asked = async {
        let uri: Uri = format!("{}/jsz", address.to_string().trim_end_matches('/')).parse()?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let body = client.get(uri).await?.into_body().collect().await?.to_bytes();
        anyhow::Ok(serde_json::from_slice::<Jsz>(&body)?.config)
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await.context("no answer in time").flatten();
    answer.with_context(|| format!("{address} does not show /jsz of a nats-server"))
}

/// By the system account; `None` where this user is of another.
async fn of_system(connection: &Connection) -> Option<StoreConfig> {
    #[derive(Deserialize)]
    struct Answer {
        data: Jsz,
    }
    let client = connection.client();
    let asked = client.request("$SYS.REQ.SERVER.PING.JSZ", Bytes::new());
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    Some(serde_json::from_slice::<Answer>(&answer.payload).ok()?.data.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_follows_from_when_the_server_syncs() {
        let config = |text| serde_json::from_str::<Jsz>(text).unwrap().config;
        for (text, promised) in [
            (r#"{"config":{"sync_interval":10000000000}}"#, "sync_interval 10s: "),
            (r#"{"config":{"store_dir":"/data"}}"#, "sync_interval 2m: "),
            (r#"{"config":{"sync_interval":120000000000,"sync_always":true}}"#, "sync_always: "),
        ] {
            assert!(promise(Some(&config(text))).starts_with(promised), "{text}");
        }
        assert!(promise(None).contains("sync_interval, 2m where"), "{}", promise(None));
    }
}
