//! Receivers that say what cannot be.

use super::*;
use crate::gather::config::{KnownReceiver, Reference};

/// Metres east of a place on the equator.
fn east(metres: f64) -> Geolocation {
    Geolocation::point(10.0 + metres / 111_319.5, 1e-9)
}

fn frame<'a>(source: &'a str, place: &'a Geolocation, arrival_ns: i64) -> Heard<'a> {
    Heard {
        source,
        place: Some(place),
        begun_ns: Some(1_000_000_000 + arrival_ns),
        arrival_ns: Some(arrival_ns),
        samples: 1000,
        rate_hz: Some(1e3),
        frequency_hz: Some(100e6),
        level_db: Some(-20.0),
    }
}

const ALL: Needs = Needs { place: true, arrival: true, datetime: true };

fn reasons(heard: &[Heard<'_>], config: &Config) -> Vec<Option<LeftOutReason>> {
    judge(heard, ALL, config, &mut SourceBook::default())
        .iter()
        .map(|seat| seat.as_ref().err().copied())
        .collect()
}

#[test]
fn an_arrival_beyond_the_distance_is_left_out_and_counted() {
    let places = [0.0, 3000.0, 6000.0, 9000.0].map(east);
    let mut heard: Vec<_> =
        ["a", "b", "c", "d"].iter().zip(&places).map(|(source, place)| frame(source, place, 0)).collect();
    heard[1].arrival_ns = Some(9_900);
    let config = Config::default();
    assert_eq!(reasons(&heard, &config), [None; 4], "3 km are 10 µs");
    heard[1].arrival_ns = Some(21_000);
    let mut book = SourceBook::default();
    let seats = judge(&heard, ALL, &config, &mut book);
    let expected = Err(LeftOutReason::ArrivalImplausible);
    assert!(seats[1] == expected && seats.iter().filter(|seat| seat.is_err()).count() == 1, "{seats:?}");
    let record = book.record("b");
    assert_eq!((record.frames, record.left_out[&LeftOutReason::ArrivalImplausible]), (1, 1));
    // Its configured delay explains it.
    let known = KnownReceiver { place: None, delay_ns: 20_000, sigma: None, moving: true };
    let config = Config { receivers: [("b".to_owned(), known)].into(), ..config };
    assert_eq!(reasons(&heard, &config), [None; 4]);
}

#[test]
fn of_two_that_contradict_each_other_nobody_knows_who_is_wrong() {
    let places = [0.0, 3000.0].map(east);
    let heard = [frame("a", &places[0], 0), frame("b", &places[1], 50_000)];
    assert_eq!(reasons(&heard, &Config::default()), [Some(LeftOutReason::ArrivalImplausible); 2]);
    // 3 sigma of 20 µs each.
    let known = KnownReceiver { place: None, delay_ns: 0, sigma: Some(20e-6), moving: true };
    let receivers = ["a", "b"].map(|source| (source.to_owned(), known.clone())).into();
    assert_eq!(reasons(&heard, &Config { receivers, ..Config::default() }), [None; 2]);
}

#[test]
fn samples_of_another_time_or_rate_are_left_out() {
    let places = [0.0, 3000.0, 6000.0].map(east);
    let mut heard: Vec<_> =
        ["a", "b", "c"].iter().zip(&places).map(|(source, place)| frame(source, place, 0)).collect();
    heard[2].begun_ns = heard[2].begun_ns.map(|ns| ns + 400_000_000);
    assert_eq!(reasons(&heard, &Config::default()), [None; 3], "0.6 of a second is shared");
    heard[2].begun_ns = heard[2].begun_ns.map(|ns| ns + 200_000_000);
    assert_eq!(reasons(&heard, &Config::default()), [None, None, Some(LeftOutReason::NoOverlap)]);
    heard[2].begun_ns = heard[0].begun_ns;
    heard[2].samples = 400;
    let short = reasons(&heard, &Config::default());
    assert_eq!(short, [None, None, Some(LeftOutReason::NoOverlap)], "it would cost the others their time");
    heard[2].samples = 1000;
    heard[2].rate_hz = Some(1001.1);
    assert_eq!(reasons(&heard, &Config::default()), [None, None, Some(LeftOutReason::OtherRate)]);
    heard[2].rate_hz = Some(1000.9);
    assert_eq!(reasons(&heard, &Config::default()), [None; 3]);
}

#[test]
fn receivers_at_one_place_count_once() {
    let places = [0.0, 9.0, 11.0, 500.0].map(east);
    assert_eq!(distinct(places.iter().map(Some)), 3, "11 m from the first");
    assert_eq!(distinct([None, Some(&places[0]), None].into_iter()), 3, "of unknown places each counts");
}

#[test]
fn an_emitter_of_known_place_corrects_the_clocks() {
    let places = [0.0, 3000.0, 6000.0, 9000.0].map(east);
    let reference = Reference { place: east(1000.0), frequency_hz: 100e6, tolerance_hz: 1e3 };
    let config = Config { references: vec![reference.clone()], ..Config::default() };
    let way = |n: usize| (distance(&places[n], &reference.place) / LIGHT * 1e9).round() as i64;
    let mut book = SourceBook::default();
    let session = |late: i64, at: i64, book: &mut SourceBook| {
        let names = ["a", "b", "c", "d"];
        let late = [0, late, 0, 0];
        let heard: Vec<_> =
            (0..4).map(|n| frame(names[n], &places[n], at * 1_000_000_000 + way(n) + late[n])).collect();
        judge(&heard, ALL, &config, book)
    };
    // b is 7 µs late, within what the distances allow.
    for second in 0..10 {
        assert!(session(7_000, second, &mut book).iter().all(Result::is_ok));
    }
    let clock = book.record("b").clock.unwrap();
    assert!((clock.offset_s - 7e-6).abs() < 10e-9 && clock.observations == 10, "{clock:?}");
    assert_eq!(book.record("b").level_db, Some(-20.0));
    let seats = session(7_000, 11, &mut book);
    for (seat, expected) in seats.iter().zip([0_i64, 7_000, 0, 0]) {
        assert!(seat.as_ref().unwrap().delay_ns.abs_diff(expected) <= 1, "whole nanoseconds: {seat:?}");
    }
    // Its clock jumps by 5 µs: it is left out until that is confirmed, and corrected once it is known again.
    let reason = |seats: Vec<Result<Seat, LeftOutReason>>| seats[1].as_ref().err().copied();
    assert_eq!(reason(session(12_000, 12, &mut book)), Some(LeftOutReason::ClockJumped));
    assert_eq!(reason(session(12_000, 13, &mut book)), Some(LeftOutReason::ClockJumped));
    assert_eq!(reason(session(12_000, 14, &mut book)), Some(LeftOutReason::ArrivalImplausible));
    let seats = session(12_000, 15, &mut book);
    assert!(seats[1].as_ref().unwrap().delay_ns.abs_diff(12_000) <= 20, "{seats:?}");
    assert_eq!(book.record("b").clock.unwrap().jumps, 1);
}

#[test]
fn what_clocks_have_in_common_is_no_error_of_a_new_receiver() {
    let places = [0.0, 3000.0, 6000.0, 9000.0, 4500.0].map(east);
    let reference = Reference { place: east(1000.0), frequency_hz: 100e6, tolerance_hz: 1e3 };
    let config = Config { references: vec![reference.clone()], ..Config::default() };
    let way = |n: usize, from: &Geolocation| (distance(&places[n], from) / LIGHT * 1e9).round() as i64;
    let names = ["a", "b", "c", "d", "new"];
    let mut book = SourceBook::default();
    // Perfect clocks and times to some ten nanoseconds, four of five sessions without one of them.
    for session in 0..400_usize {
        let at = session as i64 * 10_000_000_000;
        let noise = |n: usize| (60.0 * (2.3 * (session * (n + 1)) as f64).sin()) as i64;
        let there = (0..4).filter(|n| session % 5 != *n);
        let heard: Vec<_> =
            there.map(|n| frame(names[n], &places[n], at + way(n, &reference.place) + noise(n))).collect();
        assert!(judge(&heard, ALL, &config, &mut book).iter().all(Result::is_ok), "{session}");
    }
    let wandered = book.common_offset();
    // An emitter beyond d: the differences are all that the distances allow.
    let beyond = east(30_000.0);
    let at = 4_010_000_000_000;
    let mut heard: Vec<_> = (0..5).map(|n| frame(names[n], &places[n], at + way(n, &beyond))).collect();
    heard.iter_mut().for_each(|frame| frame.frequency_hz = Some(200e6));
    let seats = judge(&heard, ALL, &config, &mut book);
    for seat in &seats {
        assert!(seat.as_ref().is_ok_and(|seat| seat.delay_ns.abs() < 200), "{wandered} {seats:?}");
    }
}
