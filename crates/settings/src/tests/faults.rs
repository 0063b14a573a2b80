//! Error messages of wrong configurations.

use std::path::Path;

use super::{environment_fault, fault, load_from};
use crate::load_with_env;

#[test]
fn a_missing_file_is_named() {
    let error = load_with_env(Some(Path::new("nowhere/my.toml")), [], &[]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration file nowhere/my.toml: "), "{error}");
}

#[test]
fn invalid_toml_is_reported_with_its_position_and_not_shown() {
    let error = fault("[nats]\nuser = \"é\"\npassword = \"hunter2\n");
    assert!(error.starts_with("my.toml:3:"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn an_unknown_key_names_the_nearest_right_one() {
    assert_eq!(
        fault("[pool]\nsesions = 2\nque = 3"),
        "unknown key `pool.que`, did you mean `pool.queue`? (in my.toml)\n\
         unknown key `pool.sesions`, did you mean `pool.sessions`? (in my.toml)"
    );
    assert_eq!(
        environment_fault("SFERIC__NATS__PREFFIX", "x"),
        "unknown key `nats.preffix`, did you mean `nats.prefix`? (from SFERIC__NATS__PREFFIX)"
    );
    assert_eq!(
        load_from("", &[], &[("nats.ulr", "'x'")]).unwrap_err(),
        "unknown key `nats.ulr`, did you mean `nats.url`? (from the command line)"
    );
}

#[test]
fn a_key_in_the_wrong_section_or_in_none_names_the_right_one() {
    assert_eq!(
        fault("[limits]\nmax_batch = 2"),
        "unknown key `limits.max_batch`, did you mean `pool.max_batch`? (in my.toml)"
    );
    assert_eq!(fault("queue = 2"), "unknown key `queue`, did you mean `pool.queue`? (in my.toml)");
    assert_eq!(
        environment_fault("SFERIC__QUEUE", "2"),
        "unknown key `queue`, did you mean `pool.queue`? (from SFERIC__QUEUE)"
    );
    assert_eq!(
        fault("[cache.shared]\nbuckett = 'a'"),
        "unknown key `cache.shared.buckett`, did you mean `cache.shared.bucket`? (in my.toml)"
    );
    assert_eq!(
        fault("[jetsream]\ncreate = true"),
        "unknown section `jetsream`, did you mean `jetstream`? (in my.toml)"
    );
}

#[test]
fn a_wrong_type_names_the_key_the_value_and_the_place() {
    for (file, expected) in [
        ("[pool]\nqueue = 'many'", "`pool.queue` is \"many\", must be a whole number from 0 (in my.toml)"),
        ("[pool]\nqueue = -1", "`pool.queue` is -1, must be a whole number from 0 (in my.toml)"),
        (
            "[limits]\ntimeout = 500",
            "`limits.timeout` is 500, must be a duration of at most 100 years with its unit, such as \
             \"500ms\" (in my.toml)",
        ),
        (
            // Added to an instant, it would overflow.
            "[cache]\nttl = '500000000000y'",
            "`cache.ttl` is \"500000000000y\", must be a duration of at most 100 years with its unit, such \
             as \"500ms\" (in my.toml)",
        ),
        (
            "[limits]\nin_flight_bytes = '99999999999999999999GiB'",
            "`limits.in_flight_bytes` is \"99999999999999999999GiB\", must be a size below 16EiB such as \
             \"64MiB\", or a number of bytes (in my.toml)",
        ),
        (
            "[cache]\nmax_bytes = 'lots'",
            "`cache.max_bytes` is \"lots\", must be a size below 16EiB such as \"64MiB\", or a number of \
             bytes (in my.toml)",
        ),
        (
            "[cache.shared]\nkind = 'memcached'",
            "`cache.shared.kind` is \"memcached\", must be one of none, nats_kv, redis (in my.toml)",
        ),
        ("[nats]\nmode = 'pigeon'", "`nats.mode` is \"pigeon\", must be one of core, jetstream (in my.toml)"),
        (
            "[pool]\nexecution_providers = ['cpu', 'abacus']",
            "`pool.execution_providers.1` is \"abacus\", must be one of cpu, coreml, cuda, tensorrt, \
             openvino, xnnpack (in my.toml)",
        ),
        ("pool = 3", "`pool` is 3, must be a section of keys (in my.toml)"),
    ] {
        assert_eq!(fault(file), expected);
    }
    assert_eq!(
        environment_fault("SFERIC__CACHE__ENABLED", "maybe"),
        "`cache.enabled` is \"maybe\", must be true or false (from SFERIC__CACHE__ENABLED)"
    );
}

#[test]
fn a_value_out_of_range_names_its_limit_and_its_place() {
    for (file, expected) in [
        ("[limits]\nper_source_share = 0", "`limits.per_source_share` is 0, must be above 0 and at most 1"),
        ("[limits]\ntimeout = '2m'", "`limits.timeout` is 2m, must be at most `limits.max_timeout`, 1m"),
        ("[limits]\ntimeout = '0s'", "`limits.timeout` is 0s, must be longer than 0s"),
        (
            "[output]\nconfidence_interval = 1",
            "`output.confidence_interval` is 1, must be above 0 and below 1",
        ),
        (
            "[output]\nconfidence_interval = nan",
            "`output.confidence_interval` is NaN, must be above 0 and below 1",
        ),
        ("[pool]\nqueue = 0", "`pool.queue` is 0, must be at least 1"),
        ("[pool]\nsessions = 0", "`pool.sessions` is 0, must be at least 1"),
        ("[cache]\nmax_bytes = 0", "`cache.max_bytes` is 0, must be at least 1"),
        ("[cache.shared]\ntimeout = '0s'", "`cache.shared.timeout` is 0s, must be longer than 0s"),
        (
            "[cache.shared]\nbucket = 'a.b'",
            "`cache.shared.bucket` is \"a.b\", must be a text of letters, digits, _ and -",
        ),
        (
            "[cache.shared]\nkind = 'redis'\nurl = 'localhost'",
            "`cache.shared.url` is \"localhost\", must be the address of a Redis server such as \
             redis://127.0.0.1:6379/0",
        ),
        ("[breaker]\nslow_share = 1.5", "`breaker.slow_share` is 1.5, must be from 0 to 1"),
        ("[breaker]\nopen_for = '0s'", "`breaker.open_for` is 0s, must be longer than 0s"),
        ("[breaker]\nopen_for = '2days'", "`breaker.open_for` is 2days, must be at most 1day"),
        ("[breaker]\nwindow = '2h'", "`breaker.window` is 2h, must be at most 1h"),
        ("[breaker]\nmin_calls = 0", "`breaker.min_calls` is 0, must be at least 1"),
        (
            "[pool]\nexecution_providers = ['cpu', 'cuda']",
            "`pool.execution_providers` is [Cpu, Cuda], must hold at least one, none twice, the CPU last",
        ),
        (
            "[jetstream]\ndurable = 'a.b'",
            "`jetstream.durable` is \"a.b\", must be a text without spaces or any of . * > / \\",
        ),
        (
            "[jetstream]\noutcomes_stream = 'IQ_FRAMES'",
            "`jetstream.outcomes_stream` is \"IQ_FRAMES\", which is `jetstream.frames_stream` too",
        ),
        (
            "[jetstream]\nduplicate_window = '0s'",
            "`jetstream.duplicate_window` is 0s, must be longer than 0s",
        ),
        ("[jetstream]\nreplicas = 6", "`jetstream.replicas` is 6, must be from 1 to 5"),
        ("[jetstream]\npartitions = 65", "`jetstream.partitions` is 65, must be from 1 to 64"),
        (
            "[jetstream]\ngroup = 'a b'",
            "`jetstream.group` is \"a b\", must be at most 16 letters, digits or any of - _ / =",
        ),
        (
            "[jetstream]\ngroup = 'near'\nordered = true",
            "`jetstream.group` is set, but jetstream.ordered has a group of its own: leave one of them out",
        ),
        (
            "[jetstream]\ngroup = 'near'\npriority = 2",
            "`jetstream.priority` is for a jetstream.group whose jetstream.group_policy is \"prioritized\"",
        ),
        (
            "[jetstream]\nmin_pending = 2",
            "`jetstream.min_pending` is for a jetstream.group whose jetstream.group_policy is \"overflow\"",
        ),
        ("[jetstream]\nmax_bytes = 0", "`jetstream.max_bytes` is 0, must be from 1 to 9223372036854775807"),
        (
            "[nats]\ninbox_prefix = 'me.>'",
            "`nats.inbox_prefix` is \"me.>\", must be a text of tokens joined by dots, without spaces, * or \
             >, not starting with $",
        ),
        ("[models]\nmax_bytes = 0", "`models.max_bytes` is 0, must be at least 1"),
        ("[models]\nmax_versions = 0", "`models.max_versions` is 0, must be at least 1"),
        (
            "[models]\nstate = 'kv:a b'",
            "`models.state` is \"kv:a b\", must be a file, or kv: and a bucket of letters, digits, _ and -",
        ),
        (
            "[models]\ntrusted_keys = ['RWQ', ' ']",
            "`models.trusted_keys` holds an empty text, must be public keys",
        ),
        (
            "[[models.sources]]\nkind = 'nats'",
            "`models.sources.0.bucket` is \"\", must be a text of letters, digits, _ and -",
        ),
        (
            "[[models.sources]]\nkind = 'mlflow'\nurl = 'mlflow:5000'\nmodel = 'm'\nalias = 'a'",
            "`models.sources.0.url` is \"mlflow:5000\", must begin with http:// or https://",
        ),
        (
            "[[models.sources]]\nkind = 'mlflow'\nurl = 'http://h'\nmodel = 'm'",
            "`models.sources.0.alias` is \"\" beside `version` = \"\", must be one of the two",
        ),
        (
            "[[models.sources]]\nkind = 'nats'\nbucket = 'b'\nmodel = 'm'",
            "`models.sources.0.model` is given, but a source of kind \"nats\" has no such key",
        ),
        (
            "[gather]\nsubject = 'iq.sessions'",
            "`gather.subject` is \"iq.sessions\", must be a text of tokens joined by dots that ends in .>, \
             without spaces or *, not starting with $",
        ),
        ("[gather]\nmax_sessions = 0", "`gather.max_sessions` is 0, must be at least 1"),
        ("[gather]\nmax_speed = -1e300", "`gather.max_speed` is -1e300, must be a number above 0"),
        (
            "[http]\nallowed_hosts = ['http://x']",
            "`http.allowed_hosts` holds \"http://x\", must be host names such as sferic.example",
        ),
        ("[http]\nmax_body = 0", "`http.max_body` is 0, must be at least 1"),
        (
            "[http]\nlisten = '192.0.2.1:8003'",
            "`http.listen` is \"192.0.2.1:8003\", beyond loopback, where everyone who reaches it may use \
             the models: set `http.token`, or `http.insecure = true`",
        ),
        (
            "[http]\nlisten = '[::]:8003'",
            "`http.listen` is \"[::]:8003\", beyond loopback, where everyone who reaches it may use the \
             models: set `http.token`, or `http.insecure = true`",
        ),
        ("[http]\ntoken = 'a b'", "`http.token` must be printable ASCII characters without spaces"),
        (
            "[telemetry]\ntraces_per_second = -1",
            "`telemetry.traces_per_second` is -1, must be a number from 0",
        ),
        (
            "[[receivers]]\nsource = 'a..b'",
            "`receivers.0.source` is \"a..b\", must be a text of tokens joined by dots, without spaces, * \
             or >, not starting with $",
        ),
        (
            "[[receivers]]\nsource = 'a'\n[[receivers]]\nsource = 'a'",
            "`receivers.1.source` is \"a\", which an earlier receiver has too",
        ),
        (
            "[[receivers]]\nsource = 'a'\nposition = { latitude = 91, longitude = 7 }",
            "`receivers.0.position.latitude` is 91, must be from -90 to 90 degrees",
        ),
        ("[[receivers]]\nsource = 'a'\nsigma = 0", "`receivers.0.sigma` is 0, must be a number above 0"),
        (
            "[nats]\nprefix = 'iq..x'",
            "`nats.prefix` is \"iq..x\", must be a text of tokens joined by dots, without spaces, * or >, \
             not starting with $",
        ),
        (
            "[nats]\nurl = 'http://x'",
            "`nats.url` is \"http://x\", must be server addresses (nats://, tls://, ws:// or wss://) joined \
             by commas",
        ),
        ("[nats]\npassword = 'x'", "`nats.password` is given without `nats.user`"),
        (
            "[nats]\nuser = 'a'\ntoken = 'b'",
            "`nats.token` is given beside `nats.user`: only one way to sign in may be",
        ),
        (
            "[nats]\nnkey = 'user.nk'\nuser = 'a'",
            "`nats.user` is given beside `nats.nkey`: only one way to sign in may be",
        ),
        ("[nats]\ntls_cert = 'c.pem'", "`nats.tls_cert` and `nats.tls_key` must be given together"),
        (
            "[http]\nlisten = '8003'",
            "`http.listen` is \"8003\", must be an address and port such as 127.0.0.1:8003, or empty",
        ),
        (
            "[telemetry]\notlp_endpoint = 'collector:4317'",
            "`telemetry.otlp_endpoint` is \"collector:4317\", must begin with http:// or https://, or be \
             empty",
        ),
        (
            "[telemetry]\nlog = 'sferic=loud'",
            "`telemetry.log` is \"sferic=loud\", must be a level or directives such as info,sferic=debug",
        ),
        ("[models]\ndefault = 'a@'", "`models.default` is \"a@\", must be a model's name, or name@version"),
        (
            "[supervision]\nbackoff_min = '10s'",
            "`supervision.backoff_min` is 10s, must be at most `supervision.backoff_max`, 5s",
        ),
    ] {
        assert_eq!(fault(file), format!("{expected} (in my.toml)"));
    }
}

#[test]
fn the_keys_of_a_section_in_a_list_are_known_too() {
    assert_eq!(fault("[[receivers]]\nmoving = false"), "`receivers.0.source` is missing (in my.toml)");
    assert_eq!(
        fault("[[receivers]]\nsource = 'a'\n[[receivers]]\nsource = 'b'\npositon = 1"),
        "unknown key `receivers.1.positon`, did you mean `receivers.1.position`? (in my.toml)"
    );
    assert_eq!(fault("[[models.sources]]\nbucket = 'b'"), "`models.sources.0.kind` is missing (in my.toml)");
    assert_eq!(
        fault("[[models.sources]]\nkind = 'ftp'"),
        "`models.sources.0.kind` is \"ftp\", must be one of nats, mlflow (in my.toml)"
    );
    assert_eq!(fault("receivers = 3"), "`receivers` is 3, must be a list (in my.toml)");
}

#[test]
fn a_key_that_another_replaced_names_that() {
    for key in ["predictions_stream", "failures_stream"] {
        let expected =
            format!("unknown key `jetstream.{key}`, did you mean `jetstream.outcomes_stream`? (in my.toml)");
        assert_eq!(fault(&format!("[jetstream]\n{key} = 'A'")), expected);
    }
}

#[test]
fn a_number_is_quoted_as_it_was_written() {
    assert_eq!(
        environment_fault("SFERIC__POOL__MAX_BATCH", "2e1"),
        "`pool.max_batch` is 2e1, must be a whole number from 0 (from SFERIC__POOL__MAX_BATCH)"
    );
    assert_eq!(
        fault("[limits]\ntimeout = 0x1F4"),
        "`limits.timeout` is 0x1F4, must be a duration of at most 100 years with its unit, such as \"500ms\" \
         (in my.toml)"
    );
    assert_eq!(
        fault("[pool]\nqueue = 1_000.0"),
        "`pool.queue` is 1_000.0, must be a whole number from 0 (in my.toml)"
    );
    assert_eq!(
        load_from("[pool]\nqueue = 0x10", &[("SFERIC__POOL__QUEUE", "2e2")], &[("pool.queue", "3.5")])
            .unwrap_err(),
        "`pool.queue` is 3.5, must be a whole number from 0 (from the command line)",
        "of several layers, the one that counts"
    );
    let long = format!("1{}.5", "0".repeat(300));
    assert!(environment_fault("SFERIC__POOL__QUEUE", &long).contains("`pool.queue` is 1e300, must"));
    assert!(fault("[limits]\nper_source_share = 1e300").contains("is 1e300, must be above 0"));
}

#[test]
fn every_fault_is_reported_at_once() {
    let error = fault("[pool]\nqueue = 0\n[cache]\nttl = '0s'");
    assert_eq!(error.lines().count(), 2, "{error}");
}
