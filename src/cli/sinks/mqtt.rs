//! Outcomes to a broker of MQTT 3.1.1.
//!
//! They are published with quality of service 1, a few at a time. What the broker has not confirmed when the
//! connection is lost is sent again: none is missing, and those few may be there twice. (The client's own
//! handshake of quality 2 stops after such a loss.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::rustls::{ClientConfig, RootCertStore, crypto::ring};
use axum::http::Uri;
use percent_encoding::percent_decode_str;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, PubAck, QoS, TlsConfiguration, Transport,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::outcome::Outcome;
use crate::cli::Usage;

/// Time for the broker to accept the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Between two attempts to connect again.
const RETRY: Duration = Duration::from_millis(500);

/// Time for the broker to take what is under way at the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Requests that wait for the client's connection; more than there ever are.
const QUEUE: usize = 64;

/// Outcomes that are published and not confirmed. Mosquitto takes 20 of a client.
const IN_FLIGHT: u16 = 16;

/// Levels of a source's topic; Mosquitto ends a client that publishes with more than 200.
const MOST_LEVELS: usize = 100;

/// Bytes of the largest packet; the protocol's own limit is 256 MiB.
const LARGEST: usize = 64 << 20;

/// Publishes outcomes below a topic.
pub struct Mqtt {
    client: AsyncClient,
    topic: String,
    shown: String,
    unconfirmed: Arc<Unconfirmed>,
    running: JoinHandle<()>,
}

/// What the broker has not confirmed.
#[derive(Default)]
struct Unconfirmed {
    messages: Mutex<Messages>,
    /// A message was confirmed, or the connection is back.
    changed: Notify,
}

/// Topic and payload.
type Message = (String, String);

#[derive(Default)]
struct Messages {
    /// Given to the client, which has not numbered them yet.
    queued: VecDeque<Message>,
    /// By their numbers, which are used again.
    sent: BTreeMap<u16, Message>,
    confirmed: u64,
    is_lost: bool,
}

impl Messages {
    fn count(&self) -> usize {
        self.queued.len() + self.sent.len()
    }

    /// The client has sent a message: the oldest, but for one that it has sent before.
    fn sent(&mut self, number: u16) {
        if !self.sent.contains_key(&number)
            && let Some(message) = self.queued.pop_front()
        {
            self.sent.insert(number, message);
        }
    }

    fn confirmed(&mut self, number: u16) {
        self.confirmed += u64::from(self.sent.remove(&number).is_some());
    }

    /// Everything, to be sent as something new.
    fn again(&mut self) -> VecDeque<Message> {
        let sent = std::mem::take(&mut self.sent).into_values();
        let all: VecDeque<_> = sent.chain(std::mem::take(&mut self.queued)).collect();
        self.queued.clone_from(&all);
        all
    }
}

impl Unconfirmed {
    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this holds.
    async fn until(&self, holds: impl Fn(&Messages) -> bool) {
        while !holds(&self.messages()) {
            self.changed.notified().await;
        }
    }
}

impl Mqtt {
    /// Connects to the broker of a URL; its path is the topic that the outcomes' topics begin with, `prefix`
    /// where it has none.
    ///
    /// # Errors
    /// It is no such URL, or the broker cannot be reached or refuses.
    pub async fn connect(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let (options, topic) = options(url, prefix).map_err(|error| Usage(format!("{error:#}")))?;
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
        let unconfirmed = Arc::<Unconfirmed>::default();
        let running = tokio::spawn(run(connection, client.clone(), Arc::clone(&unconfirmed), shown.clone()));
        Ok(Self { client, topic, shown, unconfirmed, running })
    }

    /// Publishes an outcome; waits while the broker cannot be reached or has much to confirm.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn publish(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let kind = if outcome.code().is_some() { "failures" } else { "predictions" };
        let source = outcome.get("source").and_then(|source| source.as_str()).unwrap_or_default();
        let (topic, payload) = (format!("{}/{kind}/{}", self.topic, levels(source)), outcome.json());
        ensure!(payload.len() < LARGEST, "an outcome has {} bytes, over {LARGEST}", payload.len());
        let has_room = |messages: &Messages| !messages.is_lost && messages.count() < usize::from(IN_FLIGHT);
        self.unconfirmed.until(has_room).await;
        // Under the lock, so that the order is the client's.
        let mut messages = self.unconfirmed.messages();
        messages.queued.push_back((topic.clone(), payload.clone()));
        let published = self.client.try_publish(topic, QoS::AtLeastOnce, false, payload);
        published.with_context(|| format!("cannot publish to {}", self.shown))
    }

    /// Waits until the broker has everything.
    ///
    /// # Errors
    /// It has not taken everything in time.
    pub async fn close(self) -> anyhow::Result<String> {
        let all = self.unconfirmed.until(|messages| messages.count() == 0);
        let is_done = timeout(CLOSE_WITHIN, all).await.is_ok();
        let (shown, topic) = (&self.shown, &self.topic);
        let (confirmed, left) = {
            let messages = self.unconfirmed.messages();
            (messages.confirmed, messages.count())
        };
        ensure!(is_done, "{shown} has taken {confirmed} outcomes, and not the last {left}");
        let _ = self.client.disconnect().await;
        let _ = timeout(RETRY, self.running).await;
        Ok(format!("{confirmed} outcomes published to {shown}, below {topic}"))
    }
}

/// Runs the connection, again after it was lost: what the broker has not confirmed is sent once more.
async fn run(mut connection: EventLoop, client: AsyncClient, unconfirmed: Arc<Unconfirmed>, shown: String) {
    loop {
        match connection.poll().await {
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(event) => {
                happened(&mut unconfirmed.messages(), &event, &client, &shown);
                unconfirmed.changed.notify_one();
            }
            Err(error) => {
                if !std::mem::replace(&mut unconfirmed.messages().is_lost, true) {
                    eprintln!("the connection to {shown} is lost: {error}; trying again");
                }
                sleep(RETRY).await;
            }
        }
    }
}

