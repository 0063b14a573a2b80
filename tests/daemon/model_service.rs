//! Models in service: what changes them, and that no frame pays for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::Client;
use futures::future;
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::support::*;

/// A daemon with a repository that the test may change.
struct Service {
    folder: TempDir,
    server: PrivateServer,
    client: Client,
    daemon: Daemon,
}

impl Service {
    /// With `m/1` as the default.
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        add(folder.path(), "m/1", "degrees/1");
        let server = PrivateServer::start(&[]).await.unwrap();
        let own = [
            ("MODELS__REPOSITORY", folder.path().to_str().unwrap()),
            ("MODELS__DEFAULT", "m"),
            ("CACHE__ENABLED", "false"),
        ];
        let settings: Vec<_> = own.into_iter().chain(settings.iter().copied()).collect();
        let daemon = Daemon::start(server.url(), &settings).await;
        let client = client(server.url()).await;
        Self { folder, server, client, daemon }
    }

    /// Copies one of the tests' bundles into the repository; it appears there at once.
    fn add(&self, to: &str, from: &str) -> PathBuf {
        add(self.folder.path(), to, from)
    }

    async fn ask(&self, endpoint: &str, request: Value) -> Result<Value, (u64, String)> {
        let answer =
            self.client.request(format!("sferic.{endpoint}"), request.to_string().into()).await.unwrap();
        let header =
            |name: &str| answer.headers.as_ref().and_then(|headers| Some(headers.get(name)?.to_string()));
        let body: Value = serde_json::from_slice(&answer.payload).unwrap();
        match header("Nats-Service-Error-Code") {
            None => Ok(body),
            Some(code) => {
                assert_eq!(
                    (&body["success"], &body["message"]),
                    (&json!(false), &json!(header("Nats-Service-Error")))
                );
                Err((code.parse().unwrap(), header("Nats-Service-Error").unwrap()))
            }
        }
    }

    /// Version and state of every version of `m`.
    async fn states(&self) -> Vec<(String, String)> {
        let answer = self.ask("models", json!({})).await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let versions = answer["models"][0]["versions"].as_array().unwrap().clone();
        versions.iter().map(|each| (text(&each["version"]), text(&each["state"]))).collect()
    }

    /// The version that answers a frame that asks for `model`.
    async fn answering(&self, model: &str) -> String {
        let frame = with(&steady("x"), &[("model", model.into())]);
        let reply = Reply::of(self.client.request("iq.frames.rx", pack(&frame).into()).await.unwrap());
        match reply.body["model_version"].as_str() {
            Some(version) => version.to_owned(),
            None => reply.body["code"].as_str().unwrap().to_owned(),
        }
    }
}

