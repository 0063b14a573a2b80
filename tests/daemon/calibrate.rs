//! `sferic calibrate`: against a real daemon, on simulated scenes and on lines of JSON.

use serde_json::{Value, json};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_model_is_measured_on_scenes_it_was_not_trained_on() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models/localization/1");
    let bundle = folder.path().join("models/localization/1");
    std::fs::create_dir_all(&bundle).unwrap();
    for file in ["model.onnx", "model.toml"] {
        std::fs::copy(shipped.join(file), bundle.join(file)).unwrap();
    }
    let scenes = folder.path().join("scenes");
    let scenes = scenes.to_str().unwrap();
    let made = output(&mut sferic(&["simulate", "--out", scenes, "--scenes", "300", "--seed", "99"])).await;
    assert_eq!(made.0, 0, "{}", made.2);
    let repository = folder.path().join("models");
    let settings =
        [("MODELS__REPOSITORY", repository.to_str().unwrap()), ("MODELS__DEFAULT", "localization")];
    let world = World::start(&["degrees"], &settings).await;
    let mut command = sferic(&["calibrate", "localization", "--truth", scenes, "--json", "--write"]);
    command.args(["--url", world.server.url(), "--source", "scenes of seed 99"]);
    command.env("SFERIC__MODELS__REPOSITORY", &repository);
    let (code, out, err) = output(&mut command).await;
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&answer["model"], &answer["report"]["n"]), (&json!("localization@1"), &json!(300)));
    // Its card says that it holds what it promises.
    for level in answer["report"]["levels"].as_array().unwrap() {
        let number = |key: &str| level[key].as_f64().unwrap();
        assert!((number("held") - number("level")).abs() < 0.08, "{level}");
        assert!((number("held_elsewhere") - number("level")).abs() < 0.08, "{level}");
        assert!(level["held_interval"][0].as_f64() < level["held"].as_f64());
    }
    // The bundle is one with what was measured, and a reload takes it.
    let written = std::fs::read_to_string(bundle.join("model.toml")).unwrap();
    assert!(written.contains("source = \"scenes of seed 99\"\nn = 300\n"), "{written}");
    let reload =
        sferic(&["models", "reload", "localization", "--url", world.server.url()]).output().await.unwrap();
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    let mut publish = sferic(&["publish", "--wait", "--json", "--url", world.server.url()]);
    let (code, out, err) = output(publish.arg(format!("{scenes}/scene-00000.sigmf-meta"))).await;
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outcome["calibrated"], true, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_truths_too_and_what_is_wrong_is_said() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[]).await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("truths.jsonl");
    let lines = |count: usize, truth: Value| {
        let line = |n: usize| {
            let frame =
                json!({"iq_data": vec![[0.5, 0.1]; 16], "sample_rate": 1e6, "truth": truth, "seq": n});
            frame.to_string() + "\n"
        };
        std::fs::write(&path, (0..count).map(line).collect::<String>()).unwrap();
    };
    let run = async |more: &[&str]| {
        let all = ["calibrate", "degrees", "--url", world.server.url(), "--truth", path.to_str().unwrap()];
        output(&mut sferic(&[&all[..], more].concat())).await
    };
    // All are where the model says, 45° N 36° E.
    lines(40, json!({"latitude": 45.0, "longitude": 36.0}));
    let (code, out, err) = run(&[]).await;
    assert!(code == 0 && out.contains("degrees@1: 40 predictions at 1 places, 0 failures"), "{out}{err}");
    assert!(out.contains("[output.calibration]\nlevels = [0.5, 0.68, 0.9, 0.95]\n"), "{out}");
    lines(10, json!({"latitude": 45.0, "longitude": 36.0}));
    let (code, _, err) = run(&[]).await;
    assert!(code == 1 && err.contains("10 of 10 frames have got a position, must be 30"), "{err}");
    lines(1, json!({"latitude": 145.0, "longitude": 36.0}));
    let (code, _, err) = run(&[]).await;
    assert!(code == 2 && err.contains("truths.jsonl:1") && err.contains("in degrees"), "{err}");
    let (code, _, err) = run(&["--levels", "0.9,0.5"]).await;
    assert!(code == 2 && err.contains("must rise above 0 and below 1"), "{err}");
}