fn happened(messages: &mut Messages, event: &Event, client: &AsyncClient, shown: &str) {
    match event {
        Event::Outgoing(Outgoing::Publish(number)) => messages.sent(*number),
        Event::Incoming(Packet::PubAck(PubAck { pkid })) => messages.confirmed(*pkid),
        Event::Incoming(Packet::ConnAck(_)) => {
            messages.is_lost = false;
            // Each connection is a new session: the client throws away what it had of the old one.
            let all = messages.again();
            eprintln!("{shown} is back; {} outcomes that it may have are sent again", all.len());
            for (topic, payload) in all {
                // There is room: they are few.
                _ = client.try_publish(topic, QoS::AtLeastOnce, false, payload);
            }
        }
        _ => {}
    }
}

/// The client's options and the first part of the topics.
fn options(url: &str, prefix: &str) -> anyhow::Result<(MqttOptions, String)> {
    let must = "must be mqtt:// or mqtts://[USER:PASSWORD@]HOST[:PORT][/TOPIC]";
    ensure!(!url.contains('#'), "--mqtt has a `#`: write it as %23; it {must}");
    let uri: Uri = url.parse().ok().with_context(|| format!("--mqtt is no URL, {must}"))?;
    let (port, is_secure) = match uri.scheme_str() {
        Some("mqtt") => (1883, false),
        Some("mqtts") => (8883, true),
        Some(scheme) => bail!("--mqtt begins with {scheme:?}, {must}"),
        None => bail!("--mqtt has no `mqtt://` before the host, {must}"),
    };
    let authority = uri.authority().with_context(|| format!("--mqtt has no host, {must}"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let topic = match uri.path().trim_matches('/') {
        "" => prefix.replace('.', "/"),
        topic => decoded(topic)?,
    };
    ensure!(!topic.contains(['+', '#', '\0']), "the topic of --mqtt is {topic:?}, must have no wildcards");
    let id = format!("sferic-{}", uuid::Uuid::now_v7().simple());
    let given = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
    let has_port = given.rsplit_once(']').map_or(given, |(_, rest)| rest).contains(':');
    let port = match authority.port_u16() {
        Some(port) => port,
        None if has_port => bail!("--mqtt has no port from 1 to 65535 behind the host, {must}"),
        None => port,
    };
    let mut options = MqttOptions::new(id, host, port);
    options.set_keep_alive(Duration::from_secs(15));
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

/// A source as levels of a topic. What has a meaning of its own in topics, and what brokers do not take, is
/// escaped as in URLs; very many tokens are one level in the end.
fn levels(source: &str) -> String {
    let mut levels = String::with_capacity(source.len());
    let mut count = 1;
    for c in source.chars() {
        let is_no_character = matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE;
        match c {
            '.' if count < MOST_LEVELS => {
                count += 1;
                levels.push('/');
            }
            '+' | '#' | '/' | '%' | '$' => escape(c, &mut levels),
            c if c.is_control() || is_no_character => escape(c, &mut levels),
            c => levels.push(c),
        }
    }
    levels
}

fn escape(c: char, to: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        to.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_maybe_more() {
        let of = |url: &str| options(url, "iq");
        let (options, topic) = of("mqtt://broker").unwrap();
        assert_eq!((options.broker_address(), topic.as_str()), (("broker".into(), 1883), "iq"));
        assert!(options.credentials().is_none() && options.clean_session());
        let (options, topic) = of("mqtts://me:p%40ss@[::1]:9000/rf/north/").unwrap();
        assert_eq!((options.broker_address(), topic.as_str()), (("::1".into(), 9000), "rf/north"));
        let login = options.credentials().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("me", "p@ss"));
        for (url, says) in [
            ("broker:1883", "no `mqtt://`"),
            ("mqtt://broker:99999", "no port from 1"),
            ("mqtt://u:p#x@host", "%23"),
            ("http://broker", "\"http\""),
            ("mqtt:///topic", "must be mqtt://"),
            ("mqtt://broker/a/%23", "no wildcards"),
        ] {
            let error = format!("{:#}", of(url).err().unwrap());
            assert!(error.contains(says), "{url}: {error}");
        }
    }

    #[test]
    fn what_was_not_confirmed_is_known_by_its_number_and_in_its_order() {
        let message = |name: &str| (name.to_owned(), String::new());
        let mut messages = Messages::default();
        messages.queued.extend(["a", "b", "c"].map(message));
        messages.sent(7);
        messages.sent(8);
        // Once more after the connection was lost.
        messages.sent(7);
        assert_eq!((messages.queued.len(), messages.sent.len()), (1, 2));
        messages.confirmed(7);
        messages.confirmed(7);
        assert_eq!((messages.confirmed, messages.count()), (1, 2));
        assert_eq!(messages.again(), ["b", "c"].map(message));
        assert_eq!((messages.count(), messages.sent.len()), (2, 0));
    }

    #[test]
    fn a_source_is_levels_of_a_topic() {
        assert_eq!(levels("north.rx2"), "north/rx2");
        assert_eq!(levels("a+b.#/c.50%"), "a%2Bb/%23%2Fc/50%25");
        assert_eq!(levels("a\u{1}b.\u{ffff}.ü"), "a%01b/%EF%BF%BF/ü");
        assert_eq!(levels(&"x.".repeat(300)).matches('/').count(), MOST_LEVELS - 1);
    }
}
