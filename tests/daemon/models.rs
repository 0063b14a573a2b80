//! Refused models, kinds of answers, and the minimum length of a frame.

use std::path::Path;

use serde_json::json;
use sferic::nats::PrivateServer;

use crate::support::*;

/// Puts a version of a fixture's bundle into a repository; `onnx` stands in for its ONNX file.
fn add(repository: &Path, bundle: &str, fixture: &str, onnx: Option<&str>) {
    let (to, from) = (repository.join(bundle), fixtures().join(fixture));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(from.join("model.toml"), to.join("model.toml")).unwrap();
    let onnx =
        onnx.map_or_else(|| std::fs::read(from.join("model.onnx")).unwrap(), |text| text.as_bytes().to_vec());
    std::fs::write(to.join("model.onnx"), onnx).unwrap();
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";

#[tokio::test]
async fn a_bad_bundle_is_refused_alone_and_reported() {
    if !tools_are_there() {
        return;
    }
    let repository = tempfile::TempDir::new().unwrap();
    add(repository.path(), "m/9", "versions/9", None);
    add(repository.path(), "m/10", "versions/10", Some(POINTER));
    add(repository.path(), "m/010", "versions/10", None);
    add(repository.path(), "other/1", "degrees/1", Some("<html>404</html>"));
    let server = PrivateServer::start(&[]).await.unwrap();
    let settings = [("MODELS__REPOSITORY", repository.path().to_str().unwrap()), ("MODELS__DEFAULT", "m")];
    let mut daemon = Daemon::start_piped(server.url(), &settings).await;
    let client = async_nats::connect(server.url()).await.unwrap();

    let health = client.request("sferic.health", "".into()).await.unwrap();
    let health: serde_json::Value = serde_json::from_slice(&health.payload).unwrap();
    assert_eq!(health["status"], "ok");
    let models = health["models"].as_array().unwrap();
    assert_eq!(models[0], json!({"name": "m", "version": "9", "state": "ready"}));
    let failed: Vec<_> =
        models[1..].iter().map(|model| [&model["name"], &model["version"], &model["state"]]).collect();
    assert_eq!(failed, [["m", "010", "failed"], ["m", "10", "failed"], ["other", "1", "failed"]]);
    for (model, part) in models[1..].iter().zip(["leading zeros", "Git LFS", "can't load model.onnx"]) {
        assert!(model["reason"].as_str().unwrap().contains(part), "{model}");
    }

    let ask = async |model: &str| {
        let frame = with(&steady("f"), &[("model", model.into())]);
        Reply::of(client.request("iq.frames.t", pack(&frame).into()).await.unwrap()).body
    };
    assert_eq!(ask("m").await["model_version"], "9");
    let refused = ask("m@10").await;
    assert_eq!(refused["code"], "model_not_found");
    assert!(refused["message"].as_str().unwrap().contains("`m@10` (refused at load)"), "{refused}");
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert_eq!(log.matches("model bundle refused").count(), 3, "{log}");
}

#[tokio::test]
async fn without_the_default_model_the_daemon_exits_with_the_reasons() {
    if !tools_are_there() {
        return;
    }
    let repository = tempfile::TempDir::new().unwrap();
    add(repository.path(), "good/1", "degrees/1", None);
    add(repository.path(), "m/1", "degrees/1", Some(POINTER));
    add(repository.path(), "m/two", "degrees/1", None);
    add(repository.path(), "other/1", "degrees/1", Some(POINTER));
    let server = PrivateServer::start(&[]).await.unwrap();
    let mut command = sferic(&["run", "--url", server.url()]);
    command.env("SFERIC__MODELS__REPOSITORY", repository.path()).env("SFERIC__HTTP__LISTEN", "");
    let (code, _, err) = output(command.env("SFERIC__MODELS__DEFAULT", "m")).await;
    assert_eq!(code, 1, "{err}");
    // The connection ends with the process, and may say so last.
    let error = err.lines().find(|line| line.starts_with("error:")).unwrap();
    for part in [
        "models.default: no model `m` (refused at load), loaded: good@1",
        "m/1: ",
        "Git LFS",
        "m/two: ",
        "`two` is no number",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert!(!error.contains("other"), "{error}");

    let (code, out, err) = output(
        sferic(&["doctor", "--url", server.url()])
            .env("SFERIC__MODELS__REPOSITORY", repository.path())
            .env("SFERIC__MODELS__DEFAULT", "good"),
    )
    .await;
    assert_eq!(code, 1, "{err}");
    for (model, part) in [
        ("model m@1", "Git LFS"),
        ("model m@two", "no number"),
        ("model other@1", "Git LFS"),
        ("model good@1", "alone"),
    ] {
        assert!(
            out.lines().any(|line| line.contains(model) && line.contains(part)),
            "{model}, {part} are not in {out}"
        );
    }
}

#[tokio::test]
async fn labels_without_a_score_and_maps_of_scores_are_classifications() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["label", "scores", "half", "external"], &[]).await;
    let ask = async |model: &str| world.ask(&with(&steady("f"), &[("model", model.into())])).await.body;
    for model in ["label@1", "label@2"] {
        let body = ask(model).await;
        assert_eq!(
            (&body["kind"], &body["labels"]),
            (&json!("classification"), &json!([{"label": "i", "score": null}])),
            "{model}"
        );
        assert!(body["confidence"].is_null(), "{body}");
    }
    // Logits 0.5, 0.25 and the root mean square, 0.395.
    for model in ["scores@1", "scores@2", "half"] {
        let body = ask(model).await;
        let labels: Vec<_> =
            body["labels"].as_array().unwrap().iter().map(|label| label["label"].as_str().unwrap()).collect();
        let sum: f64 =
            body["labels"].as_array().unwrap().iter().map(|label| label["score"].as_f64().unwrap()).sum();
        assert!(labels == ["i", "loud", "q"] && (sum - 1.0).abs() < 1e-3, "{model}: {body}");
    }
    let body = ask("external").await;
    assert_eq!((&body["labels"][0]["label"], &body["labels"][0]["score"]), (&json!("q"), &json!(8.5)));
    assert_eq!(body["model_digest"], "fec85b3675415115c5bab99d1626adfb2cf985d6a8ec9ed9d221668f35d1511f");
}

