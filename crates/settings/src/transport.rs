//! The sections that face the outside: NATS and HTTP.

use std::net::IpAddr;
use std::time::Duration;

use async_nats::ServerAddr;
use serde::{Deserialize, Serialize};
use sferic_samples::units;

use super::check::{Check, quoted};
use super::secrets::{hide_userinfo, is_contents};
use super::values::given;

/// The connection to NATS and the subjects.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Nats {
    /// Where the servers are, comma-separated: `nats://`, `tls://`, `ws://` or `wss://`. May hold
    /// `user:password@` or `token@`, which go before the keys.
    pub url: String,
    /// First token or tokens of the frame, prediction, failure and batch subjects.
    pub prefix: String,
    /// First token or tokens of the subjects that replies come to; empty: the client's own, `_INBOX`.
    pub inbox_prefix: String,
    /// Daemons with the same group share the frames.
    pub queue_group: String,
    /// Plain NATS, or JetStream with redelivery.
    pub mode: Mode,
    /// Path of a `.creds` file; empty: none.
    pub credentials: String,
    /// Path of a file with the NKey seed of a user; empty: none.
    pub nkey: String,
    /// User name; empty: none.
    pub user: String,
    /// The user's password; empty: none. Never shown.
    pub password: String,
    /// Access token; empty: none. Never shown.
    pub token: String,
    /// Path of the root certificates, PEM; empty: the system's.
    pub tls_ca: String,
    /// Path of the client certificate, PEM; empty: none.
    pub tls_cert: String,
    /// Path of the client certificate's key, PEM; empty: none.
    pub tls_key: String,
    /// How long one connection attempt may take.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// How long an outcome waits to be published while the connection is down; after that it is lost.
    #[serde(with = "units::duration")]
    pub publish_timeout: Duration,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            prefix: "iq".to_owned(),
            inbox_prefix: String::new(),
            queue_group: "sferic".to_owned(),
            mode: Mode::Core,
            credentials: String::new(),
            nkey: String::new(),
            user: String::new(),
            password: String::new(),
            token: String::new(),
            tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            connect_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
        }
    }
}

impl Nats {
    /// The servers of `url`, one by one.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim)
    }

    /// The addresses without whatever secrets they carry.
    pub fn shown_url(&self) -> String {
        hide_userinfo(&self.url)
    }

    pub(super) fn validate(&self, check: &mut Check) {
        let good = self.servers().all(|server| !server.is_empty() && server.parse::<ServerAddr>().is_ok());
        let shown = quoted(&self.shown_url());
        check.rule(
            good,
            "url",
            format_args!(
                "is {shown}, must be server addresses (nats://, tls://, ws:// or wss://) joined by commas"
            ),
        );
        check.subject("prefix", &self.prefix);
        if let Some(prefix) = given(&self.inbox_prefix) {
            check.subject("inbox_prefix", prefix);
        }
        check.queue_group("queue_group", &self.queue_group);
        check.rule(
            self.password.is_empty() || given(&self.user).is_some(),
            "password",
            "is given without `nats.user`",
        );
        let files = [("credentials", &self.credentials), ("nkey", &self.nkey), ("tls_key", &self.tls_key)];
        for (key, path) in files {
            check.rule(!is_contents(path), key, "holds the secret itself, must be the path of its file");
        }
        let ways: Vec<_> = [
            ("credentials", &self.credentials),
            ("nkey", &self.nkey),
            ("user", &self.user),
            ("token", &self.token),
        ]
        .into_iter()
        .filter_map(|(key, value)| given(value).map(|_| format!("`nats.{key}`")))
        .collect();
        if let [first, .., last] = ways.as_slice() {
            let key = last.trim_matches('`').trim_start_matches("nats.");
            check.rule(false, key, format_args!("is given beside {first}: only one way to sign in may be"));
        }
        check.rule(
            given(&self.tls_cert).is_some() == given(&self.tls_key).is_some(),
            "tls_cert",
            "and `nats.tls_key` must be given together",
        );
        check.positive("connect_timeout", self.connect_timeout);
        check.positive("publish_timeout", self.publish_timeout);
    }
}

/// How frames are received and outcomes sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Plain NATS: at most once.
    #[default]
    Core,
    /// JetStream: at least once, with acknowledgement.
    Jetstream,
}

/// The HTTP interface.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct Http {
    /// Address and port; empty: no HTTP.
    pub listen: String,
    /// The bearer token that callers need; empty: none. Never shown.
    pub token: String,
    /// The `Host`s that are answered beside IP addresses; empty: the loopback names and the host of `listen`.
    pub allowed_hosts: Vec<String>,
    /// Bytes of a request's body.
    #[serde(with = "units::size")]
    pub max_body: u64,
    /// Listen beyond loopback without a token.
    pub insecure: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8003".to_owned(),
            token: String::new(),
            allowed_hosts: Vec::new(),
            max_body: 32 << 20,
            insecure: false,
        }
    }
}

impl Http {
    /// Why HTTP is not served at this address; `None` where it may be. Names of `listen` are known only once
    /// they are looked up.
    pub fn too_open(&self, address: IpAddr) -> Option<String> {
        let is_closed = address.to_canonical().is_loopback() || given(&self.token).is_some() || self.insecure;
        (!is_closed).then(|| {
            format!(
                "is {}, beyond loopback, where everyone who reaches it may use the models: set \
                 `http.token`, or `http.insecure = true`",
                quoted(&self.listen)
            )
        })
    }

    pub(super) fn validate(&self, check: &mut Check) {
        let is_address = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                let host_is_good =
                    host.starts_with('[') && host.ends_with(']') || !host.contains([':', '/', ' ']);
                !host.is_empty() && host_is_good && port.parse::<u16>().is_ok()
            })
        };
        check.rule(
            given(&self.listen).is_none_or(is_address),
            "listen",
            format_args!(
                "is {}, must be an address and port such as 127.0.0.1:8003, or empty",
                quoted(&self.listen)
            ),
        );
        let host = self.listen.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        if let Some(fault) = host.and_then(|host| self.too_open(host.parse().ok()?)) {
            check.rule(false, "listen", fault);
        }
        check.rule(
            self.token.bytes().all(|byte| byte.is_ascii_graphic()),
            "token",
            "must be printable ASCII characters without spaces",
        );
        let is_host = |host: &&String| {
            !host.is_empty()
                && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@".contains(c))
        };
        if let Some(host) = self.allowed_hosts.iter().find(|host| !is_host(host)) {
            check.rule(
                false,
                "allowed_hosts",
                format_args!("holds {}, must be host names such as sferic.example", quoted(host)),
            );
        }
        check.at_least("max_body", self.max_body, 1);
    }
}
