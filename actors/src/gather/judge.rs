//! Which frames of a session can be believed, before anything is computed of them: plain and synchronous.

use sferic_samples::Geolocation;

use super::book::{SAME_PLACE, SourceBook};
use super::config::Config;
use super::consistency::{Arrival, inconsistent};
use super::place::{MEAN_RADIUS, distance};
use super::rules::Needs;
use crate::outcome::LeftOutReason;

/// Metres per second.
const LIGHT: f64 = 299_792_458.0;

/// What an arrival time may be wrong by where nothing is configured, seconds.
const SIGMA: f64 = 100e-9;

/// Sample rates that differ by no more can be brought together.
const RATE_TOLERANCE: f64 = 1e-3;

/// What of a frame is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard<'a> {
    pub source: &'a str,
    /// Where it says its receiver is.
    pub place: Option<&'a Geolocation>,
    /// When its first sample was taken, nanoseconds since 1970.
    pub begun_ns: Option<i64>,
    /// When the signal arrived, nanoseconds since 1970.
    pub arrival_ns: Option<i64>,
    /// Its samples, a channel.
    pub samples: usize,
    /// Their rate, Hz.
    pub rate_hz: Option<f64>,
}

/// What is known of a frame that is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seat {
    /// Where its receiver is, where that is asked.
    pub place: Option<Geolocation>,
    /// The delay of its receiver, nanoseconds.
    pub delay_ns: i64,
    /// Standard deviation of its times, seconds, where that is configured.
    pub sigma: Option<f64>,
}

/// Judges the frames of a session, in their order.
pub(super) fn judge(
    heard: &[Heard<'_>],
    needs: Needs,
    config: &Config,
    book: &mut SourceBook,
) -> Vec<Result<Seat, LeftOutReason>> {
    let mut seats: Vec<_> = heard
        .iter()
        .map(|frame| {
            let known = config.receivers.get(frame.source);
            let delay_ns = known.map_or(0, |known| known.delay_ns);
            let place = match needs.place {
                true => Some(book.place(frame.source, frame.place, frame.begun_ns, config)?),
                false => None,
            };
            Ok(Seat { place, delay_ns, sigma: known.and_then(|known| known.sigma) })
        })
        .collect();
    if needs.datetime {
        leave_out(&mut seats, LeftOutReason::OtherRate, |left| odd_rates(heard, left));
        leave_out(&mut seats, LeftOutReason::NoOverlap, |left| apart(heard, left));
    }
    if needs.arrival && needs.place {
        let arrivals: Vec<_> = heard.iter().map(|frame| arrival(frame, config)).collect();
        let places: Vec<_> = seats.iter().map(|seat| seat.as_ref().ok()?.place.clone()).collect();
        leave_out(&mut seats, LeftOutReason::ArrivalImplausible, |left| {
            contradicting(left, |i, j| {
                let ((ti, sigma_i), (tj, sigma_j)) = (arrivals[i]?, arrivals[j]?);
                let seconds = ti.abs_diff(tj) as f64 * 1e-9;
                let far = distance(places[i].as_ref()?, places[j].as_ref()?) / LIGHT;
                Some(seconds > far + 3.0 * sigma_i.hypot(sigma_j))
            })
        });
    }
    if needs.arrival && needs.place {
        leave_out(&mut seats, LeftOutReason::Inconsistent, |left| {
            let arrivals: Option<Vec<_>> = left.iter().map(|&at| known_arrival(&heard[at], config)).collect();
            let found = arrivals.and_then(|arrivals| inconsistent(&on_a_plane(&arrivals)));
            found.map(|at| left[at]).into_iter().collect()
        });
    }
    for (frame, seat) in heard.iter().zip(&seats) {
        book.note(frame.source, frame.begun_ns, seat.as_ref().err().copied());
    }
    seats
}

/// How many of them stand apart from each other: those at one place count once.
pub(super) fn distinct<'a>(places: impl Iterator<Item = Option<&'a Geolocation>>) -> usize {
    let mut apart: Vec<&Geolocation> = Vec::new();
    let mut unplaced = 0;
    for place in places {
        match place {
            None => unplaced += 1,
            Some(place) if apart.iter().any(|other| distance(other, place) < SAME_PLACE) => {}
            Some(place) => apart.push(place),
        }
    }
    unplaced + apart.len()
}

