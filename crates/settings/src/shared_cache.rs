//! The cache's second level.

use std::time::Duration;

use async_nats::ServerAddr;
use serde::{Deserialize, Serialize};
use sferic_actors::cache;
use sferic_samples::units;

use super::check::{Check, quoted};
use super::secrets::hide_userinfo;
use super::values::given;

/// Answers kept outside the daemon, for the others of its queue group and for its own next start.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of keys")]
pub struct SharedCacheSettings {
    /// What keeps them.
    pub kind: SharedKind,
    /// Where it is; empty with `nats_kv`: `nats.url`. May hold `user:password@`.
    pub url: String,
    /// Name of the bucket, or with `redis` what its keys begin with.
    pub bucket: String,
    /// Bytes of a bucket that is made; with `redis` the server's own limit holds.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// After this long without an answer, the frame is computed.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

/// What keeps the answers that daemons share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedKind {
    /// Nothing.
    #[default]
    None,
    /// A key-value bucket of NATS JetStream.
    NatsKv,
    /// A Redis server.
    Redis,
}

impl Default for SharedCacheSettings {
    fn default() -> Self {
        Self {
            kind: SharedKind::None,
            url: String::new(),
            bucket: "sferic_cache".to_owned(),
            max_bytes: 1 << 30,
            timeout: cache::Config::default().shared_timeout,
        }
    }
}

impl SharedCacheSettings {
    pub(super) fn validate(&self, check: &mut Check) {
        let shown = quoted(&hide_userinfo(&self.url));
        let is_nats = |url: &str| url.split(',').all(|server| server.trim().parse::<ServerAddr>().is_ok());
        match self.kind {
            SharedKind::None => {}
            SharedKind::NatsKv => check.rule(
                given(&self.url).is_none_or(is_nats),
                "url",
                format_args!(
                    "is {shown}, must be server addresses (nats://, tls://, ws:// or wss://) \
                    joined by commas, or empty"
                ),
            ),
            SharedKind::Redis => check.rule(
                self.url.starts_with("redis://") && redis::Client::open(self.url.as_str()).is_ok(),
                "url",
                format_args!(
                    "is {shown}, must be the address of a Redis server such as \
                    redis://127.0.0.1:6379/0"
                ),
            ),
        }
        check.bucket("bucket", &self.bucket);
        check.stored_bytes("max_bytes", self.max_bytes);
        check.positive("timeout", self.timeout);
    }
}
