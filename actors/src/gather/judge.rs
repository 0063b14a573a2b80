//! Which frames of a session can be believed, before anything is computed of them: plain and synchronous.

use sferic_samples::Geolocation;

use super::book::{SAME_PLACE, SourceBook};
use super::clock::{ExpectedClock, against_others, median};
use super::config::{Config, Reference};
use super::consistency::{Arrival, LIGHT, inconsistent};
use super::heard::Heard;
use super::place::{distance, from_first};
use super::rules::Needs;
use crate::outcome::LeftOutReason;

/// What an arrival time may be wrong by where nothing is configured, seconds.
const SIGMA: f64 = 100e-9;

/// Sample rates that differ by no more can be brought together.
const RATE_TOLERANCE: f64 = 1e-3;

/// What is known of a frame that is used.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seat {
    /// Where its receiver is, where that is asked.
    pub place: Option<Geolocation>,
    /// What is taken off its times, nanoseconds: the delay of its receiver, and what its clock is late.
    pub delay_ns: i64,
    /// Of that, what its clock is known to be late, seconds.
    pub clock_s: f64,
    /// Where its clock is expected.
    pub clock: Option<ExpectedClock>,
    /// Seconds from the emitter to it, where the emitter's place is known.
    pub expected_s: Option<f64>,
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
    let reference = config.reference(heard.iter().map(|frame| frame.frequency_hz));
    let mut seats: Vec<_> = heard
        .iter()
        .map(|frame| {
            let known = config.receivers.get(frame.source);
            let place = match needs.place {
                true => Some(book.place(frame.source, frame.place, frame.begun_ns, config)?),
                false => None,
            };
            let clock = frame.time_ns().zip(book.clock(frame.source));
            let clock_s = clock.and_then(|(ns, clock)| clock.late_at(ns)).unwrap_or_default();
            let clock = clock.and_then(|(ns, clock)| clock.expected_at(ns));
            let late_ns = (clock_s * 1e9).round() as i64;
            let delay_ns = known.map_or(0, |known| known.delay_ns).saturating_add(late_ns);
            let way = |reference: &Reference| Some(distance(place.as_ref()?, &reference.place) / LIGHT);
            let (expected_s, sigma) = (reference.and_then(way), known.and_then(|known| known.sigma));
            Ok(Seat { place, delay_ns, clock_s, clock, expected_s, sigma })
        })
        .collect();
    relate(&mut seats);
    if needs.datetime {
        leave_out(&mut seats, LeftOutReason::OtherRate, |left| odd_rates(heard, left));
        let begun: Vec<_> = heard.iter().zip(&seats).map(|(frame, seat)| begun(frame, seat)).collect();
        leave_out(&mut seats, LeftOutReason::NoOverlap, |left| apart(heard, &begun, left));
    }
    if needs.arrival && needs.place {
        for (at, late) in clock_errors(heard, &seats) {
            let sigma = seats[at].as_ref().ok().and_then(|seat| seat.sigma).unwrap_or(SIGMA);
            if book.observe_clock(heard[at].source, heard[at].arrival_ns.unwrap_or_default(), late, sigma) {
                seats[at] = Err(LeftOutReason::ClockJumped);
            }
        }
        // Correlations of the same session would say the same again.
        seats.iter_mut().flatten().for_each(|seat| seat.expected_s = None);
        let arrivals: Vec<_> = heard.iter().zip(&seats).map(|(frame, seat)| arrival(frame, seat)).collect();
        let places: Vec<_> = seats.iter().map(|seat| seat.as_ref().ok()?.place.clone()).collect();
        leave_out(&mut seats, LeftOutReason::ArrivalImplausible, |left| {
            contradicting(left, |i, j| {
                let ((ti, sigma_i), (tj, sigma_j)) = (arrivals[i]?, arrivals[j]?);
                let seconds = ti.abs_diff(tj) as f64 * 1e-9;
                let far = distance(places[i].as_ref()?, places[j].as_ref()?) / LIGHT;
                Some(seconds > far + 3.0 * sigma_i.hypot(sigma_j))
            })
        });
        let are_known = seats.iter().flatten().all(|seat| seat.sigma.is_some());
        leave_out(&mut seats, LeftOutReason::Inconsistent, |left| {
            if !are_known {
                return Vec::new();
            }
            let on_plane = from_first(&left.iter().filter_map(|&at| places[at].as_ref()).collect::<Vec<_>>());
            let times = || left.iter().filter_map(|&at| arrivals[at]);
            let begun = times().map(|(ns, _)| ns).min().unwrap_or_default();
            let arrivals: Vec<Arrival> = times()
                .zip(on_plane)
                .map(|((ns, sigma), place)| Arrival { place, time: ns.abs_diff(begun) as f64 * 1e-9, sigma })
                .collect();
            let found = inconsistent(&arrivals).filter(|_| arrivals.len() == left.len());
            found.map(|at| left[at]).into_iter().collect()
        });
    }
    for (frame, seat) in heard.iter().zip(&seats) {
        book.note(frame, seat.as_ref().err().copied());
        if let Some(place) = seat.as_ref().ok().and_then(|seat| seat.place.as_ref()) {
            book.placed(frame.source, place, frame.begun_ns);
        }
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

/// When the signal arrived, less the delay of the receiver and of its clock, and how exact that is, seconds.
fn arrival(frame: &Heard<'_>, seat: &Result<Seat, LeftOutReason>) -> Option<(i64, f64)> {
    let seat = seat.as_ref().ok()?;
    Some((frame.arrival_ns?.saturating_sub(seat.delay_ns), seat.sigma.unwrap_or(SIGMA)))
}

/// How late each clock was, seconds, against the median of all, where the emitter's place is known and three
/// or more have heard it.
fn clock_errors(heard: &[Heard<'_>], seats: &[Result<Seat, LeftOutReason>]) -> Vec<(usize, f64)> {
    let mut arrivals: Vec<i64> = heard.iter().filter_map(|frame| frame.arrival_ns).collect();
    arrivals.sort_unstable();
    // Counted from one among them, nanoseconds fit a float.
    let middle = arrivals.get(arrivals.len() / 2).copied().unwrap_or_default();
    let late = |at: usize| {
        let seat = seats[at].as_ref().ok()?;
        let (ns, _) = arrival(&heard[at], &seats[at])?;
        // What was taken off is put back.
        let late = ns.saturating_sub(middle) as f64 * 1e-9 + seat.clock_s - seat.expected_s?;
        Some((at, late, seat.clock))
    };
    against_others((0..heard.len()).filter_map(late).collect())
}

/// Takes their median off the corrections: what clocks have in common cannot be observed, and a receiver
/// whose clock is not known has no share in it.
fn relate(seats: &mut [Result<Seat, LeftOutReason>]) {
    let known = |seat: &Seat| seat.clock_s != 0.0;
    let offsets = seats.iter().flatten().filter(|seat| known(seat)).map(|seat| seat.clock_s).collect();
    let Some(common) = median(offsets) else { return };
    for seat in seats.iter_mut().flatten().filter(|seat| known(seat)) {
        let late_ns = |seconds: f64| (seconds * 1e9).round() as i64;
        let before = late_ns(seat.clock_s);
        seat.clock_s -= common;
        seat.delay_ns = seat.delay_ns.saturating_add(late_ns(seat.clock_s).saturating_sub(before));
    }
}

/// When its samples begin, less the delay of the receiver and of its clock.
fn begun(frame: &Heard<'_>, seat: &Result<Seat, LeftOutReason>) -> Option<i64> {
    Some(frame.begun_ns?.saturating_sub(seat.as_ref().ok()?.delay_ns))
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
    let mut counts = vec![0usize; left.len()];
    for one in 0..left.len() {
        for other in one + 1..left.len() {
            if contradict(left[one], left[other]) == Some(true) {
                counts[one] += 1;
                counts[other] += 1;
            }
        }
    }
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

/// Those whose samples share less time with the most others than half of what the frames have in the median.
fn apart(heard: &[Heard<'_>], begun: &[Option<i64>], left: &[usize]) -> Vec<usize> {
    let span = |at: usize| {
        let Heard { rate_hz, samples, .. } = heard[at];
        let begun = begun[at]?;
        let long = (samples as f64 / rate_hz? * 1e9) as i64;
        Some((begun, begun.saturating_add(long)))
    };
    let mut lengths: Vec<i64> =
        left.iter().filter_map(|&at| span(at)).map(|(begun, end)| end.saturating_sub(begun)).collect();
    lengths.sort_unstable();
    let Some(&usual) = lengths.get(lengths.len() / 2) else { return Vec::new() };
    contradicting(left, |i, j| {
        let ((a, b), (c, d)) = (span(i)?, span(j)?);
        let shared = b.min(d).saturating_sub(a.max(c));
        Some(shared < usual / 2)
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
