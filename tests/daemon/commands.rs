//! The command line, run as a process.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::support::*;

#[tokio::test]
async fn the_demo_prints_predictions_beside_the_truth_and_a_summary() {
    if !tools_are_there() {
        return;
    }
    let (code, out, err) = output(&mut sferic(&["demo", "--frames", "20", "--seed", "7"])).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        out.lines()
            .filter(|line| line.trim_start().starts_with(char::is_numeric) && line.contains(" m at "))
            .count(),
        20,
        "{out}"
    );
    for part in [
        "20 predictions",
        "median",
        "90 % below",
        "50 % ellipse",
        "68 % ellipse",
        "90 % ellipse",
        "95 % ellipse",
    ] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    assert!(!err.contains("WARN") && !err.contains("ERROR"), "{err}");

    let folder = tempfile::TempDir::new().unwrap();
    let picture = folder.path().join("demo.png");
    let mut command = sferic(&["demo", "--frames", "5", "--json", "--picture", picture.to_str().unwrap()]);
    let (code, out, err) = output(&mut command).await;
    assert_eq!(code, 0, "{err}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert!(
        lines[0]["miss"]["error_m"].as_f64().unwrap() > 0.0 && lines[5]["accuracy"]["predictions"] == 5,
        "{out}"
    );
    // A PNG file begins with its signature and the header chunk, which has width and height.
    let picture = std::fs::read(picture).unwrap();
    assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(picture[12..24], *b"IHDR\0\0\x05\x46\0\0\x03\x39", "not 1350 × 825 pixels");

    let (code, _, err) = output(&mut sferic(&["demo", "--picture", "no/such/folder/demo.png"])).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("no/such/folder"), "{err}");
}

#[tokio::test]
async fn simulated_scenes_can_be_published() {
    if !tools_are_there() {
        return;
    }
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let _daemon = Daemon::start(server.url(), &[("LIMITS__TIMEOUT", "20s")]).await;
    let folder = tempfile::TempDir::new().unwrap();
    let (code, paths, err) =
        output(&mut sferic(&["simulate", "--out", folder.path().to_str().unwrap(), "--scenes", "3"])).await;
    assert_eq!((code, paths.lines().count()), (0, 3), "{err}");
    let mut command = sferic(&["publish", "--url", server.url(), "--source", "sim", "--wait", "--json"]);
    let (code, out, err) = output(command.args(paths.lines())).await;
    assert_eq!(code, 0, "{err}");
    let kinds: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].clone())
        .collect();
    assert_eq!(kinds, ["localization"; 3], "{out}");
}

