//! `sferic demo --receivers`: sessions of several receivers, simulated and, where they are there, measured.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use geographiclib_rs::{DirectGeodesic, Geodesic, InverseGeodesic};
use jiff::Timestamp;
use num_complex::Complex64;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Normal, StandardNormal};
use serde::Deserialize;
use serde_json::json;
use sferic_samples::{Datatype, Geolocation};
use sferic_scene::GeoPoint;
use sferic_wire::FrameMessage;

use super::accuracy::{Accuracy, Miss};
use super::frames::{BUDGET, OUTSTANDING};
use crate::cli::outcome::Outcome;
use crate::cli::output::Output;
use crate::nats::Connection;

/// Samples a second of the simulated receivers, and samples of a frame: 1.4 s.
const RATE_HZ: f64 = 12_000.0;
const SAMPLES: usize = 16_384;

/// The emitter's band on either side of its centre, and where that is.
const BAND_HZ: f64 = 1_000.0;
const FREQUENCY_HZ: f64 = 77_500.0;

/// Tones that the emitter's signal is made of.
const TONES: usize = 300;

/// Standard deviation of the receivers' timing errors, the prior of the shipped model `tdoa`.
const TIMING_S: f64 = 10e-6;

/// Where the network stands, and how far its receivers are from there.
const CENTRE: GeoPoint = GeoPoint { latitude: 50.0, longitude: 8.0 };
const REACH_M: f64 = 300e3;

/// Metres per second.
const LIGHT: f64 = 299_792_458.0;

/// What one receiver hears of an emission.
struct Heard {
    source: String,
    place: Option<Geolocation>,
    datetime: Option<Timestamp>,
    rate_hz: Option<f64>,
    frequency_hz: Option<f64>,
    samples: Vec<u8>,
}

/// An emission, what is heard of it, and where it really was.
struct Emission {
    model: &'static str,
    heard: Vec<Heard>,
    truth: GeoPoint,
}

/// A row of measured levels.
#[derive(Deserialize)]
struct Measured {
    emitter: [f64; 2],
    receivers: BTreeMap<String, Vec<f64>>,
}

/// Plays so many sessions, half of them measured ones where the folder has any; returns whether every one was
/// answered.
///
/// # Errors
/// The measurements cannot be read, or the connection is lost.
pub(super) async fn play(
    connection: &Connection,
    prefix: &str,
    output: &Output,
    (seed, sessions): (u64, u64),
    measurements: Option<&Path>,
    as_json: bool,
) -> anyhow::Result<bool> {
    let measured = measurements.map(read).transpose()?.unwrap_or_default();
    if !as_json {
        output.say(match measured.len() {
            0 => "simulated: five receivers within 300 km, an emitter among them".to_owned(),
            rows => format!(
                "simulated sessions, and of {rows} measured ones of POWDER those no model was trained on"
            ),
        });
        output.line(format!(
            "{:>7}  {:<6} {:>4} {:<24} {:>9}  {:<6}",
            "session", "model", "used", "left out", "off by", "holds"
        ))?;
    }
    let emission = |index: u64| match spread(&measured, index).filter(|_| index % 2 == 1) {
        Some(emission) => levels(emission),
        None => simulated(seed, index),
    };
    let ask = async |index: u64| {
        let emission = tokio::task::block_in_place(|| emission(index));
        let first = send(connection, prefix, index, &emission).await?;
        anyhow::Ok((index, emission, first))
    };
    let mut answers = std::pin::pin!(stream::iter(0..sessions).map(ask).buffered(OUTSTANDING));
    let mut misses: BTreeMap<&str, Vec<Miss>> = BTreeMap::new();
    let mut answered = 0;
    while let Some((index, emission, outcome)) = answers.try_next().await? {
        let miss = Miss::of(&outcome, emission.truth);
        output.line(line(index, &emission, &outcome, miss, as_json))?;
        output.advance();
        answered += u64::from(miss.is_some());
        misses.entry(emission.model).or_default().extend(miss);
    }
    for (model, misses) in misses {
        let Some(accuracy) = Accuracy::of(&misses) else { continue };
        output.line(if as_json {
            json!({"model": model, "accuracy": accuracy}).to_string()
        } else {
            let Accuracy { predictions, median_error_m, p90_error_m, coverage, .. } = accuracy;
            let held = 100.0 * coverage[2];
            format!(
                "{model}: {predictions} sessions, error median {median_error_m:.0} m, 90 % below \
                 {p90_error_m:.0} m; 90 % ellipses of its sigmas held {held:.1} %"
            )
        })?;
    }
    Ok(answered == sessions)
}

