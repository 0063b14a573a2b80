//! Versions that get a share of the traffic, are judged while they serve, and grow or go.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_nats::Client;
use futures::{StreamExt, stream};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};
use sferic::nats::PrivateServer;
use tempfile::TempDir;

use crate::model_service::add;
use crate::support::*;

/// A server, a repository with versions of `m`, and daemons.
pub struct Fleet {
    _folder: TempDir,
    server: PrivateServer,
    pub client: Client,
    _daemons: Vec<Daemon>,
}

impl Fleet {
    /// `versions` are of which fixture each is; version 1 is active.
    pub async fn start(daemons: usize, versions: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        add(folder.path(), "m/1", versions[0]);
        let server = PrivateServer::start(&[]).await.unwrap();
        let settings = [
            ("MODELS__REPOSITORY", folder.path().to_str().unwrap()),
            ("MODELS__DEFAULT", "m"),
            ("MODELS__WATCH", "false"),
            ("CACHE__ENABLED", "false"),
            ("LIMITS__TIMEOUT", "10s"),
            // These daemons share few cores with other tests; latency is judged in crates/canary.
            ("MODELS__CANARY__LATENCY", "100"),
        ];
        let mut running = Vec::new();
        for _ in 0..daemons {
            running.push(Daemon::start(server.url(), &settings).await);
        }
        let client = client(server.url()).await;
        let fleet = Self { _folder: folder, server, client, _daemons: running };
        // The others would begin with the versions that are added.
        let all = async { while fleet.models(&["list"]).await.matches("active").count() < daemons {} };
        tokio::time::timeout(PATIENCE, all).await.expect("a daemon does not start");
        for (n, fixture) in versions.iter().enumerate().skip(1) {
            let name = format!("m@{}", n + 1);
            add(fleet._folder.path(), &format!("m/{}", n + 1), fixture);
            fleet.models(&["load", &name]).await;
        }
        fleet
    }

    /// `sferic models …` on every daemon.
    pub async fn models(&self, arguments: &[&str]) -> String {
        let all = [&["models"], arguments, &["--url", self.server.url()]].concat();
        let (code, out, err) = output(&mut sferic(&all)).await;
        assert_eq!(code, 0, "{out}{err}");
        out
    }

