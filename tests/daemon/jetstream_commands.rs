//! Commands beside streams.

use crate::jetstream::{Store, assert_once};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn publish_waits_for_the_outcome_and_says_when_the_stream_is_full() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let daemon = store.daemon(&[("JETSTREAM__MAX_BYTES", "1MiB")]).await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("steady.cf32");
    std::fs::write(&file, [0.5f32.to_le_bytes(); 2 * 64 * 30].concat()).unwrap();
    let publish = |arguments: &[&'static str]| {
        let own = ["publish", "--url", store.server.url(), "--source", "rx"];
        let mut command = sferic(&own);
        command.args(arguments).arg(&file);
        command
    };
    let (code, out, err) = output(&mut publish(&["--frame-samples", "64", "--wait"])).await;
    assert_eq!((code, out.lines().count()), (0, 30), "{out}{err}");
    let (code, _, err) = output(&mut publish(&["--frame-samples", "64"])).await;
    assert_eq!(code, 0, "{err}");
    assert_once(&store.outcomes(60).await, 60);
    store.settled().await;
    daemon.signal("STOP").await;
    std::fs::write(&file, vec![0.5f32.to_le_bytes(); 2 * 1000 * 200].concat()).unwrap();
    let (code, _, err) = output(&mut publish(&["--frame-samples", "1000"])).await;
    daemon.signal("CONT").await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("the stream refuses frame") && err.contains("maximum bytes exceeded"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_shows_what_is_there_of_streams_and_what_the_server_promises() {
    if !tools_are_there() {
        return;
    }
    let store = Store::start(&["degrees"]).await;
    let doctor = || {
        let mut command = sferic(&["doctor", "--url", store.server.url()]);
        command.envs(store.settings(&[]).iter().map(|(key, value)| (format!("SFERIC__{key}"), value)));
        command
    };
    let (code, out, err) = output(&mut doctor()).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("a power cut costs") && out.contains("the daemon makes it at its start"), "{out}");
    assert!(store.context.get_stream("IQ_FRAMES").await.is_err(), "it makes nothing");
    let mut daemon = store.daemon(&[]).await;
    store.publish("rx", 0..3, &[]).await;
    store.settled().await;
    daemon.signal("TERM").await;
    assert!(daemon.ended().await.success());
    let (code, out, err) = output(&mut doctor()).await;
    assert_eq!(code, 0, "{out}{err}");
    for part in ["stream IQ_FRAMES", "3 messages, ", "1 copy, duplicates within 10m", "0 frames wait"] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    let (code, out, _) = output(doctor().env("SFERIC__JETSTREAM__REPLICAS", "3")).await;
    assert_eq!(code, 1);
    assert!(out.contains("num_replicas is 1, must be 3"), "{out}");
    let (code, out, _) =
        output(doctor().arg("--monitor").arg(store.server.url().replace("nats", "http"))).await;
    assert_eq!(code, 1);
    assert!(out.contains("does not show /jsz of a nats-server"), "{out}");
}