#[tokio::test]
async fn a_frame_has_the_samples_that_the_bundle_asks_for_before_any_padding() {
    if !tools_are_there() {
        return;
    }
    let repository = tempfile::TempDir::new().unwrap();
    for (bundle, keys) in
        [("plain/1", ""), ("padded/1", "frames = 41\n"), ("stated/1", "frames = 41\nmin_samples = 3\n")]
    {
        add(repository.path(), bundle, "degrees/1", None);
        let path = repository.path().join(bundle).join("model.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("kind = \"iq\"\n", &format!("kind = \"iq\"\n{keys}"))).unwrap();
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let settings =
        [("MODELS__REPOSITORY", repository.path().to_str().unwrap()), ("MODELS__DEFAULT", "plain")];
    let _daemon = Daemon::start(server.url(), &settings).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    for (model, fewest) in [("plain", 16), ("padded", 21), ("stated", 3)] {
        let ask = async |samples: usize| {
            let frame = with(&frame("f", &vec![[0.5, 0.25]; samples]), &[("model", model.into())]);
            Reply::of(client.request("iq.frames.t", pack(&frame).into()).await.unwrap()).body
        };
        let short = ask(fewest - 1).await;
        assert_eq!(short["code"], "not_enough_samples", "{model}: {short}");
        assert_eq!(short["message"], format!("{} samples, at least {fewest} needed", fewest - 1));
        assert_eq!(ask(fewest).await["position"], json!({"latitude": 45.0, "longitude": 90.0}), "{model}");
    }
}
