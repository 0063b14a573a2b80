//! The shipped model `tdoa`: on DCF77 as three KiwiSDRs heard it at once, through `sferic publish`, and with
//! a clock that is off.

use std::path::{Path, PathBuf};

use geographiclib_rs::{Geodesic, InverseGeodesic};
use serde_json::Value;

use crate::sessions::{Outcomes, send};
use crate::support::*;

/// Mainflingen.
const TRUTH: [f64; 2] = [50.0152, 9.0112];

fn recordings() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/iq/kiwi_tdoa");
    let names = ["HB9ODP", "JO51xl", "pa0rdt"];
    let paths = names.map(|name| folder.join(format!("20200813T065220Z_77500_{name}.sigmf-meta")));
    let are_there = paths.iter().all(|path| path.is_file());
    if !are_there {
        sferic_tools::not_run(format!("{} is not there", folder.display()));
    }
    are_there.then(|| paths.into())
}

/// Metres and degrees from the fix to the truth.
fn to_truth(fix: &Value) -> (f64, f64) {
    let number = |path: &str| fix.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{fix}"));
    let (length, azimuth, _, _): (f64, f64, f64, f64) = Geodesic::wgs84().inverse(
        number("/position/latitude"),
        number("/position/longitude"),
        TRUTH[0],
        TRUTH[1],
    );
    (length, azimuth)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transmitter_is_found_within_its_ellipse() {
    let Some(recordings) = recordings().filter(|_| tools_are_there()) else { return };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let settings =
        [("MODELS__REPOSITORY", repository.to_str().unwrap()), ("MODELS__DEFAULT", "localization")];
    let world = World::start(&["degrees"], &settings).await;
    for (samples, session) in [("65536", "a"), ("240000", "b")] {
        let mut command = sferic(&["publish", "--url", world.server.url(), "--wait", "--json"]);
        command.args(["--model", "tdoa", "--session", session, "--session-size", "3"]);
        command.args(["--frame-samples", samples, "--timeout", "20s"]).args(&recordings);
        let (code, out, err) = output(&mut command).await;
        assert_eq!(code, 0, "{err}");
        let mut sessions = 0;
        for fix in out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if fix["code"] == "invalid_frame" {
                // The first stamps of a recording may be missing.
                panic!("{fix}");
            }
            let (metres, azimuth) = to_truth(&fix);
            let number = |path: &str| fix.pointer(path).and_then(Value::as_f64).unwrap();
            let (major, minor) = (number("/ellipse/semi_major"), number("/ellipse/semi_minor"));
            let turn = (90.0 - azimuth - number("/ellipse/rotation")).to_radians();
            let (along, across) = (metres * turn.cos(), metres * turn.sin());
            let sigma = number("/uncertainty/sigma_x").max(number("/uncertainty/sigma_y"));
            println!("{samples}: {metres:.0} m off, ellipse {major:.0} x {minor:.0} m, sigma {sigma:.0} m");
            assert!(metres <= 2600.0 && sigma <= 6000.0, "{fix}");
            assert!((along / major).powi(2) + (across / minor).powi(2) <= 1.0, "outside: {fix}");
            assert_eq!(fix["session"]["used"].as_array().unwrap().len(), 3, "{fix}");
            sessions += 1;
        }
        assert!(sessions >= 3 && sessions % 3 == 0, "{sessions} outcomes: {err}");
    }
}

/// Where the emitter of the simulated sessions is: longitude and latitude.
const EMITTER: (f64, f64) = (8.3, 50.2);

/// Its receivers, 150 to 200 km away, around it.
const RECEIVERS: [(f64, f64); 6] =
    [(8.0, 51.6), (10.4, 50.7), (9.6, 48.9), (7.0, 48.5), (5.6, 49.6), (6.0, 51.2)];

/// A daemon with the shipped models.
async fn with_tdoa(settings: &[(&str, &str)]) -> World {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let shipped = [("MODELS__REPOSITORY", shipped.to_str().unwrap()), ("MODELS__DEFAULT", "tdoa")];
    World::start(&["degrees"], &[&shipped, settings].concat()).await
}

/// Half a microsecond for each receiver, as configured.
fn sigmas() -> String {
    let receivers = (1..=6).map(|n| format!("{{source=\"rx{n}\",sigma=0.5e-6}}"));
    format!("[{}]", receivers.collect::<Vec<_>>().join(","))
}

/// What the emitter sends: 150 tones.
fn signal(seconds: f64) -> [f64; 2] {
    (0..150).fold([0.0; 2], |[re, im], n| {
        let n = f64::from(n);
        let hz = -880.0 + 11.7 * n + 3.0 * (2.3 * n).sin();
        let (sin, cos) = (std::f64::consts::TAU * (hz * seconds + 0.618 * n * n)).sin_cos();
        [re + 0.02 * cos, im + 0.02 * sin]
    })
}