/// One of them, far from the one before: rows that follow each other are of one walk.
fn spread(measured: &[Emission], index: u64) -> Option<&Emission> {
    let at = (index / 2).wrapping_mul(137) % (measured.len() as u64).max(1);
    measured.get(at as usize)
}

/// Sends the frames of a session; returns the outcome of the first one, which is that of all.
async fn send(
    connection: &Connection,
    prefix: &str,
    index: u64,
    emission: &Emission,
) -> anyhow::Result<Outcome> {
    let one = async |heard: &Heard| {
        let message = FrameMessage {
            frame_id: &format!("demo-{index}-{}", heard.source),
            seq: Some(index),
            datetime: heard.datetime,
            datatype: Datatype::Cf32Le.name(),
            sample_rate: heard.rate_hz,
            num_channels: 1,
            frequency: heard.frequency_hz,
            geolocation: heard.place.as_ref(),
            session_size: Some(emission.heard.len() as u64),
            model: Some(emission.model),
            timeout_ms: Some(BUDGET.as_millis() as u64),
            samples: &heard.samples,
            ..FrameMessage::default()
        };
        let subject = format!("{prefix}.sessions.demo-{index}.{}", heard.source);
        let reply = connection.client().request(subject, message.encode()?.into()).await;
        Outcome::decode(&reply.with_context(|| format!("session {index} got no answer"))?)
    };
    let outcomes = futures::future::try_join_all(emission.heard.iter().map(one)).await?;
    outcomes.into_iter().next().context("a session without frames")
}

fn line(index: u64, emission: &Emission, outcome: &Outcome, miss: Option<Miss>, as_json: bool) -> String {
    let body: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap_or_default();
    let session = &body["session"];
    if as_json {
        let GeoPoint { latitude, longitude } = emission.truth;
        let truth = json!({"latitude": latitude, "longitude": longitude});
        return json!({"session": index, "truth": truth, "outcome": body, "miss": miss}).to_string();
    }
    let out = session["left_out"].as_array().into_iter().flatten();
    let out: Vec<_> = out
        .filter_map(|each| Some(format!("{} ({})", each["source"].as_str()?, each["reason"].as_str()?)))
        .collect();
    let used = session["used"].as_array().map_or(0, Vec::len);
    let out = if out.len() > 1 { format!("{} and {} more", out[0], out.len() - 1) } else { out.join("") };
    let model = emission.model;
    let Some(miss) = miss else {
        return format!("{index:>7}  {model:<6} {used:>4} {out:<24} {outcome}");
    };
    let level = outcome.number(&["uncertainty", "confidence_interval"]).unwrap_or(f64::NAN);
    let holds = if miss.within <= level { "yes" } else { "no" };
    format!("{index:>7}  {model:<6} {used:>4} {out:<24} {:>7.0} m  {holds:<6}", miss.error_m)
}

/// Five receivers, and an emitter among them that sends something like noise from another place each time.
/// Every third session one receiver does not know where it is.
fn simulated(seed: u64, index: u64) -> Emission {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let place = |random: &mut Xoshiro256PlusPlus, reach: f64| {
        let (azimuth, share): (f64, f64) = (random.random_range(0.0..360.0), random.random());
        let (latitude, longitude): (f64, f64) =
            Geodesic::wgs84().direct(CENTRE.latitude, CENTRE.longitude, azimuth, reach * share.sqrt());
        GeoPoint { latitude, longitude }
    };
    // They stand where they stand, whatever is sent.
    let mut standing = Xoshiro256PlusPlus::seed_from_u64(seed);
    let truth = place(&mut random, 0.8 * REACH_M);
    let tones: Vec<(f64, Complex64)> = (0..TONES)
        .map(|_| {
            let hz = random.random_range(-0.9 * BAND_HZ..0.9 * BAND_HZ);
            let [re, im]: [f64; 2] = [StandardNormal.sample(&mut random), StandardNormal.sample(&mut random)];
            (hz, Complex64::new(re, im) / (TONES as f64).sqrt() * 0.1)
        })
        .collect();
    let now = Timestamp::now();
    let timing = Normal::new(0.0, TIMING_S).ok();
    let heard = (0..5)
        .map(|n| {
            let at = place(&mut standing, REACH_M);
            let metres: f64 =
                Geodesic::wgs84().inverse(at.latitude, at.longitude, truth.latitude, truth.longitude);
            let error = timing.map_or(0.0, |timing| timing.sample(&mut random));
            let samples = delayed(&tones, metres / LIGHT + error, &mut random);
            let knows = n > 0 || index % 3 != 2;
            Heard {
                source: format!("sim{}", n + 1),
                place: knows.then(|| Geolocation::point(at.longitude, at.latitude)),
                datetime: Some(now),
                rate_hz: Some(RATE_HZ),
                frequency_hz: Some(FREQUENCY_HZ),
                samples,
            }
        })
        .collect();
    Emission { model: "tdoa", heard, truth }
}

