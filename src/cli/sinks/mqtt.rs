//! Outcomes to a broker of MQTT 3.1.1.
//!
//! They are published with quality of service 2: while the broker keeps its session, it hands each on exactly
//! once, also where the connection was lost in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::rustls::{ClientConfig, RootCertStore, crypto::ring};
use axum::http::Uri;
use percent_encoding::percent_decode_str;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::outcome::Outcome;

/// Time for the broker to accept the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to connect again.
const RETRY: Duration = Duration::from_millis(500);

/// Time for the broker to take what is under way at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Outcomes that wait for the connection.
const QUEUE: usize = 256;

/// Outcomes that are published and not confirmed. Mosquitto ends a client with more than 20.
const IN_FLIGHT: u16 = 16;

/// Bytes of the largest packet; the protocol's own limit is 256 MiB.
const LARGEST: usize = 64 << 20;

/// Publishes outcomes below a topic.
pub struct Mqtt {
    client: AsyncClient,
    topic: String,
    shown: String,
    published: u64,
    completed: Arc<Completed>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct Completed {
    outcomes: AtomicU64,
    changed: Notify,
}

impl Mqtt {
    /// Connects to the broker of a URL; its path is the topic that the outcomes' topics begin with, `prefix`
    /// where it has none.
    ///
    /// # Errors
    /// It is no such URL, or the broker cannot be reached or refuses.
    pub async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let (options, topic) = options(url, prefix)?;
        let (host, port) = options.broker_address();
        let shown = format!("{host}:{port}");
        let (client, mut connection) = AsyncClient::new(options, QUEUE);
        let connecting = async {
            loop {
                if let Event::Incoming(Packet::ConnAck(_)) = connection.poll().await? {
                    return anyhow::Ok(());
                }
            }
        };
        let connected = timeout(CONNECT_WITHIN, connecting).await;
        let connected = connected.unwrap_or_else(|_| bail!("no answer within {CONNECT_WITHIN:?}"));
        connected.with_context(|| format!("--mqtt: cannot connect to {shown}"))?;
        let completed = Arc::<Completed>::default();
        let running = tokio::spawn(run(connection, Arc::clone(&completed), shown.clone()));
        Ok(Self { client, topic, shown, published: 0, completed, running })
    }

    /// Publishes an outcome; waits while the broker cannot be reached.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn publish(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let kind = if outcome.code().is_some() { "failures" } else { "predictions" };
        let source = outcome.get("source").and_then(|source| source.as_str()).unwrap_or_default();
        let (topic, payload) = (format!("{}/{kind}/{}", self.topic, levels(source)), outcome.json());
        ensure!(payload.len() < LARGEST, "an outcome has {} bytes, over {LARGEST}", payload.len());
        let published = self.client.publish(topic, QoS::ExactlyOnce, false, payload).await;
        published.with_context(|| format!("cannot publish to {}", self.shown))?;
        self.published += 1;
        Ok(())
    }

    /// Waits until the broker has everything.
    ///
    /// # Errors
    /// It has not taken everything in time.
    pub async fn close(self) -> anyhow::Result<String> {
        let all = async {
            while self.completed.outcomes.load(Relaxed) < self.published {
                self.completed.changed.notified().await;
            }
        };
        let is_done = timeout(CLOSE_WITHIN, all).await.is_ok();
        let (shown, completed) = (&self.shown, self.completed.outcomes.load(Relaxed));
        ensure!(is_done, "{shown} has taken {completed} of {} outcomes", self.published);
        let _ = self.client.disconnect().await;
        let _ = timeout(RETRY, self.running).await;
        Ok(format!("{completed} outcomes published to {shown}, below {}", self.topic))
    }
}

