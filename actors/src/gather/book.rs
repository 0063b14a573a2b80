//! What has been seen of each source of gathered frames.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use lru::LruCache;
use sferic_samples::Geolocation;

use super::clock::{Clock, median};
use super::config::{Config, KnownReceiver};
use super::heard::Heard;
use super::place::{distance, is_null};
use crate::outcome::LeftOutReason;

/// Sources that are kept, the latest ones.
const SOURCES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// Receivers nearer to each other than this stand at the same place, metres.
pub(super) const SAME_PLACE: f64 = 10.0;

/// How far the stated place of a receiver that does not move may be from where it stands, metres.
const STANDS_WITHIN: f64 = 100.0;

/// What has been seen of each source, the latest ones.
#[derive(Debug)]
pub struct SourceBook {
    sources: LruCache<String, SourceRecord>,
    /// Of all sources ever.
    left_out: BTreeMap<LeftOutReason, u64>,
}

/// What has been seen of one source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceRecord {
    /// Frames in sessions that were closed.
    pub frames: u64,
    /// How often it was left out, by reason.
    pub left_out: BTreeMap<LeftOutReason, u64>,
    /// Its last place that could be believed.
    pub place: Option<Geolocation>,
    /// When it was there, nanoseconds since 1970 by its own clock.
    pub placed_ns: Option<i64>,
    /// When its last frame was taken, nanoseconds since 1970 by its own clock.
    pub datetime_ns: Option<i64>,
    /// How loud that was, dB of full scale.
    pub level_db: Option<f64>,
    /// Its clock, by emitters whose place is known.
    pub clock: Option<Clock>,
}

impl Default for SourceBook {
    fn default() -> Self {
        Self { sources: LruCache::new(SOURCES), left_out: BTreeMap::new() }
    }
}

impl SourceBook {
    /// What the clocks that are known have in common: their median offset, seconds. Nobody can observe it, so
    /// that it wanders with the noise of all observations.
    pub fn common_offset(&self) -> f64 {
        let clocks = || self.sources.iter().filter_map(|(_, record)| record.clock);
        let latest = clocks().map(|clock| clock.at_ns).max().unwrap_or_default();
        median(clocks().filter_map(|clock| clock.late_at(latest)).collect()).unwrap_or_default()
    }

