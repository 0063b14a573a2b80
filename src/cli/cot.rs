//! Fixes as Cursor on Target events, one XML element a line.
//!
//! A point's `ce` is the radius, metres, of a circle around it that holds the truth with a probability of
//! 95 % (MIL-STD-6090); predictions state sigmas, so the circle is computed from them.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::outcome::Outcome;

/// The probability that a circle of `ce` covers.
const COVERED: f64 = 0.95;

/// How long a fix is shown.
const STALE: SignedDuration = SignedDuration::from_mins(5);

/// What is not known, in this format.
const UNKNOWN: &str = "9999999.0";

/// Directions over which the probability is averaged; it is smooth and periodic, so that few suffice.
const DIRECTIONS: u32 = 360;

/// The event of a prediction with a position on the map; `None` of other outcomes. A source's fixes are one
/// track, or where frames have a session, that session's.
pub fn event(outcome: &Outcome) -> Option<String> {
    let within =
        |key: &str, most: f64| outcome.number(&["position", key]).filter(|degrees| degrees.abs() <= most);
    let (latitude, longitude) = (within("latitude", 90.0)?, within("longitude", 180.0)?);
    let sigma = |key: &str| outcome.number(&["uncertainty", key]).filter(|sigma| *sigma >= 0.0);
    let circle = sigma("sigma_x").zip(sigma("sigma_y")).and_then(|(x, y)| radius(x, y, COVERED));
    let circle = circle.map_or_else(|| UNKNOWN.to_owned(), |metres| format!("{metres:.1}"));
    let text = |key: &str| outcome.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let time = |key: &str| text(key).parse::<Timestamp>().ok();
    let made = time("timestamp").unwrap_or_else(Timestamp::now);
    let taken = time("datetime").unwrap_or(made);
    let stale = made.checked_add(STALE).unwrap_or(made);
    let [made, taken, stale] = [made, taken, stale].map(|time| format!("{time:.3}"));
    let source = text("source");
    let track = Some(text("session_id")).filter(|session| !session.is_empty()).unwrap_or(source);
    let mut remarks = format!("{}@{}", text("model"), text("model_version"));
    if let Some(frequency) = outcome.number(&["frequency"]) {
        // Writing to a string cannot fail.
        _ = write!(remarks, ", {} MHz", frequency / 1e6);
    }
    if let Some(confidence) = outcome.number(&["confidence"]) {
        _ = write!(remarks, ", confidence {confidence:.2}");
    }
    let [uid, callsign, remarks] =
        [format!("sferic.{track}"), track.to_owned(), remarks].map(|text| escaped(&text));
    let point = format!(
        "lat=\"{latitude:.7}\" lon=\"{longitude:.7}\" hae=\"{UNKNOWN}\" ce=\"{circle}\" le=\"{UNKNOWN}\""
    );
    Some(format!(
        "<event version=\"2.0\" uid=\"{uid}\" type=\"a-u-G\" how=\"m-r\" time=\"{made}\" start=\"{taken}\" \
         stale=\"{stale}\"><point {point}/><detail><contact callsign=\"{callsign}\"/>\
         <remarks>{remarks}</remarks></detail></event>"
    ))
}

/// The radius of the circle that holds a two-dimensional normal variable with these sigmas with a probability
/// of `covered`; `None` where a sigma is no number.
///
/// In the frame where both sigmas are 1, the point at distance ρ in the direction φ is at ρ·g(φ) with
/// g² = (a cos φ)² + (b sin φ)², and ρ has Rayleigh's distribution. So the probability within r is
/// 1 − mean over φ of exp(−r² / 2g²).
fn radius(a: f64, b: f64, covered: f64) -> Option<f64> {
    if !(a.is_finite() && b.is_finite()) {
        return None;
    }
    let within = |radius: f64| {
        let outside = |n: u32| {
            let angle = std::f64::consts::TAU * f64::from(n) / f64::from(DIRECTIONS);
            let g = (a * angle.cos()).hypot(b * angle.sin());
            if g == 0.0 { 0.0 } else { (-0.5 * (radius / g).powi(2)).exp() }
        };
        1.0 - (0..DIRECTIONS).map(outside).sum::<f64>() / f64::from(DIRECTIONS)
    };
    // Between the circles of the smaller and of the larger sigma alone.
    let factor = (-2.0 * (1.0 - covered).ln()).sqrt();
    let (mut low, mut high) = (0.0, factor * a.max(b));
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if within(middle) < covered { low = middle } else { high = middle }
    }
    Some(high)
}

/// Text within XML; characters that XML does not have are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{LOCALIZATION, outcome};
    use super::*;

    #[test]
    fn the_circle_holds_95_of_100() {
        // Equal sigmas: Rayleigh's own quantile.
        assert!((radius(10.0, 10.0, 0.95).unwrap() - 10.0 * 5.991_464_547f64.sqrt()).abs() < 1e-6);
        // One sigma alone: the normal distribution's.
        assert!((radius(10.0, 1e-9, 0.95).unwrap() - 19.599_64).abs() < 0.05);
        // By counting points of a 3:1 ellipse, which a low-discrepancy sequence spreads evenly.
        let radius = radius(30.0, 10.0, 0.95).unwrap();
        let points = 200_000;
        let inside = (0..points).filter(|n| {
            let golden = 0.618_033_988_749_894_9 * f64::from(*n);
            let rho = (-2.0 * (1.0 - (f64::from(*n) + 0.5) / f64::from(points)).ln()).sqrt();
            let angle = std::f64::consts::TAU * golden.fract();
            (30.0 * rho * angle.cos()).hypot(10.0 * rho * angle.sin()) <= radius
        });
        assert!((inside.count() as f64 / f64::from(points) - 0.95).abs() < 1e-3);
        assert_eq!(super::radius(0.0, 0.0, 0.95), Some(0.0));
        assert_eq!(super::radius(f64::NAN, 1.0, 0.95), None);
    }

    #[test]
    fn a_fix_is_an_event_and_other_outcomes_are_none() {
        let event = event(&outcome(LOCALIZATION)).unwrap();
        for part in [
            "uid=\"sferic.north.rx2\"",
            "lat=\"45.0100000\" lon=\"7.6200000\"",
            "<contact callsign=\"north.rx2\"/>",
            "<remarks>localization@1, 868.3 MHz</remarks>",
        ] {
            assert!(event.contains(part), "{part} {event}");
        }
        // Of sigmas 100 and 60 m: never a sigma, and between the circles of either.
        let circle = event.split_once("ce=\"").unwrap().1.split_once('"').unwrap().0;
        let circle: f64 = circle.parse().unwrap();
        assert!((196.0..244.8).contains(&circle), "{circle}");
        assert_eq!(super::event(&outcome(r#"{"kind":"classification","labels":[]}"#)), None);
        let hostile = r#"{"kind":"localization","position":{"latitude":1,"longitude":2},
            "source":"a\"><x>&\u0001"}"#;
        let event = super::event(&outcome(hostile)).unwrap();
        assert!(event.contains("uid=\"sferic.a&quot;&gt;&lt;x&gt;&amp;\""), "{event}");
        assert!(event.contains("ce=\"9999999.0\""), "{event}");
    }
}
