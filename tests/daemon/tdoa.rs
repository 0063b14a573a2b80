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

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_named_and_left_out() {
    if !tools_are_there() {
        return;
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let sigmas: Vec<_> = (1..=6).map(|n| format!("{{source=\"rx{n}\",sigma=0.5e-6}}")).collect();
    let settings = [
        ("MODELS__REPOSITORY", shipped.to_str().unwrap()),
        ("MODELS__DEFAULT", "tdoa"),
        ("RECEIVERS", &format!("[{}]", sigmas.join(","))),
    ];
    let world = World::start(&["degrees"], &settings).await;
    let mut outcomes = Outcomes::of(&world).await;
    // Around 50 N 8 E, 150 to 200 km away, the emitter among them.
    let places = [(8.0, 51.6), (10.4, 50.7), (9.6, 48.9), (7.0, 48.5), (5.6, 49.6), (6.0, 51.2)];
    let (emitter, rate, samples) = ((8.3, 50.2), 12_000.0, 16_384);
    let signal = |seconds: f64| -> [f64; 2] {
        (0..150).fold([0.0; 2], |[re, im], n| {
            let n = f64::from(n);
            let hz = -880.0 + 11.7 * n + 3.0 * (2.3 * n).sin();
            let (sin, cos) = (std::f64::consts::TAU * (hz * seconds + 0.618 * n * n)).sin_cos();
            [re + 0.02 * cos, im + 0.02 * sin]
        })
    };
    let far = |(longitude, latitude): (f64, f64)| -> f64 {
        InverseGeodesic::<f64>::inverse(&Geodesic::wgs84(), emitter.1, emitter.0, latitude, longitude)
    };
    for (session, late) in [("fine", 0.0), ("off", 5e-6)] {
        for (n, place) in places.iter().enumerate() {
            let delay = far(*place) / 299_792_458.0 + if n == 2 { late } else { 0.0 };
            let heard: Vec<[f32; 2]> =
                (0..samples).map(|k| signal(f64::from(k) / rate - delay).map(|x| x as f32)).collect();
            let source = format!("rx{}", n + 1);
            let changes = [
                ("sample_rate", rate.into()),
                ("datetime", "2026-01-01T00:00:00Z".into()),
                ("geolocation", point(place.0, place.1)),
                ("session_size", 6.into()),
                ("timeout_ms", 20_000.into()),
            ];
            let frame = with(&frame(&source, &heard), &changes);
            send(&world, &format!("iq.sessions.{session}.{source}"), &frame).await;
        }
        let answer = outcomes.next(6).await["rx1"].clone();
        let left_out = &answer["session"]["left_out"];
        if late == 0.0 {
            assert_eq!(left_out, &serde_json::json!([]), "{answer}");
        } else {
            let expected = serde_json::json!([{"source": "rx3", "reason": "inconsistent"}]);
            assert_eq!(left_out, &expected, "{answer}");
        }
        let position = &answer["position"];
        let [north, east] = ["latitude", "longitude"].map(|key| position[key].as_f64().unwrap());
        assert!((north - emitter.1).abs() < 0.02 && (east - emitter.0).abs() < 0.03, "{answer}");
    }
    let sources = world.client.request("sferic.sources", "".into()).await.unwrap();
    let sources: serde_json::Value = serde_json::from_slice(&sources.payload).unwrap();
    let third = sources["sources"].as_array().unwrap().iter().find(|of| of["source"] == "rx3").unwrap();
    assert_eq!(third["left_out"], serde_json::json!({"inconsistent": 1}), "{sources}");
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
