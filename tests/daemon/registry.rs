//! Models from an object store of NATS, and signatures.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, object_store::ObjectStore};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::publishing::{server_with, sign_in};
use crate::support::*;

/// A source of the daemon, as its environment has it.
const SOURCE: (&str, &str) = ("MODELS__SOURCES", r#"[{ kind = "nats", bucket = "models" }]"#);

/// A server with JetStream, and folders of bundles and keys.
struct Bucket {
    folder: TempDir,
    server: PrivateServer,
}

impl Bucket {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let store = folder.path().join("store");
        let server =
            PrivateServer::start(&["--jetstream", "--store_dir", store.to_str().unwrap()]).await.unwrap();
        for key in ["right", "wrong"] {
            let pair = rcgen::KeyPair::generate().unwrap();
            std::fs::write(folder.path().join(format!("{key}.pem")), pair.serialize_pem()).unwrap();
            std::fs::write(folder.path().join(format!("{key}.pub")), pair.public_key_pem()).unwrap();
        }
        Self { folder, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bundle to be pushed.
    fn bundle(&self, name: &str) -> PathBuf {
        let to = self.path("bundles").join(name);
        copy(&fixtures().join("degrees/1"), &to);
        to
    }

    /// Runs `sferic models push` for a bundle.
    async fn push(&self, bundle: &Path, arguments: &[&str]) -> (i32, String, String) {
        let mut command = sferic(&["models", "push", bundle.to_str().unwrap(), "--url", self.server.url()]);
        output(command.args(arguments)).await
    }

    /// Pushes a bundle, which has to succeed.
    async fn pushed(&self, name: &str, arguments: &[&str]) {
        let arguments = [&["--bucket", "models"], arguments].concat();
        let (code, out, err) = self.push(&self.bundle(name), &arguments).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with(&format!("{name} is in models")), "{out}");
    }

    async fn store(&self) -> (jetstream::Context, ObjectStore) {
        let context = jetstream::new(client(self.server.url()).await);
        let store = context.get_object_store("models").await.unwrap();
        (context, store)
    }

    /// Waits until this holds of the answer of each of `daemons` to `sferic models list`.
    async fn until(&self, daemons: usize, holds: impl Fn(&Value) -> bool) {
        let mut last = String::new();
        let until = async {
            loop {
                let mut list = sferic(&["models", "list", "--json", "--url", self.server.url()]);
                let (_, out, err) = output(&mut list).await;
                let answers: Vec<Value> =
                    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                if answers.len() == daemons && answers.iter().all(&holds) {
                    return;
                }
                last = out + &err;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, until).await;
        assert!(reached.is_ok(), "it did not come: {last}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let file = entry.unwrap().path();
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// The state of a version of the only model.
fn state<'a>(answer: &'a Value, version: &str) -> &'a str {
    let versions = answer["models"][0]["versions"].as_array().into_iter().flatten();
    let mut states = versions.filter(|each| each["version"] == version).map(|each| &each["state"]);
    states.next().and_then(Value::as_str).unwrap_or_default()
}

/// The settings of a daemon with this repository and the bucket as its source.
fn settings<'a>(repository: &'a Path, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let repository = ("MODELS__REPOSITORY", repository.to_str().unwrap());
    [&[repository, ("MODELS__DEFAULT", "m"), SOURCE], more].concat()
}

#[tokio::test]
async fn a_pushed_model_reaches_every_daemon_and_activates_none() {
    if !tools_are_there() {
        return;
    }
    let bucket = Bucket::start().await;
    bucket.pushed("m/1", &[]).await;
    // Their repositories are not there yet: what they serve at start is from the bucket.
    let repositories: Vec<_> = (0..3).map(|n| bucket.path(&format!("repository-{n}"))).collect();
    let mut daemons = Vec::new();
    for repository in &repositories {
        daemons.push(Daemon::start(bucket.server.url(), &settings(repository, &[])).await);
    }
    bucket.until(3, |answer| state(answer, "1") == "ready").await;

    bucket.bundle("m/2");
    bucket.pushed("m/2", &[]).await;
    let begun = Instant::now();
    bucket.until(3, |answer| state(answer, "2") == "ready" && answer["models"][0]["active"] == "1").await;
    eprintln!("version 2 was ready on three daemons {:?} after the push", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "a look is a second");
    for repository in &repositories {
        let source = std::fs::read_to_string(repository.join("m/2/.source")).unwrap();
        assert!(source.contains("nats:models") && source.contains("SHA-256="), "{source}");
    }

    // Another content for a version that does not serve replaces it.
    std::fs::write(bucket.bundle("m/2").join("notes"), "new").unwrap();
    bucket.pushed("m/2", &["--force"]).await;
    let replaced = async {
        while !repositories.iter().all(|repository| repository.join("m/2/notes").exists()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.expect("it is not replaced");
}

#[tokio::test]
async fn what_is_not_trusted_is_refused_and_the_old_version_serves_on() {
    if !tools_are_there() {
        return;
    }
    let bucket = Bucket::start().await;
    let repository = bucket.path("repository");
    let path = |name: &str| bucket.path(name).to_str().unwrap().to_owned();
    let (right, wrong) = (path("right.pem"), path("wrong.pem"));
    bucket.pushed("m/1", &["--sign", &right]).await;
    let keys = format!("[{:?}]", path("right.pub"));
    let settings = settings(&repository, &[("MODELS__TRUSTED_KEYS", keys.as_str())]);
    let mut daemon = Daemon::start_piped(bucket.server.url(), &settings).await;

    bucket.pushed("m/2", &[]).await;
    bucket.pushed("m/3", &["--sign", &wrong]).await;
    let key = sferic_registry::PrivateKey::read(Path::new(&right)).unwrap();
    let unlisted = bucket.bundle("m/4");
    let signature = sferic_registry::sign(&unlisted, &key, 1 << 20).unwrap();
    std::fs::write(unlisted.join("model.sig"), signature).unwrap();
    std::fs::write(unlisted.join("unlisted"), "").unwrap();
    bucket.pushed("m/4", &[]).await;
    // An object whose info states another digest than it has.
    let (context, store) = bucket.store().await;
    let mut archive = tokio::fs::File::open(fixtures().join("degrees/1/model.onnx")).await.unwrap();
    let mut info = serde_json::to_value(store.put("lie", &mut archive).await.unwrap()).unwrap();
    info["name"] = json!("m/5");
    info["digest"] = json!(format!("SHA-256={}", URL_SAFE.encode([7; 32])));
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let subject = format!("$O.models.M.{}", URL_SAFE.encode("m/5"));
    let published = context.publish_with_headers(subject, headers, info.to_string().into()).await.unwrap();
    published.await.unwrap();
    // Put there by hand, and signed in the bucket only.
    copy(&fixtures().join("degrees/1"), &repository.join("m/7"));
    bucket.pushed("m/7", &["--sign", &right]).await;
    bucket.pushed("m/6", &["--sign", &right]).await;

    let done = |answer: &Value| state(answer, "6") == "ready" && state(answer, "7") == "failed";
    bucket.until(1, done).await;
    for version in ["2", "3", "4", "5"] {
        assert!(!repository.join("m").join(version).exists(), "version {version} is installed");
    }
    let client = client(bucket.server.url()).await;
    let reply = Reply::of(client.request("iq.frames.rx", pack(&steady("f")).into()).await.unwrap());
    assert_eq!(reply.body["model_version"], "1", "{}", reply.body);
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    for (version, part) in [
        ("2", "it is not signed"),
        ("3", "not made with any of models.trusted_keys"),
        ("4", "it does not list unlisted"),
        ("5", "digest"),
        ("7", "was put there by somebody"),
        ("7", "it is not signed"),
    ] {
        let is_it =
            |line: &&str| line.contains("refused") && line.contains(&format!("version=\"{version}\""));
        let lines: Vec<_> = log.lines().filter(is_it).collect();
        assert!(lines.iter().any(|line| line.contains(part)), "{version}, {part}: {log}");
        assert!(lines.len() <= 2, "each is fetched and reported once: {log}");
    }

    // At the next start the keys bind what lies in the folder.
    std::fs::write(repository.join("m/6/unlisted"), "").unwrap();
    let daemon = Daemon::start(bucket.server.url(), &settings).await;
    bucket.until(1, |answer| state(answer, "6") == "failed" && answer["models"][0]["active"] == "1").await;
    drop(daemon);
}

#[tokio::test]
async fn a_daemon_without_its_registry_serves_what_it_has() {
    if !tools_are_there() {
        return;
    }
    let repository = repository(&["degrees"]);
    let server = PrivateServer::start(&[]).await.unwrap();
    let path = repository.path().to_str().unwrap();
    let settings = [("MODELS__REPOSITORY", path), ("MODELS__DEFAULT", "degrees"), SOURCE];
    let mut daemon = Daemon::start_piped(server.url(), &settings).await;
    let client = client(server.url()).await;
    let reply = Reply::of(client.request("iq.frames.rx", pack(&steady("f")).into()).await.unwrap());
    assert_eq!(reply.body["model_version"], "1", "{}", reply.body);
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert_eq!(log.matches("models are not fetched").count(), 1, "{log}");
}

#[tokio::test]
async fn a_push_says_what_it_did_and_overwrites_nothing() {
    if !tools_are_there() {
        return;
    }
    let bucket = Bucket::start().await;
    let bundle = bucket.bundle("m/1");
    let models = &["--bucket", "models", "--json"][..];
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (code, out, err) = bucket.push(&bundle, models).await;
        assert_eq!(code, 0, "{err}");
        answers.push(serde_json::from_str::<Value>(&out).unwrap());
    }
    assert_eq!((&answers[0]["changed"], &answers[1]["changed"]), (&json!(true), &json!(false)));
    assert_eq!((&answers[0]["object"], &answers[0]["signed"]), (&json!("m/1"), &json!(false)));
    assert_eq!(answers[0]["digest"], answers[1]["digest"], "the same files are the same archive");
    std::fs::write(bundle.join("more"), "").unwrap();
    let (code, _, err) = bucket.push(&bundle, models).await;
    assert!(code == 1 && err.contains("m/1 is in models with another content"), "{err}");
    let (code, out, err) = bucket.push(&bundle, &[models, &["--force"]].concat()).await;
    assert!(code == 0 && out.contains(r#""changed":true"#), "{err}");

    std::fs::write(bundle.join("model.toml"), "[outputs]\n").unwrap();
    let (wrong, _) = (bucket.bundle("m/v1"), bucket.bundle("m/2"));
    let missing = bucket.path("missing.pem");
    let sign = ["--bucket", "models", "--sign", missing.to_str().unwrap()];
    for (bundle, arguments, code, part) in [
        (&bundle, models, 1, "is no bundle: model.toml: line 1"),
        (&wrong, models, 2, "version `v1`"),
        (&bundle, &[][..], 2, "give --bucket"),
        (&bundle, &sign[..], 2, "missing.pem"),
        (&bucket.path("bundles/m/9"), models, 1, "is no bundle"),
    ] {
        let (got, _, err) = bucket.push(bundle, arguments).await;
        assert!(got == code && err.contains(part), "{part:?}, {code}: {got} {err}");
    }
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    if !tools_are_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let listed = |subjects: &[&str]| format!("{subjects:?}");
    let look = ["$JS.API.STREAM.INFO.OBJ_models", "$JS.API.DIRECT.GET.OBJ_models.>"];
    let read = [&look[..], &["$JS.API.CONSUMER.CREATE.OBJ_models"]].concat();
    let daemon = [&read[..], &["iq.predictions.>", "iq.failures.>", "_INBOX.>", "$SRV.>"]].concat();
    let put = ["$JS.API.STREAM.CREATE.OBJ_models", "$JS.API.STREAM.PURGE.OBJ_models", "$O.models.>"];
    let users = [
        ("daemon", listed(&daemon), listed(&["iq.frames.>", "$SRV.>", "sferic.>", "_INBOX.>"])),
        ("pusher", listed(&[&look[..], &put].concat()), listed(&["_INBOX.>"])),
    ];
    let users: String = users
        .iter()
        .map(|(user, publish, subscribe)| {
            format!(
                "{{user: {user}, password: p, permissions: {{publish: {publish}, subscribe: {subscribe}, \
                 allow_responses: true}}}}\n"
            )
        })
        .collect();
    let configuration = format!(
        "jetstream {{store_dir: {:?}}}\nauthorization {{users: [{{user: all, password: p}}\n{users}]}}",
        folder.path().join("store")
    );
    let (server, _configuration) = server_with(&configuration).await;
    let as_user = |user: &str| sign_in(server.url(), &format!("{user}:p"));
    let bundle = folder.path().join("m/1");
    copy(&fixtures().join("degrees/1"), &bundle);
    let push = async || {
        let arguments = ["models", "push", bundle.to_str().unwrap(), "--bucket", "models", "--force"];
        let pushed = output(sferic(&arguments).args(["--url", &as_user("pusher")])).await;
        assert_eq!(pushed.0, 0, "{}", pushed.2);
    };
    push().await;
    std::fs::write(bundle.join("notes"), "new").unwrap();
    push().await;
    let repository = folder.path().join("repository");
    let mut command = sferic(&["run", "--url", &as_user("daemon")]);
    command
        .envs(settings(&repository, &[]).into_iter().map(|(key, value)| (format!("SFERIC__{key}"), value)));
    command.env("SFERIC__HTTP__LISTEN", "");
    let all = async_nats::ConnectOptions::with_user_and_password("all".into(), "p".into());
    let all = all.request_timeout(Some(PATIENCE)).connect(server.url()).await.unwrap();
    drop(Daemon::spawn_for(&all, command).await);
    assert!(repository.join("m/1/notes").exists());
}