#[tokio::test]
async fn each_file_name_becomes_a_source_and_oddities_are_printed() {
    if !tools_are_there() {
        return;
    }
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let paths = ["信号.cs8", "電波.cs8", "r_868.3M_1M.cs8", "lost.sigmf-data", "plain-1_a.cs8"]
        .map(|name| folder.path().join(name));
    for path in &paths {
        std::fs::write(path, [1; 16]).unwrap();
    }
    // There is a subscriber.
    let client = async_nats::connect(server.url()).await.unwrap();
    let _frames = client.subscribe("iq.frames.>").await.unwrap();
    client.flush().await.unwrap();
    let mut command = sferic(&["publish", "--url", server.url(), "--json", "--datatype", "ci8_le"]);
    let (code, out, err) = output(command.args(&paths)).await;
    assert_eq!(code, 0, "{err}");
    let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let sources: Vec<_> = lines.map(|line| line["source"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sources.iter().collect::<HashSet<_>>().len(), 5, "{sources:?}");
    assert_eq!(sources[4], "plain-1_a");
    for said in
        ["sample rate 1000000 Hz, centre frequency 868300000 Hz", "warning: ", "lost.sigmf-meta is not there"]
    {
        assert!(err.contains(said), "{said:?} is not in {err}");
    }
}

#[tokio::test]
async fn real_captures_get_one_outcome_a_frame() {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/iq");
    if !captures.is_dir() {
        return sferic_tools::not_run(format_args!("{} is not there", captures.display()));
    }
    if !tools_are_there() {
        return;
    }
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let _daemon = Daemon::start(server.url(), &[("LIMITS__TIMEOUT", "20s")]).await;
    let mut recordings: Vec<PathBuf> = Vec::new();
    for folder in captures.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        recordings.extend(
            folder
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension() == Some("sigmf-meta".as_ref())),
        );
    }
    assert!(recordings.len() >= 9, "{recordings:?}");
    let mut ids = HashSet::new();
    for recording in recordings {
        let arguments = [
            "publish",
            "--url",
            server.url(),
            "--source",
            "t.rx",
            "--model",
            "modulation",
            "--wait",
            "--json",
        ];
        let (code, out, err) = output(sferic(&arguments).arg(&recording)).await;
        assert_eq!(code, 0, "{}: {err}", recording.display());
        assert!(out.lines().count() >= 1, "{}: {err}", recording.display());
        for line in out.lines() {
            let outcome: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(outcome["kind"], "classification", "{}: {outcome}", recording.display());
            assert!(ids.insert(outcome["frame_id"].as_str().unwrap().to_owned()), "two outcomes: {outcome}");
        }
        let sent = format!("{} frames", out.lines().count());
        assert!(err.contains(&sent), "{sent:?} is not in the summary: {err}");
    }
}

#[tokio::test]
async fn watch_reports_the_time_per_stage_each_second() {
    if !tools_are_there() {
        return;
    }
    let world = World::start(&["degrees"], &[("CACHE__ENABLED", "false")]).await;
    for (arguments, is_json) in [(&["--json"][..], true), (&[][..], false)] {
        let mut command = sferic(&["watch", "--stages", "--count", "2", "--url", world.server.url()]);
        let load = async {
            loop {
                world.ask(&steady("w")).await;
            }
        };
        let (code, out, err) = tokio::select! {
            ended = output(command.args(arguments)) => ended,
            () = load => unreachable!(),
        };
        assert_eq!((code, out.lines().count()), (0, 2), "{out}{err}");
        let last = out.lines().last().unwrap();
        if is_json {
            let report: serde_json::Value = serde_json::from_str(last).unwrap();
            assert!(report["predictions"].as_u64().unwrap() > 0 && report["failures"] == 0, "{report}");
            assert_eq!(report["stages"]["inference"]["count"], report["predictions"], "{report}");
        } else {
            assert!(
                last.contains("predictions/s (0 cached), 0 failures/s") && last.contains("inference "),
                "{last}"
            );
        }
    }
}

#[tokio::test]
async fn doctor_reports_what_works_and_what_is_missing() {
    if !tools_are_there() {
        return;
    }
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let (code, out, err) = output(&mut sferic(&["doctor", "--url", server.url()])).await;
    assert_eq!(code, 0, "{out}{err}");
    for part in ["NATS server", "ONNX Runtime", "localization@1", "modulation@1"] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    server.kill().await.unwrap();
    let mut command = sferic(&["doctor", "--json", "--url", "nats://127.0.0.1:9"]);
    let (code, out, _) = output(command.env("ORT_DYLIB_PATH", "/no/such/library.so")).await;
    assert_eq!(code, 1, "{out}");
    let missing: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        missing.iter().any(|line| line["message"].as_str().unwrap_or_default().contains("nats-server")),
        "{out}"
    );
    assert!(
        missing.iter().any(|line| line["message"].as_str().unwrap_or_default().contains("ops/setup")),
        "{out}"
    );
}