pub fn add(repository: &Path, to: &str, from: &str) -> PathBuf {
    let (to, aside) = (repository.join(to), repository.join(".aside"));
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::create_dir(&aside).unwrap();
    for entry in std::fs::read_dir(fixtures().join(from)).unwrap() {
        let file = entry.unwrap().path();
        std::fs::copy(&file, aside.join(file.file_name().unwrap())).unwrap();
    }
    std::fs::rename(aside, &to).unwrap();
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_loaded_promoted_rolled_back_and_unloaded() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__WATCH", "false")]).await;
    service.add("m/2", "degrees/1");
    let change = service.ask("models.load", json!({"version": "2"})).await.unwrap();
    assert_eq!((&change["success"], &change["new_version"]), (&json!(true), &json!("2")), "{change}");
    assert_eq!((service.answering("m").await, service.answering("m@2").await), ("1".into(), "2".into()));

    let change = service.ask("models.promote", json!({"model": "m", "version": 2})).await.unwrap();
    assert_eq!((&change["previous_version"], &change["new_version"]), (&json!("1"), &json!("2")), "{change}");
    assert_eq!((service.answering("m").await, service.answering("m@1").await), ("2".into(), "1".into()));
    let listed = &service.ask("models", json!({})).await.unwrap()["models"][0];
    assert_eq!((&listed["active"], &listed["previous"]), (&json!("2"), &json!("1")), "{listed}");
    assert_eq!(listed["versions"][0]["digest"].as_str().unwrap().len(), 64);

    let change = service.ask("models.rollback", json!({})).await.unwrap();
    assert_eq!((&change["previous_version"], &change["new_version"]), (&json!("2"), &json!("1")), "{change}");
    assert_eq!(service.answering("m").await, "1");

    let (code, message) = service.ask("models.unload", json!({"version": "1"})).await.unwrap_err();
    assert!(code == 409 && message.contains("m@1 is active"), "{message}");
    service.ask("models.unload", json!({"model": "m@2"})).await.unwrap();
    assert_eq!(
        service.states().await,
        [("1", "ready"), ("2", "unloaded")].map(|(v, s)| (v.into(), s.into()))
    );
    assert_eq!(service.answering("m@2").await, "model_not_found");

    let info = service.ask("models.info", json!({})).await.unwrap();
    assert_eq!(
        (&info["version"], &info["active"], &info["state"]),
        (&json!("1"), &json!(true), &json!("ready"))
    );
    assert!(info["nodes"]["before"].as_u64() >= info["nodes"]["after"].as_u64(), "{}", info["nodes"]);
    assert!(
        info["nodes"]["after"].as_u64().unwrap() > 0 && info["predictions"].as_u64().unwrap() >= 3,
        "{info}"
    );
    assert_eq!(
        (&info["inputs"][0]["dtype"], &info["shares"][0]["provider"]),
        (&json!("float32"), &json!("cpu"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_changes_nothing_and_says_why() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__WATCH", "false")]).await;
    let broken = service.add("m/2", "degrees/1");
    let graph = std::fs::read(broken.join("model.onnx")).unwrap();
    let digest = sferic_models::OnnxFile::new(graph.clone()).digest;
    let toml = std::fs::read_to_string(broken.join("model.toml")).unwrap();
    let (_, features) = toml.split_once("[features]").unwrap();
    let stated =
        format!("[model]\nsha256 = \"{}\"\n[features]{features}", sferic_models::hexadecimal(&digest));
    std::fs::write(broken.join("model.toml"), stated).unwrap();
    let mut changed = graph.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(broken.join("model.onnx"), &changed).unwrap();
    for (endpoint, request, code, part) in [
        ("models.reload", json!({"version": "2"}), 422, "sha256"),
        ("models.load", json!({"version": "2"}), 422, "nothing has changed"),
        ("models.promote", json!({"version": "2"}), 409, "m@2 is not loaded"),
        ("models.load", json!({"version": "../1"}), 404, "version `../1` is no number"),
        ("models.load", json!({"model": "../m", "version": "1"}), 404, "`../m` is no name"),
        ("models.load", json!({"version": "7"}), 404, "there are 1, 2"),
        ("models.unload", json!({}), 409, "models.default"),
        ("models.rollback", json!({}), 409, "was active before"),
        ("models.info", json!({"model": "n"}), 404, "no model `n`; there are m"),
        ("models.reload", json!({"version": 1.5}), 400, "version"),
        ("models.reload", json!({"versoin": "1"}), 400, "versoin"),
        ("models.reload", json!({"model": "m@1", "version": "2"}), 400, "m@1"),
    ] {
        let (found, message) = service.ask(endpoint, request.clone()).await.expect_err("done");
        assert!(found == code && message.contains(part), "{endpoint} {request}: {found} {message}");
    }
    assert_eq!(service.answering("m").await, "1");
    assert_eq!(service.states().await, [("1", "ready"), ("2", "failed")].map(|(v, s)| (v.into(), s.into())));
    // Without a version the highest that has not failed is meant; one whose files have changed may be again.
    let change = service.ask("models.reload", json!({})).await.unwrap();
    assert!(change["message"].as_str().unwrap().contains("m@1 was active already"), "{change}");
    std::fs::write(broken.join("model.onnx"), &graph).unwrap();
    let change = service.ask("models.reload", json!({})).await.unwrap();
    assert_eq!(change["new_version"], "2", "{change}");
    assert_eq!(service.answering("m").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_added_are_loaded_and_not_activated() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__MAX_VERSIONS", "2")]).await;
    let becomes = async |version: &str, state: &str| {
        let becoming = async {
            while !service.states().await.contains(&(version.to_owned(), state.to_owned())) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, becoming).await.unwrap_or_else(|_| panic!("{version} is not {state}"));
    };
    service.add("m/2", "degrees/1");
    becomes("2", "ready").await;
    assert_eq!((service.answering("m").await, service.answering("m@2").await), ("1".into(), "2".into()));
    // One that is being written does not count until it is complete.
    let slow = service.folder.path().join("m/3");
    std::fs::create_dir(&slow).unwrap();
    let copy = |file: &str| std::fs::copy(fixtures().join("degrees/1").join(file), slow.join(file)).unwrap();
    copy("model.onnx");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(service.states().await.iter().all(|(version, _)| version != "3"));
    copy("model.toml");
    becomes("3", "ready").await;
    // Only two may be loaded: the lowest without a role went.
    becomes("2", "unloaded").await;
    assert_eq!(service.answering("m").await, "1");
    let broken = service.add("m/4", "degrees/1");
    std::fs::write(broken.join("model.onnx"), "no model").unwrap();
    becomes("4", "failed").await;
    std::fs::copy(fixtures().join("degrees/1/model.onnx"), broken.join("model.onnx")).unwrap();
    becomes("4", "ready").await;
    std::fs::remove_dir_all(service.folder.path().join("m/2")).unwrap();
    let gone = async {
        while service.states().await.iter().any(|(version, _)| version == "2") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a version without files stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_fails_because_of_reloads() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__WATCH", "false"), ("MODELS__KEEP_WARM", "1")]).await;
    service.add("m/2", "degrees/1");
    let (done, mut is_done) = tokio::sync::watch::channel(false);
    let asking = (0..4).map(|_| {
        let client = service.client.clone();
        let is_done = is_done.clone();
        tokio::spawn(async move {
            let mut versions = std::collections::BTreeMap::<String, usize>::new();
            while !*is_done.borrow() {
                let reply =
                    Reply::of(client.request("iq.frames.rx", pack(&steady("x")).into()).await.unwrap());
                let version = reply.body["model_version"].as_str();
                let version = version.unwrap_or_else(|| panic!("{}", reply.body)).to_owned();
                *versions.entry(version).or_default() += 1;
            }
            versions
        })
    });
    let asking: Vec<_> = asking.collect();
    for n in 0..20 {
        let version = (n % 2 + 1).to_string();
        let change = service.ask("models.reload", json!({"version": version, "force": true})).await.unwrap();
        assert_eq!(change["new_version"], version.as_str(), "{change}");
        assert_eq!(service.answering("m").await, version, "frames after the answer have the new version");
    }
    done.send(true).unwrap();
    is_done.changed().await.unwrap();
    for versions in future::join_all(asking).await {
        let versions = versions.unwrap();
        assert!(versions.len() == 2 && versions.values().sum::<usize>() > 20, "{versions:?}");
    }
    // Of a version that does not stay loaded nothing is left.
    let states = service.states().await;
    assert_eq!(states, [("1", "unloaded"), ("2", "ready")].map(|(v, s)| (v.into(), s.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_reloads_and_the_commands_show_it() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__WATCH", "false")]).await;
    service.add("m/2", "degrees/1");
    service.daemon.signal("HUP").await;
    let reloaded = async {
        while service.answering("m").await != "2" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reloaded).await.expect("not reloaded");
    let run = async |arguments: &[&str]| {
        let all = [arguments, &["--url", service.server.url()]].concat();
        output(&mut sferic(&all)).await
    };
    let (code, out, err) = run(&["models", "list"]).await;
    let lines: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines[0][..4], ["MODEL", "VERSION", "STATE", "ROLE"]);
    assert_eq!(
        (&lines[1][..4], &lines[2][..4]),
        (&["m", "1", "ready", "previous"][..], &["m", "2", "ready", "active"][..])
    );
    let (code, out, _) = run(&["models", "rollback", "--json"]).await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && answer["new_version"] == "1" && answer["daemon"].is_string(), "{out}");
    let (code, out, _) = run(&["models", "info", "m@2"]).await;
    assert!(code == 0 && out.contains("after optimisation") && out.contains("input: "), "{out}");
    let (code, _, err) = run(&["models", "promote", "m@7"]).await;
    assert!(code == 1 && err.contains("m@7 is not loaded"), "{err}");
    let (code, out, _) = run(&["breaker", "m@1", "--force", "open"]).await;
    assert!(code == 0 && out.contains("open"), "{out}");
    let (code, out, _) = run(&["cache", "show"]).await;
    assert!(code == 0 && out.contains("hit rate"), "{out}");
    let (code, _, err) = run(&["models", "list", "--daemon", "nobody"]).await;
    assert!(code == 1 && err.contains("nobody"), "{err}");
}

#[tokio::test]
async fn the_cache_is_shown_and_cleared_by_model() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees", "classes"], &[]).await;
    for model in ["degrees", "classes"] {
        world.ask(&with(&steady("x"), &[("model", model.into())])).await;
    }
    let ask = async |request: &str| {
        let answer = world.client.request("sferic.cache", request.to_owned().into()).await.unwrap();
        serde_json::from_slice::<Value>(&answer.payload).unwrap()
    };
    assert_eq!(ask("").await["entries"], 2);
    let answer = ask(r#"{"clear": true, "model": "degrees@1"}"#).await;
    assert_eq!((&answer["cleared"], &answer["entries"]), (&json!(1), &json!(1)));
    assert_eq!(ask(r#"{"clear": true}"#).await["entries"], 0);
    assert_eq!(ask(r#"{"model": "degrees"}"#).await["success"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_default_stays_and_a_load_replaces_nothing_that_serves() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[
        ("MODELS__WATCH", "false"),
        ("MODELS__DEFAULT", "m@1"),
        ("MODELS__MAX_VERSIONS", "2"),
        ("MODELS__KEEP_WARM", "1"),
    ])
    .await;
    for version in ["m/2", "m/3", "m/4"] {
        service.add(version, "degrees/1");
    }
    for version in [2, 3, 4] {
        let change = service.ask("models.reload", json!({"model": "m", "version": version})).await.unwrap();
        assert_eq!(change["new_version"], version.to_string(), "{change}");
    }
    let frame = pack(&steady("x"));
    let reply = Reply::of(service.client.request("iq.frames.rx", frame.into()).await.unwrap());
    assert_eq!(reply.body["model_version"], "1", "{}", reply.body);
    assert_eq!(
        (service.answering("m").await, service.answering("m@3").await),
        ("4".into(), "model_not_found".into())
    );
    assert_eq!(service.ask("models.info", json!({})).await.unwrap()["version"], "1");
    let (code, message) = service.ask("models.unload", json!({"model": "m@1"})).await.unwrap_err();
    assert!(code == 409 && message.contains("models.default"), "{message}");

    // The version before is loaded again, also where it had to go.
    let change = service.ask("models.rollback", json!({"model": "m"})).await.unwrap();
    assert_eq!(change["new_version"], "3", "{change}");
    let change = service.ask("models.load", json!({"model": "m@3"})).await.unwrap();
    assert!(change["message"].as_str().unwrap().contains("loaded already"), "{change}");
    let active = service.folder.path().join("m/3");
    std::fs::write(active.join("model.onnx"), "broken").unwrap();
    let (code, message) = service.ask("models.load", json!({"model": "m@3"})).await.unwrap_err();
    assert!(code == 409 && message.contains("reload it"), "{message}");
    for _ in 0..2 {
        let (code, message) = service.ask("models.reload", json!({"model": "m@3"})).await.unwrap_err();
        assert!(code == 422, "its files have changed, and are still wrong: {message}");
    }
    assert_eq!(service.answering("m").await, "3");
    let change = service.ask("models.promote", json!({"model": "m@3"})).await.unwrap();
    assert!(change["message"].as_str().unwrap().contains("was active already"), "{change}");
}

#[tokio::test]
async fn no_change_puts_a_version_in_service_that_is_not_finite() {
    if !tools_are_there() {
        return;
    }
    let service = Service::start(&[("MODELS__WATCH", "false")]).await;
    service.add("m/2", "nan/1");
    let asked = json!({"model": "m", "version": "2"});
    let refused = async |endpoint: &str| {
        let refused = service.ask(endpoint, asked.clone()).await;
        let reason = "output `scores` is not finite";
        assert!(refused.is_err_and(|(code, message)| code == 422 && message.contains(reason)), "{endpoint}");
    };
    refused("models.reload").await;
    service.ask("models.load", asked.clone()).await.unwrap();
    refused("models.promote").await;
    refused("models.reload").await;
    assert_eq!(service.answering("m").await, "1");
}
