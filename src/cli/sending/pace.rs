//! Schedule of the frames.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// Delay from which a frame counts as late: more than the resolution of a timer and a busy scheduler.
const LATE: Duration = Duration::from_millis(20);

/// Rate at which frames are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Frames per second.
    PerSecond(f64),
    /// As fast as they were recorded.
    Realtime,
    /// As fast as they are taken.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "realtime" => Ok(Self::Realtime),
            "max" => Ok(Self::Max),
            _ => {
                match text.parse() {
                    Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(Self::PerSecond(rate)),
                    _ => Err("must be a number of frames per second from 0.001 to 1e9, `realtime` or `max`"
                        .to_owned()),
                }
            }
        }
    }
}

/// The schedule, relative to its start, so that delays do not add up: late frames are sent at once until it
/// has caught up.
pub struct Pacer {
    rate: Rate,
    start: Instant,
    /// Number of late frames.
    pub late: u64,
    /// Largest delay.
    pub latest_by: Duration,
}

impl Pacer {
    /// A schedule that starts now.
    pub fn new(rate: Rate) -> Self {
        Self { rate, start: Instant::now(), late: 0, latest_by: Duration::ZERO }
    }

    /// When a frame is due: the `index`-th of the call, whose first sample was recorded `seconds` after the
    /// first one of all. `None` for at once.
    pub fn due(&self, index: u64, seconds: f64) -> Option<Instant> {
        let seconds = match self.rate {
            Rate::PerSecond(rate) => index as f64 / rate,
            Rate::Realtime => seconds,
            Rate::Max => return None,
        };
        self.start.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// Records that a frame due then is sent now.
    pub fn sent(&mut self, due: Option<Instant>) {
        let behind = due.map_or(Duration::ZERO, |due| due.elapsed());
        self.late += u64::from(behind > LATE);
        self.latest_by = self.latest_by.max(behind);
    }

    /// Shifts the schedule after a pause of this length.
    pub fn postpone(&mut self, by: Duration) {
        self.start += by;
    }

    /// From the start until then.
    pub fn until(&self, then: Instant) -> Duration {
        then.saturating_duration_since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!("2.5".parse(), Ok(Rate::PerSecond(2.5)));
        assert_eq!("realtime".parse(), Ok(Rate::Realtime));
        assert_eq!("max".parse(), Ok(Rate::Max));
        for wrong in ["0", "-1", "nan", "inf", "fast", ""] {
            Rate::from_str(wrong).unwrap_err();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_schedule_does_not_drift() {
        let mut pacer = Pacer::new(Rate::PerSecond(10.0));
        let start = Instant::now();
        for index in 0..5 {
            let due = pacer.due(index, 99.0);
            assert_eq!(due, Some(start + Duration::from_millis(100 * index)));
            tokio::time::sleep_until(due.unwrap()).await;
            pacer.sent(due);
            // Sending takes long once, which makes the next two late and none after them.
            let work = if index == 1 { 250 } else { 10 };
            tokio::time::advance(Duration::from_millis(work)).await;
        }
        assert_eq!((pacer.late, pacer.latest_by.as_millis()), (2, 150));
        assert_eq!(Pacer::new(Rate::Realtime).due(7, 0.5), Some(Instant::now() + Duration::from_millis(500)));
        assert_eq!(Pacer::new(Rate::Max).due(7, 0.5), None);
        pacer.postpone(Duration::from_secs(3));
        assert_eq!(pacer.due(5, 99.0), Some(start + Duration::from_millis(3500)));
    }
}
