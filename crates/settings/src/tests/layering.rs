//! Which layer wins, and what each takes.

use std::time::Duration;

use sferic_onnx::ExecutionProvider;

use super::load_from;
use crate::*;

#[test]
fn without_a_file_the_defaults_apply() {
    assert_eq!(load_with_env(None, [], &[]).unwrap(), Settings::default());
}

#[test]
fn a_later_layer_wins_for_its_keys_only() {
    let file = "[pool]\nqueue = 1\nmax_batch = 2\nintra_threads = 3";
    let environment = [("SFERIC__POOL__MAX_BATCH", "20"), ("SFERIC__POOL__INTRA_THREADS", "30")];
    let pool = load_from(file, &environment, &[("pool.intra_threads", "300")]).unwrap().pool;
    assert_eq!((pool.queue, pool.max_batch, pool.intra_threads), (1, 20, 300));
    assert_eq!(pool.acquire_timeout, Duration::from_secs(5));
}

#[test]
fn the_environment_takes_every_kind_of_value() {
    let settings = load_from(
        "",
        &[
            ("SFERIC__CACHE__ENABLED", "false"),
            ("SFERIC__CACHE__TTL", "90s"),
            ("SFERIC__CACHE__MAX_BYTES", "1MiB"),
            ("SFERIC__CACHE__SHARED__KIND", "nats_kv"),
            ("SFERIC__CACHE__SHARED__TIMEOUT", "7ms"),
            ("SFERIC__BUFFERS__MAX_BYTES", "4096"),
            ("SFERIC__LIMITS__PER_SOURCE_SHARE", "0.25"),
            ("SFERIC__LIMITS__WHEN_FULL", "shed_oldest"),
            ("SFERIC__BREAKER__SLOW_SHARE", "1"),
            ("SFERIC__NATS__MODE", "jetstream"),
            ("SFERIC__POOL__EXECUTION_PROVIDERS", r#"["cuda", "cpu"]"#),
            ("SFERIC__HTTP__LISTEN", ""),
            ("SFERIC__HTTP__ALLOWED_HOSTS", r#"["a.example"]"#),
            ("SFERIC__JETSTREAM__MAX_BYTES", "1GiB"),
            ("SFERIC__MODELS__SOURCES", r#"[{kind = "nats", bucket = "models"}]"#),
            ("SFERIC__RECEIVERS", r#"[{source = "a", moving = false}]"#),
            ("SFERIC__TELEMETRY__TRACES_PER_SECOND", "7"),
            ("SFERIC_OTHER", "not ours"),
            ("PATH", "not ours"),
        ],
        &[],
    )
    .unwrap();
    assert!(!settings.cache.enabled);
    assert_eq!(settings.cache.ttl, Duration::from_secs(90));
    assert_eq!((settings.cache.max_bytes, settings.buffers.max_bytes), (1 << 20, 4096));
    assert_eq!((settings.limits.per_source_share, settings.breaker.slow_share), (0.25, 1.0));
    assert_eq!((settings.limits.when_full, settings.nats.mode), (WhenFull::ShedOldest, Mode::Jetstream));
    assert_eq!(settings.pool.execution_providers, [ExecutionProvider::Cuda, ExecutionProvider::Cpu]);
    assert_eq!(given(&settings.http.listen), None);
    assert_eq!(
        (settings.http.allowed_hosts, settings.jetstream.max_bytes),
        (vec!["a.example".to_owned()], 1 << 30)
    );
    assert_eq!(
        (settings.models.sources[0].kind, settings.telemetry.traces_per_second),
        (SourceKind::Nats, 7.0)
    );
    assert_eq!((settings.receivers[0].source.as_str(), settings.receivers[0].moving), ("a", false));
}

#[test]
fn text_from_the_environment_stays_as_it_is() {
    for password in ["0123", "1e5", "true", "[1]", "\"quoted\"", " spaced "] {
        let environment = [("SFERIC__NATS__USER", "a"), ("SFERIC__NATS__PASSWORD", password)];
        assert_eq!(load_from("", &environment, &[]).unwrap().nats.password, password);
    }
}

#[test]
fn good_values_of_every_form_are_taken() {
    for file in [
        "[nats]\nurl = 'nats://a:4222, tls://b'",
        "[nats]\nurl = 'localhost'",
        "[nats]\nurl = 'wss://user:pass@host:443'",
        "[nats]\nprefix = 'site.iq'",
        "[nats]\nuser = 'a'\npassword = 'b'\ntls_cert = 'c'\ntls_key = 'k'",
        "[http]\nlisten = '[::1]:80'",
        "[http]\nlisten = 'localhost:80'",
        "[telemetry]\nlog = 'info,sferic=debug'\notlp_endpoint = 'http://collector:4317'",
        "[models]\ndefault = 'modulation@1.2'",
        "[jetstream]\noutcomes_stream = 'IQ_ALL'\noutage = '0s'\nmax_backlog_age = '1h'\nreplicas = 5",
        "[jetstream]\nordered = true\npartitions = 64",
        "[jetstream]\ngroup = 'near'\ngroup_policy = 'prioritized'\npriority = 9",
        "[jetstream]\ngroup = 'spare'\nmin_pending = 100",
        "[nats]\ninbox_prefix = '_INBOX.mine'",
        "[models]\nstate = 'kv:sferic_models'\ntrusted_keys = ['RWQf6LRCGA9i53mlYecO']",
        "[models]\nstate = '/var/lib/sferic/active.json'",
        "[[models.sources]]\nkind = 'nats'\nbucket = 'models'\n[[models.sources]]\nkind = 'mlflow'\nurl = \
         'https://m'\nmodel = 'a'\nversion = '3'",
        "[gather]\nsubject = 'iq.sessions.0.>'\nmax_speed = 7",
        "[http]\nallowed_hosts = ['sferic.example', 'host:8003', '[::1]']\ntoken = 'AZaz09-._~+/='",
        "[telemetry]\ntraces_per_second = 0",
        "[[receivers]]\nsource = 'a'\n[[receivers]]\nsource = 'b.c'\nposition = { latitude = -90, longitude \
         = 180.0 }\ndelay = '35ns'",
        "[pool]\nexecution_providers = ['cuda']",
    ] {
        load_from(file, &[], &[]).unwrap();
    }
}
