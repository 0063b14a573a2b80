//! What is shown of the settings, and what is not.

use std::time::Duration;

use super::{fault, load_from, with_all_keys};
use crate::{ModelSource, Settings, SourceKind};

/// As long as an NKey seed, 58 letters and digits.
fn seed() -> String {
    format!("SUA{}hunter2", "X".repeat(48))
}

fn with_secrets() -> Settings {
    let mut settings = Settings::default();
    settings.nats.url = "nats://ann:hunter2@one:4222".to_owned();
    settings.nats.user = "ann".to_owned();
    settings.nats.password = "hunter2".to_owned();
    settings.nats.token = "hunter2".to_owned();
    settings.nats.credentials = "-----BEGIN NATS USER JWT-----\nhunter2".to_owned();
    settings.nats.nkey = seed();
    settings.nats.tls_key = "-----BEGIN PRIVATE KEY-----hunter2".to_owned();
    settings.cache.shared.url = "redis://ann:hunter2@two:6379/0".to_owned();
    settings.http.token = "hunter2".to_owned();
    settings.models.sources = vec![ModelSource {
        kind: SourceKind::Mlflow,
        bucket: String::new(),
        url: "http://ann:hunter2@registry:5000".to_owned(),
        model: "m".to_owned(),
        alias: "a".to_owned(),
        version: String::new(),
    }];
    settings.telemetry.otlp_endpoint = "https://ann:hunter2@collector:4317/v1".to_owned();
    settings
}

#[test]
fn secrets_are_not_shown() {
    let shown = toml::to_string(&with_secrets().redacted()).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    for line in [
        "url = \"nats://***@one:4222\"",
        "user = \"ann\"",
        "password = \"***\"",
        "token = \"***\"",
        "credentials = \"***\"",
        "nkey = \"***\"",
        "tls_key = \"***\"",
        "[http]\nlisten = \"127.0.0.1:8003\"\ntoken = \"***\"",
        "url = \"http://***@registry:5000\"",
        "url = \"redis://***@two:6379/0\"",
        "otlp_endpoint = \"https://***@collector:4317/v1\"",
    ] {
        assert!(shown.contains(line), "no {line} in {shown}");
    }
    let debug = format!("{:?}", with_secrets());
    assert!(!debug.contains("hunter2") && debug.contains("***@one:4222"), "{debug}");
}

#[test]
fn a_secret_where_the_path_of_its_file_belongs_is_refused() {
    let jwt = format!("eyJ{}.hunter2.x", "0".repeat(50));
    let short = seed().replacen("XXX", "", 1);
    for key in ["credentials", "nkey", "tls_key"] {
        for secret in [&seed(), &short, &seed().to_lowercase(), &jwt, "-----BEGIN PRIVATE KEY-----\\nhunter2"]
        {
            let error = fault(&format!("[nats]\n{key} = \"{secret}\""));
            let expected = format!("`nats.{key}` holds the secret itself, must be the path of its file");
            assert!(error.contains(&expected) && !error.contains("hunter2"), "{error}");
        }
    }
    // The files of `nsc` are named after public keys.
    let public = format!("keys/U/AB/UAB{}.nk", "X".repeat(53));
    let settings = load_from(&format!("[nats]\nnkey = '{public}'"), &[], &[]).unwrap();
    assert_eq!((settings.redacted().nats.nkey, settings.nats.nkey), (public.clone(), public));
}

#[test]
fn values_without_secrets_are_shown_unchanged() {
    let settings = Settings::default();
    assert_eq!(settings.redacted(), settings);
}

#[test]
fn a_wrong_secret_is_not_shown_either() {
    for file in [
        "[nats]\npassword = 31337",
        "[nats]\ntoken = 31337",
        "[nats]\nnkey = 31337",
        "[nats]\nurl = 'nats://ann:31337@host:bad'",
        "[nats]\nurl = 'nats://ann:a,31337@host'",
        "[cache.shared]\nkind = 'redis'\nurl = 'http://ann:31337@host'",
        "[http]\ntoken = 31337",
        "[http]\ntoken = 'a 31337'",
        "[[models.sources]]\nkind = 'mlflow'\nurl = 31337",
        "[[models.sources]]\nkind = 'mlflow'\nurl = 'ftp://ann:31337@host'\nmodel = 'm'\nalias = 'a'",
        "[telemetry]\notlp_endpoint = 'ftp://ann:31337@host'",
    ] {
        let error = fault(file);
        assert!(!error.contains("31337"), "{error}");
    }
}

#[test]
fn shown_settings_can_be_read_back() {
    let mut settings = Settings::default();
    settings.cache.max_bytes = 1_000_001;
    settings.buffers.max_bytes = 3 << 10;
    settings.limits.timeout = Duration::from_micros(1_500);
    (settings.receivers, settings.models.sources) =
        (with_all_keys().receivers, with_all_keys().models.sources);
    settings.receivers[0].delay = Duration::from_nanos(35);
    let shown = toml::to_string(&settings.redacted()).unwrap();
    assert!(shown.contains("max_bytes = \"1000001B\"") && shown.contains("max_bytes = \"3KiB\""), "{shown}");
    assert_eq!(load_from(&shown, &[], &[]).unwrap(), settings);
}