#[tokio::test]
async fn wrong_usage_and_configuration_exit_with_2_and_say_what_is_valid() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[pool]\nsession = 2\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["config", "check", "--config", file], &["session", "sessions"]),
        (&["run", "--config", file], &["session", "sessions"]),
        (&["publish"], &["PATH"]),
        (&["fly"], &["fly"]),
    ];
    for (arguments, parts) in cases {
        let (code, out, err) = output(&mut sferic(arguments)).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{part:?} is not in {err}");
        }
    }
    let (code, out, _) = output(
        sferic(&["config", "show"]).env("SFERIC__NATS__PASSWORD", "secret").env("SFERIC__NATS__USER", "u"),
    )
    .await;
    assert_eq!(code, 0);
    assert!(out.contains("[nats]") && !out.contains("secret"), "{out}");
    assert!(out.starts_with("# do nothing yet: "), "{out}");
    let (code, _, err) = output(&mut sferic(&["config", "check"])).await;
    assert!(code == 0 && err.starts_with("the configuration is right\nkeys that do nothing yet: "), "{err}");
    assert!(err.contains("telemetry.traces_per_second"), "also those that have their default value: {err}");
    let mut short = sferic(&["config", "check"]);
    let (code, _, err) = output(short.env("SFERIC__JETSTREAM__DUPLICATE_WINDOW", "6m")).await;
    let sum = "must be at least max_deliver × (ack_wait + 30s) + outage = 5 × (30s + 30s) + 2m = 7m";
    assert!(code == 2 && err.contains(sum), "{err}");
    let (code, _, err) =
        output(sferic(&["config", "check"]).env("SFERIC__TELEMETRY__TRACES_PER_SECOND", "5")).await;
    let said = "\n`telemetry.traces_per_second` is set, but does nothing yet\n";
    assert!(code == 0 && err.contains(said), "{err}");
    let (code, _, err) = output(sferic(&["config", "check"]).env("SFERIC__POOL__SESSIONS", "1e3")).await;
    assert!(code == 2 && err.contains("`pool.sessions` is 1e3,"), "{err}");
}

#[tokio::test]
async fn too_many_threads_are_refused_with_the_arithmetic() {
    let mut command = sferic(&["run"]);
    let (code, _, err) =
        output(command.env("SFERIC__POOL__SESSIONS", "64").env("SFERIC__POOL__INTRA_THREADS", "3")).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("64 × 3 = 192 threads") && err.contains("pool.allow_oversubscribed"), "{err}");
}

#[tokio::test]
async fn empty_bands_are_logged_once() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/overhead/1");
    if !shared.is_dir() {
        return sferic_tools::not_run(format_args!("{} is not there", shared.display()));
    }
    if !tools_are_there() {
        return;
    }
    // 64 bands a side over 128 bins, narrow ones near the centre. The rate is the frames'.
    let repository = tempfile::TempDir::new().unwrap();
    let bundle = repository.path().join("narrow/1");
    std::fs::create_dir_all(&bundle).unwrap();
    std::os::unix::fs::symlink(shared.join("model.onnx"), bundle.join("model.onnx")).unwrap();
    let text = std::fs::read_to_string(shared.join("model.toml")).unwrap();
    let (_, output_table) = text.split_once("[output]").unwrap();
    std::fs::write(
        bundle.join("model.toml"),
        format!("[features]\nn_fft = 256\nn_mels = 128\n[output]{output_table}"),
    )
    .unwrap();
    let server = sferic::nats::PrivateServer::start(&[]).await.unwrap();
    let settings =
        [("MODELS__REPOSITORY", repository.path().to_str().unwrap()), ("MODELS__DEFAULT", "narrow")];
    let mut daemon = Daemon::start_piped(server.url(), &settings).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    for n in 0..10u64 {
        let frame = with(&frame("b", &[[0.1, n as f32]; 1024]), &[("sample_rate", (48_000 + n).into())]);
        let outcome = Reply::of(client.request("iq.frames.b", pack(&frame).into()).await.unwrap());
        assert!(outcome.body["code"].is_null(), "{}", outcome.body);
    }
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert_eq!(log.matches("catch no bin").count(), 1, "{log}");
    assert!(log.contains("narrow@1") && log.contains("lowest_hz"), "{log}");
}