    /// The sources, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SourceRecord)> {
        self.sources.iter().map(|(source, record)| (source.as_str(), record))
    }

    /// How often a source was left out, by reason.
    pub fn left_out(&self) -> impl Iterator<Item = (LeftOutReason, u64)> {
        LeftOutReason::ALL
            .map(|reason| (reason, self.left_out.get(&reason).copied().unwrap_or(0)))
            .into_iter()
    }

    /// Notes how the frame of a source in a session was judged.
    pub(super) fn note(&mut self, frame: &Heard<'_>, reason: Option<LeftOutReason>) {
        let source = frame.source;
        let record = self.record(source);
        record.frames += 1;
        record.datetime_ns = frame.begun_ns.or(frame.arrival_ns).or(record.datetime_ns);
        record.level_db = frame.level_db.or(record.level_db);
        if let Some(reason) = reason {
            self.leave_out(source, reason);
        }
    }

    /// Takes what an emitter of known place says of the clock of a source; returns whether that does not fit.
    pub fn observe_clock(&mut self, source: &str, at_ns: i64, late_s: f64, sigma_s: f64) -> bool {
        self.record(source).clock.get_or_insert_default().observe(at_ns, late_s, sigma_s)
    }

    /// The clock of a source, where it was observed.
    pub(super) fn clock(&mut self, source: &str) -> Option<Clock> {
        self.record(source).clock
    }

    /// Notes that a source was left out.
    pub fn leave_out(&mut self, source: &str, reason: LeftOutReason) {
        *self.record(source).left_out.entry(reason).or_default() += 1;
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// What is kept of a source.
    pub fn record(&mut self, source: &str) -> &mut SourceRecord {
        self.sources.get_or_insert_mut_ref(source, SourceRecord::default)
    }

    /// Where a receiver is, by its frame or else by the configuration, if that can be believed.
    pub(super) fn place(
        &mut self,
        source: &str,
        stated: Option<&Geolocation>,
        datetime_ns: Option<i64>,
        config: &Config,
    ) -> Result<Geolocation, LeftOutReason> {
        let known = config.receivers.get(source);
        let configured = known.and_then(|known| known.place.as_ref());
        let Some(place) = stated.filter(|place| !is_null(place)).or(configured) else {
            return Err(LeftOutReason::NoPlace);
        };
        if let (Some(KnownReceiver { moving: false, .. }), Some(stands)) = (known, configured)
            && distance(place, stands) > STANDS_WITHIN
        {
            return Err(LeftOutReason::PlaceJumped);
        }
        let record = self.record(source);
        if let (Some(last), Some(then), Some(now)) = (&record.place, record.placed_ns, datetime_ns) {
            let seconds = now.abs_diff(then) as f64 * 1e-9;
            if distance(place, last) > SAME_PLACE + config.max_speed * seconds {
                return Err(LeftOutReason::PlaceJumped);
            }
        }
        Ok(place.clone())
    }

    /// Remembers where a receiver that is used was.
    pub(super) fn placed(&mut self, source: &str, place: &Geolocation, datetime_ns: Option<i64>) {
        let record = self.record(source);
        (record.place, record.placed_ns) = (Some(place.clone()), datetime_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// A place so many metres east of the first one, on the equator.
    fn east(metres: f64) -> Geolocation {
        Geolocation::point(10.0 + metres / 111_319.5, 1e-9)
    }

    fn known(place: Option<Geolocation>, moving: bool) -> Config {
        let receiver = KnownReceiver { place, delay_ns: 0, sigma: None, moving };
        Config { receivers: [("a".to_owned(), receiver)].into(), ..Config::default() }
    }

    #[test]
    fn a_place_is_the_frames_own_else_the_configured_one_else_none() {
        let mut book = SourceBook::default();
        let config = known(Some(east(7.0)), true);
        assert_eq!(book.place("a", Some(&east(0.0)), None, &config), Ok(east(0.0)));
        assert_eq!(book.place("a", None, None, &config), Ok(east(7.0)));
        let null = Geolocation::point(0.0, 0.0);
        assert_eq!(book.place("a", Some(&null), None, &config), Ok(east(7.0)));
        for stated in [None, Some(&null)] {
            assert_eq!(book.place("b", stated, None, &config), Err(LeftOutReason::NoPlace));
        }
    }

    #[test]
    fn who_moves_faster_than_may_be_has_jumped_until_there_was_time_for_it() {
        let (mut book, config) = (SourceBook::default(), Config::default());
        let mut at = |metres: f64, seconds: Option<i64>| {
            let ns = seconds.map(|seconds| seconds * SECOND);
            let place = book.place("a", Some(&east(metres)), ns, &config);
            place.as_ref().map(|place| book.placed("a", place, ns)).is_ok()
        };
        assert!(at(0.0, Some(100)));
        assert!(at(100.0, Some(101)), "100 m in a second");
        assert!(!at(300.0, Some(102)), "200 m in a second");
        assert!(at(150.0, Some(103)), "the place before it still counts");
        assert!(
            !at(10_000.0, Some(104)) && at(10_000.0, Some(204)),
            "a minute and more later it may be there"
        );
        assert!(!at(9000.0, Some(203)), "nor backwards");
        assert!(at(500_000.0, None), "without a time nobody asks");
    }

    #[test]
    fn who_stands_has_jumped_when_it_says_another_place() {
        let (mut book, config) = (SourceBook::default(), known(Some(east(0.0)), false));
        assert!(book.place("a", Some(&east(50.0)), None, &config).is_ok());
        assert_eq!(book.place("a", Some(&east(150.0)), None, &config), Err(LeftOutReason::PlaceJumped));
    }
}