/// Sends a session in which the clock of the third receiver is `late` seconds, and one may hear nothing;
/// gives its outcome.
async fn session(
    world: &World,
    outcomes: &mut Outcomes,
    second: usize,
    late: f64,
    silent: Option<usize>,
) -> Value {
    let (rate, samples) = (12_000.0, 16_384);
    for (n, (longitude, latitude)) in RECEIVERS.into_iter().enumerate() {
        let way: f64 =
            InverseGeodesic::<f64>::inverse(&Geodesic::wgs84(), EMITTER.1, EMITTER.0, latitude, longitude);
        let delay = way / 299_792_458.0 + if n == 2 { late } else { 0.0 };
        let gain = if silent == Some(n) { 0.0 } else { 1.0 };
        let heard: Vec<[f32; 2]> =
            (0..samples).map(|k| signal(f64::from(k) / rate - delay).map(|x| (gain * x) as f32)).collect();
        let source = format!("rx{}", n + 1);
        let changes = [
            ("sample_rate", rate.into()),
            ("frequency", 77_500.0.into()),
            ("datetime", format!("2026-01-01T00:00:{second:02}Z").into()),
            ("geolocation", point(longitude, latitude)),
            ("session_size", 6.into()),
            ("timeout_ms", 20_000.into()),
        ];
        let frame = with(&frame(&source, &heard), &changes);
        send(world, &format!("iq.sessions.{second}.{source}"), &frame).await;
    }
    outcomes.next(6).await["rx1"].clone()
}

/// What the daemon says of the third receiver.
async fn third_receiver(world: &World) -> Value {
    let sources = world.client.request("sferic.sources", "".into()).await.unwrap();
    let sources: Value = serde_json::from_slice(&sources.payload).unwrap();
    sources["sources"].as_array().unwrap().iter().find(|of| of["source"] == "rx3").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_named_and_left_out() {
    if !tools_are_there() {
        return;
    }
    let world = with_tdoa(&[("RECEIVERS", &sigmas())]).await;
    let mut outcomes = Outcomes::of(&world).await;
    let off = serde_json::json!([{"source": "rx3", "reason": "inconsistent"}]);
    for (second, late, left_out) in [(0, 0.0, serde_json::json!([])), (1, 5e-6, off)] {
        let answer = session(&world, &mut outcomes, second, late, None).await;
        assert_eq!(answer["session"]["left_out"], left_out, "{answer}");
        let position = &answer["position"];
        let [north, east] = ["latitude", "longitude"].map(|key| position[key].as_f64().unwrap());
        assert!((north - EMITTER.1).abs() < 0.02 && (east - EMITTER.0).abs() < 0.03, "{answer}");
    }
    let third = third_receiver(&world).await;
    assert_eq!(third["left_out"], serde_json::json!({"inconsistent": 1}), "{third}");
    assert!(
        (-40.0..0.0).contains(&third["level_db"].as_f64().unwrap()) && third["clock"].is_null(),
        "{third}"
    );
}

/// The same clock, but the place of the emitter is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_emitter_of_known_place_corrects_the_clock_that_is_off() {
    if !tools_are_there() {
        return;
    }
    let (longitude, latitude) = EMITTER;
    let place = format!("position={{latitude={latitude:?},longitude={longitude:?}}}");
    let reference = format!("[{{{place},frequency=77500.0,tolerance=10.0}}]");
    let world = with_tdoa(&[("RECEIVERS", &sigmas()), ("REFERENCES", &reference)]).await;
    let mut outcomes = Outcomes::of(&world).await;
    for second in 0..8 {
        let answer = session(&world, &mut outcomes, second, 5e-6, None).await;
        let left_out = answer["session"]["left_out"].as_array().unwrap();
        if second < 5 {
            assert_eq!(left_out[0]["source"], "rx3", "too little is known yet: {answer}");
        } else {
            assert!(left_out.is_empty(), "{answer}");
        }
        let position = &answer["position"];
        let [north, east] = ["latitude", "longitude"].map(|key| position[key].as_f64().unwrap());
        assert!((north - EMITTER.1).abs() < 0.02 && (east - EMITTER.0).abs() < 0.03, "{answer}");
    }
    // Of a session in which one hears nothing, no clock is learned.
    session(&world, &mut outcomes, 8, 5e-6, Some(1)).await;
    let after = session(&world, &mut outcomes, 9, 5e-6, None).await;
    assert_eq!(after["session"]["left_out"], serde_json::json!([]), "{after}");
    let third = third_receiver(&world).await;
    let offset = third["clock"]["offset_s"].as_f64().unwrap();
    assert!((offset - 5e-6).abs() < 0.5e-6 && third["clock"]["observations"] == 9, "{third}");
    assert_eq!(third["clock"]["jumps"], 0, "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_plays_sessions_of_several_receivers() {
    if !tools_are_there() {
        return;
    }
    let mut command = sferic(&["demo", "--receivers", "--frames", "4", "--json", "--seed", "3"]);
    let (code, out, err) = output(&mut command).await;
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sessions: Vec<_> = lines.iter().filter(|line| line["session"].is_u64()).collect();
    assert_eq!(sessions.len(), 4, "{out}");
    let first = &sessions[0]["outcome"]["session"];
    assert_eq!((first["used"].as_array().unwrap().len(), &first["size"]), (5, &5.into()), "{out}");
    // Every third of the simulated ones has a receiver that does not know where it is.
    let left_out = &sessions[2]["outcome"]["session"]["left_out"];
    assert_eq!(left_out, &serde_json::json!([{"source": "sim1", "reason": "no_place"}]), "{out}");
    assert!(sessions.iter().all(|line| line["miss"]["error_m"].as_f64().unwrap() < 50_000.0), "{out}");
    assert!(lines.last().unwrap()["accuracy"]["predictions"].as_u64().unwrap() >= 2, "{out}");
}