/// The tones as they are after a delay, with a tenth of their power of noise.
fn delayed(tones: &[(f64, Complex64)], delay_s: f64, random: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut samples = vec![Complex64::default(); SAMPLES];
    for &(hz, amplitude) in tones {
        let turn = |seconds: f64| Complex64::from_polar(1.0, std::f64::consts::TAU * hz * seconds);
        let (mut value, step) = (amplitude * turn(-delay_s), turn(1.0 / RATE_HZ));
        for sample in &mut samples {
            *sample += value;
            value *= step;
        }
    }
    let mut noise = || -> f64 {
        let normal: f64 = StandardNormal.sample(random);
        0.03 * normal
    };
    let floats = samples.into_iter().flat_map(|x| [(x.re + noise()) as f32, (x.im + noise()) as f32]);
    floats.flat_map(f32::to_le_bytes).collect()
}

/// Reads measured sessions, and where the fixed receivers stand.
fn read(folder: &Path) -> anyhow::Result<Vec<Emission>> {
    let text = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let fixed: BTreeMap<String, [f64; 2]> = serde_json::from_str(&text("fixed_receivers.json")?)?;
    let rows = text("fixes.jsonl")?;
    let rows = rows.lines().map(serde_json::from_str::<Measured>);
    let mut emissions = Vec::new();
    for row in rows {
        let row = row.context("fixes.jsonl")?;
        if is_test(row.emitter) {
            emissions.push(Emission {
                model: "rss",
                truth: GeoPoint { latitude: row.emitter[0], longitude: row.emitter[1] },
                heard: row.receivers.into_iter().filter_map(|of| level(of, &fixed)).collect(),
            });
        }
    }
    Ok(emissions)
}

/// A steady signal of the level that a receiver has measured, dB.
fn level((source, of): (String, Vec<f64>), fixed: &BTreeMap<String, [f64; 2]>) -> Option<Heard> {
    let [latitude, longitude] = match of[..] {
        [_] => *fixed.get(&source)?,
        [_, latitude, longitude] => [latitude, longitude],
        _ => return None,
    };
    let amplitude = 10f64.powf(of.first()? / 20.0) as f32;
    let samples = [amplitude, 0.0].repeat(2).into_iter().flat_map(f32::to_le_bytes).collect();
    let place = Some(Geolocation::point(longitude, latitude));
    Some(Heard { source, place, datetime: None, rate_hz: None, frequency_hz: None, samples })
}

/// Whether a place was kept from the training of `rss`, as its card says.
fn is_test([latitude, longitude]: [f64; 2]) -> bool {
    let (length, azimuth, _, _): (f64, f64, f64, f64) =
        Geodesic::wgs84().inverse(40.7665, -111.8420, latitude, longitude);
    let cell = |metres: f64| (metres / 150.0).floor() as i64;
    let (column, row) =
        (cell(length * azimuth.to_radians().sin()), cell(length * azimuth.to_radians().cos()));
    (((column * 73_856_093) ^ (row * 19_349_663)) as u32).is_multiple_of(5)
}

/// The same session again.
fn levels(emission: &Emission) -> Emission {
    let again = |heard: &Heard| Heard {
        source: heard.source.clone(),
        place: heard.place.clone(),
        samples: heard.samples.clone(),
        ..*heard
    };
    Emission { heard: emission.heard.iter().map(again).collect(), ..*emission }
}