/// Runs the connection, again after it was lost: what the broker has not confirmed is sent once more.
async fn run(mut connection: EventLoop, completed: Arc<Completed>, shown: String) {
    let mut is_lost = false;
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::PubComp(_))) => {
                completed.outcomes.fetch_add(1, Relaxed);
                completed.changed.notify_one();
            }
            Ok(Event::Incoming(Packet::ConnAck(_))) if is_lost => {
                is_lost = false;
                eprintln!("{shown} is back");
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                if !is_lost {
                    is_lost = true;
                    eprintln!("the connection to {shown} is lost: {error}; trying again");
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// The client's options and the first part of the topics.
fn options(url: &str, prefix: &str) -> anyhow::Result<(MqttOptions, String)> {
    let must = "must be mqtt:// or mqtts://[USER:PASSWORD@]HOST[:PORT][/TOPIC]";
    let uri: Uri = url.parse().ok().with_context(|| format!("--mqtt is no URL, {must}"))?;
    let (port, is_secure) = match uri.scheme_str() {
        Some("mqtt") => (1883, false),
        Some("mqtts") => (8883, true),
        scheme => bail!("--mqtt begins with {:?}, {must}", scheme.unwrap_or_default()),
    };
    let authority = uri.authority().with_context(|| format!("--mqtt has no host, {must}"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let topic = match uri.path().trim_matches('/') {
        "" => prefix.replace('.', "/"),
        topic => decoded(topic)?,
    };
    ensure!(!topic.contains(['+', '#', '\0']), "the topic of --mqtt is {topic:?}, must have no wildcards");
    let id = format!("sferic-{}", uuid::Uuid::now_v7().simple());
    let mut options = MqttOptions::new(id, host, authority.port_u16().unwrap_or(port));
    // The session outlives the connection: what was confirmed in part is not sent as something new.
    options.set_clean_session(false).set_keep_alive(Duration::from_secs(15));
    options.set_inflight(IN_FLIGHT).set_max_packet_size(LARGEST, LARGEST);
    if let Some((user, _)) = authority.as_str().rsplit_once('@') {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        options.set_credentials(decoded(user)?, decoded(password)?);
    }
    if is_secure {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls()?))));
    }
    Ok((options, topic))
}

fn decoded(text: &str) -> anyhow::Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.context("--mqtt is no text of UTF-8")?.into_owned())
}

/// TLS with the system's certificates.
fn tls() -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.context("no TLS")?.with_root_certificates(roots).with_no_client_auth())
}

/// A source as levels of a topic. What has a meaning of its own in topics is escaped as in URLs.
fn levels(source: &str) -> String {
    let mut levels = String::with_capacity(source.len());
    for c in source.chars() {
        match c {
            '.' => levels.push('/'),
            '+' | '#' | '/' | '%' => levels.push_str(&format!("%{:02X}", c as u32)),
            c => levels.push(c),
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_maybe_more() {
        let of = |url: &str| options(url, "iq");
        let (options, topic) = of("mqtt://broker").unwrap();
        assert_eq!((options.broker_address(), topic.as_str()), (("broker".into(), 1883), "iq"));
        assert!(options.credentials().is_none() && !options.clean_session());
        let (options, topic) = of("mqtts://me:p%40ss@[::1]:9000/rf/north/").unwrap();
        assert_eq!((options.broker_address(), topic.as_str()), (("::1".into(), 9000), "rf/north"));
        let login = options.credentials().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("me", "p@ss"));
        for (url, says) in [
            ("broker:1883", "\"broker\""),
            ("http://broker", "\"http\""),
            ("mqtt:///topic", "no URL"),
            ("mqtt://broker/a/%23", "no wildcards"),
        ] {
            let error = format!("{:#}", of(url).err().unwrap());
            assert!(error.contains(says) || error.contains("must be mqtt://"), "{url}: {error}");
        }
    }

    #[test]
    fn a_source_is_levels_of_a_topic() {
        assert_eq!(levels("north.rx2"), "north/rx2");
        assert_eq!(levels("a+b.#/c.50%"), "a%2Bb/%23%2Fc/50%25");
    }
}
