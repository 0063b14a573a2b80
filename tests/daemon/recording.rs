//! `sferic record`, `[record]` and `sferic replay`.

use std::path::Path;
use std::process::Stdio;

use rmpv::Value;
use sferic::nats::PrivateServer;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::jetstream::Store;
use crate::model_service::add;
use crate::support::*;

/// `sferic record` into a folder, once it listens.
async fn recording(url: &str, folder: &Path, more: &[&str]) -> Child {
    let mut command = sferic(&["record", "--url", url, "--out", folder.to_str().unwrap()]);
    let mut recorder = command.args(more).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(recorder.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.starts_with("recording iq.frames."), "{line}");
    // The rest goes nowhere; the pipe stays open.
    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    recorder
}

async fn exit_code(recorder: &mut Child) -> Option<i32> {
    tokio::time::timeout(PATIENCE, recorder.wait()).await.expect("it does not end").unwrap().code()
}

async fn replay(url: &str, folder: &Path, more: &[&str]) -> (i32, serde_json::Value, String) {
    let mut command = sferic(&["replay", "--url", url, "--rate", "max", "--compare", "--json"]);
    let (code, out, err) = output(command.arg(folder).args(more)).await;
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

/// Frames of all datatypes: the bytes are small whatever they mean.
fn of_all_datatypes(model: &str) -> Vec<Value> {
    let datatypes =
        ["cf32_le", "cf32_be", "cf64_le", "ci32_le", "ci16_le", "ci16_be", "cu16_le", "ci8", "cu8"];
    let frames = datatypes.iter().enumerate().map(|(n, datatype)| {
        // As floats of any order a sample is 0.25 or next to nothing.
        let sample: &[u8] = match *datatype {
            "cf32_le" => &0.25f32.to_le_bytes(),
            "cf32_be" => &0.25f32.to_be_bytes(),
            "cf64_le" => &0.25f64.to_le_bytes(),
            _ => &[32, 8, 16, 8],
        };
        map(&[
            ("frame_id", format!("{model}-{datatype}").into()),
            ("seq", n.into()),
            ("model", model.into()),
            ("datatype", (*datatype).into()),
            ("sample_rate", 48e3.into()),
            ("frequency", 868.3e6.into()),
            ("samples", Value::Binary(sample.repeat(64))),
        ])
    });
    frames.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_frames_are_answered_the_same_again() {
    if !tools_are_there() {
        return;
    }
    let models = ["degrees", "metres", "classes", "label", "tensors", "given", "half", "double"];
    let world = World::start(&models, &[("LIMITS__TIMEOUT", "20s")]).await;
    let url = world.server.url();
    let folder = TempDir::new().unwrap();
    let mut frames: Vec<Value> =
        models.iter().filter(|model| **model != "given").flat_map(|model| of_all_datatypes(model)).collect();
    // Pairs, tensors alone, and a frame that fails by itself.
    let pairs = Value::Array(vec![Value::Array(vec![0.5.into(), (-0.25).into()]); 32]);
    frames.push(map(&[("frame_id", "pairs".into()), ("model", "classes".into()), ("iq_data", pairs)]));
    let levels: Vec<u8> = [45.0f32, 7.6, 100.0, 50.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let levels = map(&[
        ("shape", Value::Array(vec![4.into()])),
        ("dtype", "float32".into()),
        ("data", Value::Binary(levels)),
    ]);
    frames.push(map(&[
        ("frame_id", "levels".into()),
        ("model", "given".into()),
        ("tensors", map(&[("levels", levels)])),
    ]));
    frames.push(with(&steady("unknown"), &[("model", "nobody".into())]));
    let count = frames.len().to_string();
    let mut recorder = recording(url, folder.path(), &["--count", &count]).await;
    // What is no frame is not recorded.
    for payload in [b"\xc1".to_vec()].into_iter().chain(frames.iter().map(pack)) {
        world.client.request("iq.frames.t.rx", payload.into()).await.unwrap();
    }
    assert_eq!(exit_code(&mut recorder).await, Some(0));

    let (code, report, err) = replay(url, folder.path(), &[]).await;
    assert_eq!(code, 0, "{report} {err}");
    let all = frames.len() as u64;
    assert_eq!(
        (report["frames"].as_u64(), report["equal"].as_u64(), report["bit_equal"].as_u64()),
        (Some(all), Some(all), Some(all)),
        "{report}"
    );
    assert_eq!(report["not_compared"], 0);

    // Another model answers otherwise, and where is said.
    let (code, report, _) = replay(url, folder.path(), &["--model", "classes"]).await;
    assert_eq!(code, 1);
    assert!(report["different"].as_u64() > Some(all / 2), "{report}");
    let mut command = sferic(&["replay", "--url", url, "--rate", "max"]);
    let (code, out, err) = output(command.arg(folder.path())).await;
    assert_eq!((code, out.lines().count() as u64), (0, all), "{err}");
    assert!(err.contains(&format!("{all} frames sent again, 0 without an outcome")), "{err}");
    assert!(out.contains("replay.t.rx"), "{out}");
    let ledger = world.ledger().await;
    assert_eq!(ledger.lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_constant_shows_in_the_one_answer_that_it_changes() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let client = client(server.url()).await;
    let models = TempDir::new().unwrap();
    add(models.path(), "classes/1", "classes/1");
    let repository = models.path().to_str().unwrap().to_owned();
    let settings = [("MODELS__REPOSITORY", repository.as_str()), ("MODELS__DEFAULT", "classes")];
    let mut daemon = Daemon::start(server.url(), &settings).await;
    let folder = TempDir::new().unwrap();
    let mut recorder = recording(server.url(), folder.path(), &["--count", "6"]).await;
    for n in 0..6 {
        // The best two of I, Q and their power: `q` is one of them in one frame alone.
        let sample = if n == 3 { [-0.5, 0.75] } else { [0.5, -0.75] };
        let asked = client.request("iq.frames.t.rx", pack(&frame(&format!("f{n}"), &[sample; 32])).into());
        asked.await.unwrap();
    }
    assert_eq!(exit_code(&mut recorder).await, Some(0));
    assert_eq!(replay(server.url(), folder.path(), &[]).await.0, 0);
    daemon.signal("TERM").await;
    daemon.ended().await;
    let bundle = models.path().join("classes/1/model.toml");
    let text = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(&bundle, text.replace(r#""q""#, r#""quadrature""#)).unwrap();
    let _daemon = Daemon::start(server.url(), &settings).await;
    let (code, report, err) = replay(server.url(), folder.path(), &[]).await;
    assert_eq!(code, 1, "{err}");
    assert_eq!((report["equal"].as_u64(), report["different"].as_u64()), (Some(5), Some(1)), "{report}");
    let difference = report["differences"]["f3"].as_str().unwrap();
    assert!(difference.contains("q 0."), "{difference}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_records_what_it_answers_by_rule() {
    if !tools_are_there() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let records = folder.path().to_str().unwrap();
    let settings = [("RECORD__FOLDER", records), ("RECORD__RULE", "failures"), ("RECORD__SOURCE", "t.>")];
    let mut world = World::start(&["poison"], &settings).await;
    for n in 0..4 {
        let level = if n % 2 == 0 { 0.5 } else { 0.95 };
        world.ask(&frame(&format!("f{n}"), &[[level, 0.0]; 32])).await;
    }
    let bytes = pack(&frame("elsewhere", &[[0.95, 0.0]; 32]));
    world.client.request("iq.frames.other", bytes.into()).await.unwrap();
    world.daemon.signal("TERM").await;
    assert!(world.daemon.ended().await.success());
    let frames = sferic_recording::ring::recorded(folder.path()).unwrap();
    let ids: Vec<_> = frames.iter().map(|frame| frame.frame["frame_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["f1", "f3"]);
    assert_eq!(frames[0].outcome["code"], "inference_failed");
    let expected: Vec<u8> = [0.95f32, 0.0].repeat(32).into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!(frames[0].samples().unwrap(), expected);
}

/// A small file system, as long as it lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted.ok().filter(|status| status.success()).map(|_| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_recording_with_one_line_and_not_the_daemon() {
    if !tools_are_there() {
        return;
    }
    let Some(disk) = SmallDisk::mount() else {
        return sferic_tools::not_run("a small file system cannot be mounted by this user");
    };
    let server = PrivateServer::start(&[]).await.unwrap();
    let repository = repository(&["degrees"]);
    let settings = [
        ("MODELS__REPOSITORY", repository.path().to_str().unwrap()),
        ("MODELS__DEFAULT", "degrees"),
        ("RECORD__FOLDER", disk.0.path().to_str().unwrap()),
        ("RECORD__MAX_BYTES", "1MiB"),
        ("CACHE__ENABLED", "false"),
    ];
    let mut daemon = Daemon::start_piped(server.url(), &settings).await;
    let client = client(server.url()).await;
    for n in 0..100 {
        let asked =
            client.request("iq.frames.t.rx", pack(&frame(&n.to_string(), &[[0.5, 0.25]; 1024])).into());
        let reply = Reply::of(asked.await.unwrap());
        assert_eq!(reply.body["kind"], "localization", "{:?}", reply.body);
    }
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert!(daemon.ended().await.success());
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("recording has ended")).collect();
    assert!(lines.len() == 1 && lines[0].contains("No space left"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_replayed_straight_from_their_stream() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let _daemon = store.daemon(&[]).await;
    store.publish("t.rx", 1..=10, &[]).await;
    store.outcomes(10).await;
    let url = store.server.url();
    let run = async |more: &[&str]| {
        let mut command =
            sferic(&["replay", "--url", url, "--stream", "--rate", "max", "--compare", "--json"]);
        let (code, out, err) = output(command.args(more).env("SFERIC__NATS__MODE", "jetstream")).await;
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        (code, report["frames"].as_u64(), report["bit_equal"].as_u64(), err)
    };
    let (code, frames, equal, err) = run(&[]).await;
    assert_eq!((code, frames, equal), (0, Some(10), Some(10)), "{err}");
    // The replayed frames are in the stream, too, and are passed over.
    let (code, frames, equal, err) = run(&["--from", "3", "--to", "12"]).await;
    assert_eq!((code, frames, equal), (0, Some(8), Some(8)), "{err}");
    assert!(!err.contains("cannot be read") && !err.contains("can be read"), "{err}");
    // What is no frame is left out, and said.
    store.put("t.rx", b"no frame".to_vec()).await;
    store.outcomes(29).await;
    let (code, frames, _, err) = run(&["--from", "9"]).await;
    assert_eq!((code, frames), (0, Some(2)), "{err}");
    assert!(err.contains("1 messages of the stream are no frames that can be read"), "{err}");
    let (code, _, _, err) =
        run(&["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z"]).await;
    assert!(code == 1 && err.contains("no frame is in that range"), "{err}");
    let (code, _, _, err) = run(&["--from", "5000"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("has no message from 5000"), "{err}");
}
