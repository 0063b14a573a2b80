//! Messages that the client library cannot read, among good frames: what they cost is bounded and counted.
//!
//! `SFERIC_FUZZ_SECONDS` sets how long the fuzzing publishers go on; a minute where it is not set.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::MissedTickBehavior;

use crate::support::*;
use crate::wire::Wire;

/// Good frames a second.
const GOOD: u32 = 200;

/// Malformed payloads a second.
const MALFORMED: u32 = 500;

/// Between two malformed headers or subjects.
const ODD_EVERY: Duration = Duration::from_secs(5);

/// Maximum time without an answer.
const DEAF: Duration = Duration::from_secs(2);

/// What is odd about it, its subject and its header block.
pub type Odd = (&'static str, &'static [u8], Option<&'static [u8]>);

/// Header blocks and subjects that end the client or its connection.
pub const UNREADABLE: [Odd; 9] = [
    ("a lone CR in a value", b"iq.frames.odd", Some(b"NATS/1.0\r\nSite: a\rb\r\n\r\n")),
    ("a value in Latin-1", b"iq.frames.odd", Some(b"NATS/1.0\r\nSite: M\xfcnchen\r\n\r\n")),
    ("a line without a colon", b"iq.frames.odd", Some(b"NATS/1.0\r\nSite\r\n\r\n")),
    ("a name with a space", b"iq.frames.odd", Some(b"NATS/1.0\r\nThe Site: x\r\n\r\n")),
    ("a status that is no number", b"iq.frames.odd", Some(b"NATS/1.0 good\r\n\r\n")),
    ("another version", b"iq.frames.odd", Some(b"NATS/3.0\r\nSite: x\r\n\r\n")),
    ("a subject in Latin-1", b"iq.frames.odd.\xe4", None),
    ("the same with headers", b"iq.frames.odd.\xe4", Some(b"NATS/1.0\r\nSite: x\r\n\r\n")),
    (
        "white space beyond ASCII in a subject",
        "iq.frames.odd.a\u{2003}b".as_bytes(),
        Some(b"NATS/1.0\r\nSite: x\r\n\r\n"),
    ),
];

/// Odd ones that the client survives.
pub const READABLE: [Odd; 6] = [
    ("an empty name", b"iq.frames.odd", Some(b"NATS/1.0\r\n: x\r\n\r\n")),
    ("a value that is continued", b"iq.frames.odd", Some(b"NATS/1.0\r\nSite: x\r\n\ty\r\n\r\n")),
    ("a status", b"iq.frames.odd", Some(b"NATS/1.0 503 none\r\n\r\n")),
    (
        "baggage beyond ASCII",
        b"iq.frames.odd",
        Some("NATS/1.0\r\nbaggage: site=Z\u{fc}rich\r\n\r\n".as_bytes()),
    ),
    ("a subject with control characters", b"iq.frames.odd.\x1b[2J", None),
    ("a subject beyond ASCII", "iq.frames.odd.\u{6e2c}\u{8a66}".as_bytes(), None),
];

fn seconds() -> Duration {
    let asked =
        std::env::var("SFERIC_FUZZ_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(asked.unwrap_or(60))
}

/// Outcomes of the good frames.
struct Report {
    sent: u64,
    /// Outcomes by frame.
    outcomes: HashMap<u64, u64>,
    /// The longest time between two outcomes.
    silence: Duration,
    ledger: Ledger,
}

impl Report {
    fn missing(&self) -> u64 {
        self.sent - self.outcomes.len() as u64
    }

    fn repeated(&self) -> usize {
        self.outcomes.values().filter(|count| **count > 1).count()
    }
}

/// Good frames, malformed payloads and `odd` messages at once, each from a connection of its own.
async fn fuzz(odd: &'static [Odd], seconds: Duration) -> Report {
    // Malformed samples may well make a model fail, which is not what is looked at here.
    let world = World::start(&["degrees"], &[("BREAKER__FAILURE_THRESHOLD", "1000000")]).await;
    let url = world.server.url().to_owned();
    let predictions = world.client.subscribe("iq.predictions.good").await.unwrap();
    let mut outcomes =
        futures::stream::select(predictions, world.client.subscribe("iq.failures.good").await.unwrap());
    world.client.flush().await.unwrap();
    let end = Instant::now() + seconds;
    let malformed = tokio::spawn(malformed(url.clone(), end));
    let odd = tokio::spawn(odd_ones(url.clone(), odd, end));
    let good = tokio::spawn(good(url, end + 2 * DEAF));
    let mut report =
        Report { sent: 0, outcomes: HashMap::new(), silence: Duration::ZERO, ledger: world.ledger().await };
    let (mut last, mut good) = (Instant::now(), good);
    loop {
        tokio::select! {
            message = outcomes.next() => {
                let outcome = Reply::of(message.unwrap());
                *report.outcomes.entry(outcome.body["seq"].as_u64().unwrap()).or_default() += 1;
                report.silence = report.silence.max(last.elapsed());
                last = Instant::now();
            }
            sent = &mut good, if report.sent == 0 => report.sent = sent.unwrap(),
            () = tokio::time::sleep(DEAF), if report.sent > 0 => break,
        }
    }
    malformed.await.unwrap();
    odd.await.unwrap();
    report.ledger = world.ledger().await;
    report
}

async fn good(url: String, end: Instant) -> u64 {
    let mut wire = Wire::connect(&url).await;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / GOOD);
    let mut seq = 0;
    while Instant::now() < end {
        tick.tick().await;
        let frame = with(
            &steady(&format!("good-{seq}")),
            &[("seq", seq.into()), ("timeout_ms", 5000.into()), ("cache_enabled", false.into())],
        );
        wire.send(&Wire::message(b"iq.frames.good", b"replies.good", None, &pack(&frame))).await;
        seq += 1;
    }
    wire.ping().await;
    seq
}

async fn odd_ones(url: String, odd: &[Odd], end: Instant) {
    let mut wire = Wire::connect(&url).await;
    let payload = pack(&steady("odd"));
    for (what, subject, header) in odd.iter().cycle() {
        tokio::time::sleep(ODD_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
        if Instant::now() >= end {
            return;
        }
        eprintln!("odd message: {what}");
        wire.send(&Wire::message(subject, b"", *header, &payload)).await;
        wire.ping().await;
    }
}

async fn malformed(url: String, end: Instant) {
    let (mut wire, mut random) = (Wire::connect(&url).await, SmallRng::seed_from_u64(7));
    let good = pack(&steady("malformed"));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / MALFORMED);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while Instant::now() < end {
        tick.tick().await;
        let payload = mutated(&good, &mut random);
        let json = b"NATS/1.0\r\nContent-Type: application/json\r\n\r\n";
        let header = random.random_bool(0.2).then_some(json.as_slice());
        wire.send(&Wire::message(b"iq.frames.malformed", b"", header, &payload)).await;
    }
    wire.ping().await;
}

/// A frame with some of its bytes changed, cut off, repeated or made up.
fn mutated(good: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut payload = good.to_vec();
    match random.random_range(0..6) {
        0 => payload.truncate(random.random_range(0..good.len())),
        1 => payload.extend_from_slice(good),
        2 => payload = (0..random.random_range(0..2000)).map(|_| random.random()).collect(),
        3 => payload = vec![0x91; random.random_range(1..20_000)],
        4 => payload = vec![b'['; random.random_range(1..20_000)],
        _ => {
            for _ in 0..random.random_range(1..8) {
                let at = random.random_range(0..payload.len().min(200));
                payload[at] = random.random();
            }
        }
    }
    payload
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_lost_to_unreadable_messages_are_counted() {
    if !tools_are_there() {
        return;
    }
    let report = fuzz(&UNREADABLE, seconds()).await;
    let Report { sent, silence, ledger, .. } = &report;
    eprintln!(
        "{sent} good frames, {} without an outcome, longest silence {silence:?}, {ledger:?}",
        report.missing()
    );
    assert_eq!(report.repeated(), 0, "no frame has two outcomes");
    assert_eq!(ledger.lost, report.missing(), "a frame has an outcome or is lost");
    assert!(*silence < DEAF, "{silence:?} without an outcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_but_readable_messages_cost_nothing() {
    if !tools_are_there() {
        return;
    }
    let report = fuzz(&READABLE, seconds() / 2).await;
    assert_eq!((report.missing(), report.repeated(), report.ledger.lost), (0, 0, 0), "{:?}", report.ledger);
}