    /// The split of a daemon.
    async fn split(&self) -> Value {
        let answer = self.client.request("sferic.models.split", "".into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// The outcome of a frame.
    pub async fn ask(&self, id: &str, session: Option<&str>) -> Value {
        let session = session.map_or(rmpv::Value::Nil, Into::into);
        let frame = pack(&with(&steady(id), &[("session_id", session)]));
        let answer = self.client.request("iq.frames.rx", frame.into());
        Reply::of(tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap()).body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_of_the_sessions_get_the_canary_on_three_daemons_alike() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(3, &["degrees/1", "degrees/1"]).await;
    let shown = fleet.models(&["split", "m", "1=90", "2=10", "--key", "session"]).await;
    assert_eq!(shown.matches("split by session").count(), 3, "{shown}");
    let version = async |n: u32| {
        let session = format!("session-{}", n % 20_000);
        let outcome = fleet.ask(&n.to_string(), Some(&session)).await;
        (session, outcome["model_version"].as_str().unwrap().to_owned())
    };
    // The last 2000 are of sessions that were there before, mostly at another daemon.
    let served: Vec<_> = stream::iter(0..22_000).map(version).buffer_unordered(64).collect().await;
    let shown = fleet.models(&["split", "m"]).await;
    assert_eq!(shown.matches("split by session").count(), 3, "{shown}");
    let mut sessions = HashMap::new();
    for (session, version) in served {
        let before = sessions.entry(session.clone()).or_insert_with(|| version.clone());
        assert_eq!(*before, version, "{session} has one version; {shown}");
    }
    let canary = sessions.values().filter(|version| *version == "2").count();
    assert!(sessions.len() == 20_000 && (1800..=2200).contains(&canary), "{canary} of {}", sessions.len());
    let (_, named) = (fleet.models(&["split", "m", "--end"]).await, fleet.ask("x", Some("session-7")).await);
    assert_eq!(named["model_version"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_is_rolled_back_at_once() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(1, &["degrees/1", "nan/1"]).await;
    fleet.models(&["split", "1=90", "2=10", "--key", "frame"]).await;
    let (begun, mut failed) = (Instant::now(), 0);
    for n in 0.. {
        let outcome = fleet.ask(&n.to_string(), None).await;
        failed += u32::from(outcome["code"].is_string());
        if n % 10 == 0 && fleet.split().await["split"].is_null() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it is not rolled back");
    }
    let (ended, took) = (fleet.split().await["ended"].clone(), begun.elapsed());
    assert!(ended.as_str().unwrap().starts_with("rolled back: "), "{ended}");
    assert!(failed <= 10 && took < Duration::from_secs(2), "{failed} failures, {took:?}");
    for n in 0..100 {
        assert_eq!(fleet.ask(&format!("after-{n}"), None).await["model_version"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_with_larger_errors_is_found_by_its_truth_and_a_good_one_is_promoted() {
    if !tools_are_there() {
        return;
    }
    let fleet = Fleet::start(1, &["degrees/1", "degrees/1"]).await;
    let mut rng = SmallRng::seed_from_u64(1);
    // Half each, so that pairs are many. The truth lies about the answer as its sigma says, about the
    // canary's farther off.
    let mut run = async |worse: f64, most: u32| {
        for n in 0..most {
            let id = format!("{worse}-{n}");
            let outcome = fleet.ask(&id, None).await;
            let factor = if outcome["model_version"] == "2" { worse } else { 1.0 };
            let mut off = |sigma: &Value| -> f64 {
                let normal: f64 = StandardNormal.sample(&mut rng);
                normal * factor * sigma.as_f64().unwrap()
            };
            let (position, sigmas) = (&outcome["position"], &outcome["uncertainty"]);
            let [latitude, longitude] = ["latitude", "longitude"].map(|key| position[key].as_f64().unwrap());
            let north = off(&sigmas["sigma_y"]) / 111_200.0;
            let east = off(&sigmas["sigma_x"]) / 111_200.0 / latitude.to_radians().cos();
            let truth = json!({
                "frame_id": id,
                "position": {"latitude": latitude + north, "longitude": longitude + east},
            });
            fleet.client.publish("iq.truth.rx", truth.to_string().into()).await.unwrap();
            if n % 50 == 0 && fleet.split().await["split"].is_null() {
                return n;
            }
        }
        most
    };
    fleet.models(&["split", "1=50", "2=50", "--key", "frame"]).await;
    let found = run(1.2, 20_000).await;
    let answer = fleet.split().await;
    assert_eq!(answer["ended"], "rolled back: m@2 is worse in its score", "{answer}");
    assert!(found < 8000, "after {found} frames");
    let of = |version: &str| answer["versions"][version]["error"].as_f64().unwrap();
    assert!((1.05..1.4).contains(&(of("2") / of("1"))), "{answer}");
    let covered = answer["versions"]["1"]["coverage"].as_f64().unwrap();
    let promised = answer["versions"]["1"]["promised_coverage"].as_f64().unwrap();
    assert!((covered - promised).abs() < 0.1, "{answer}");
    // A good one grows and becomes active.
    let growing =
        ["split", "2=1", "--steps", "20,50,100", "--for", "300ms", "--min-frames", "10", "--key", "frame"];
    fleet.models(&growing).await;
    run(1.0, 20_000).await;
    let answer = fleet.split().await;
    assert_eq!(answer["ended"], "promoted: m@2 is active", "{answer}");
    assert_eq!(fleet.ask("after", None).await["model_version"], "2");
}