/// When the signal arrived, less the delay of the receiver, and how exact that is, seconds.
fn arrival(frame: &Heard<'_>, config: &Config) -> Option<(i64, f64)> {
    let known = config.receivers.get(frame.source);
    let delay = known.map_or(0, |known| known.delay_ns);
    let sigma = known.and_then(|known| known.sigma).unwrap_or(SIGMA);
    Some((frame.arrival_ns?.saturating_sub(delay), sigma))
}

/// When and where a receiver whose exactness is known has heard the signal.
fn known_arrival(frame: &Heard<'_>, config: &Config) -> Option<(Geolocation, i64, f64)> {
    let known = config.receivers.get(frame.source)?;
    let place = frame.place.or(known.place.as_ref())?;
    Some((place.clone(), arrival(frame, config)?.0, known.sigma?))
}

/// Metres east and north of the first one, good enough within some hundred kilometres.
fn on_a_plane(arrivals: &[(Geolocation, i64, f64)]) -> Vec<Arrival> {
    let degrees = |place: &Geolocation| {
        let Geolocation::Point { coordinates } = place;
        [0, 1].map(|at| coordinates.get(at).copied().unwrap_or_default())
    };
    let Some((first, begun, _)) = arrivals.first() else { return Vec::new() };
    let [longitude, latitude] = degrees(first);
    let at = |(place, ns, sigma): &(Geolocation, i64, f64)| {
        let [east, north] = degrees(place);
        let turn = (east - longitude + 540.0).rem_euclid(360.0) - 180.0;
        let place = [
            turn.to_radians() * MEAN_RADIUS * latitude.to_radians().cos(),
            (north - latitude).to_radians() * MEAN_RADIUS,
        ];
        Arrival { place, time: (ns - begun) as f64 * 1e-9, sigma: *sigma }
    };
    arrivals.iter().map(at).collect()
}

/// Leaves out, again and again, those that `odd` finds among those that are left.
fn leave_out(
    seats: &mut [Result<Seat, LeftOutReason>],
    reason: LeftOutReason,
    odd: impl Fn(&[usize]) -> Vec<usize>,
) {
    loop {
        let left: Vec<usize> = (0..seats.len()).filter(|&at| seats[at].is_ok()).collect();
        let out = odd(&left);
        if out.is_empty() {
            return;
        }
        out.into_iter().for_each(|at| seats[at] = Err(reason));
    }
}

/// Those that contradict the most others; none where nobody does. Where several contradict equally many,
/// nobody knows who is wrong, and all of them are named.
fn contradicting(left: &[usize], contradict: impl Fn(usize, usize) -> Option<bool>) -> Vec<usize> {
    let count = |&at: &usize| {
        left.iter().filter(|&&other| other != at && contradict(at, other) == Some(true)).count()
    };
    let counts: Vec<usize> = left.iter().map(count).collect();
    let most = counts.iter().copied().max().filter(|&most| most > 0);
    let is_worst = |count: &usize| Some(*count) == most;
    left.iter().zip(&counts).filter(|(_, count)| is_worst(count)).map(|(&at, _)| at).collect()
}

/// Those whose rate differs from the median.
fn odd_rates(heard: &[Heard<'_>], left: &[usize]) -> Vec<usize> {
    let mut rates: Vec<f64> = left.iter().filter_map(|&at| heard[at].rate_hz).collect();
    rates.sort_by(f64::total_cmp);
    let Some(&median) = rates.get(rates.len() / 2) else { return Vec::new() };
    let is_odd = |rate: f64| (rate / median - 1.0).abs() > RATE_TOLERANCE;
    left.iter().copied().filter(|&at| heard[at].rate_hz.is_none_or(is_odd)).collect()
}

/// Those whose samples share less than half of their time with the most others.
fn apart(heard: &[Heard<'_>], left: &[usize]) -> Vec<usize> {
    let span = |at: usize| {
        let Heard { begun_ns, rate_hz, samples, .. } = heard[at];
        let begun = begun_ns?;
        let long = (samples as f64 / rate_hz? * 1e9) as i64;
        Some((begun, begun.saturating_add(long)))
    };
    contradicting(left, |i, j| {
        let ((a, b), (c, d)) = (span(i)?, span(j)?);
        let shared = b.min(d).saturating_sub(a.max(c));
        Some(shared < ((b - a).min(d - c)) / 2)
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
