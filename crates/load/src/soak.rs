//! What must hold in a run of hours: the gate of a soak.

use std::time::Duration;

use serde::Serialize;

/// Runs shorter than this are judged by how far memory has grown, not by how fast.
const SHORT: Duration = Duration::from_secs(600);

/// Batches of a run's memory, whose means are nearly independent of each other.
const BATCHES: usize = 20;

/// The 97.5th percentile of Student's t with `BATCHES` - 2 degrees of freedom.
const T: f64 = 2.101;

const MEGABYTE: f64 = 1e6;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// What was seen of a daemon in a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Soaked {
    /// How long it was.
    pub duration: Duration,
    /// 99th percentile of latency, milliseconds.
    pub p99_ms: Option<f64>,
    /// Resident bytes of the daemon at times since the beginning; empty where they are not known.
    pub resident: Vec<(Duration, u64)>,
    /// Runs of sessions.
    pub inferences: u64,
    /// Share of the nodes that the preferred execution provider runs; `None` where the CPU is the only one.
    pub dispatch: Option<f64>,
    /// Times that a circuit has opened.
    pub openings: u64,
    /// Share of the buffers taken that were reused.
    pub buffer_hit_rate: Option<f64>,
    /// Received less predictions, failures, lost and in flight.
    pub unbalanced: i64,
    /// Frames lost.
    pub lost: u64,
}

/// One line of the gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateLine {
    /// What is judged.
    pub name: &'static str,
    /// What it must be.
    pub target: String,
    /// What it was.
    pub measured: String,
    /// Whether it was so; `None` where it is not judged.
    pub met: Option<bool>,
}

/// How fast memory grows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// Megabytes an hour.
    pub mb_per_hour: f64,
    /// Between which it lies in 95 of 100 runs.
    pub interval: [f64; 2],
}

impl Growth {
    /// The slope of memory over time by least squares over the means of 20 batches after the first tenth of
    /// the run; the batches' means are nearly independent (Law and Kelton, "Simulation Modeling and
    /// Analysis", chapter on output analysis). `None` with fewer than two values a batch.
    pub fn of(resident: &[(Duration, u64)]) -> Option<Self> {
        let warm = resident.get(resident.len() / 10..)?;
        let each = warm.len() / BATCHES;
        if each < 2 {
            return None;
        }
        let batches: Vec<(f64, f64)> = warm
            .chunks_exact(each)
            .take(BATCHES)
            .map(|batch| {
                let count = batch.len() as f64;
                let hours = batch.iter().map(|(at, _)| at.as_secs_f64() / 3600.0).sum::<f64>() / count;
                let megabytes = batch.iter().map(|(_, bytes)| *bytes as f64 / MEGABYTE).sum::<f64>() / count;
                (hours, megabytes)
            })
            .collect();
        let count = batches.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| batches.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|batch| batch.0), mean(|batch| batch.1));
        let sxx: f64 = batches.iter().map(|batch| (batch.0 - x).powi(2)).sum();
        let sxy: f64 = batches.iter().map(|batch| (batch.0 - x) * (batch.1 - y)).sum();
        let slope = sxy / sxx;
        let left: f64 = batches.iter().map(|batch| (batch.1 - y - slope * (batch.0 - x)).powi(2)).sum();
        let half = T * (left / (count - 2.0) / sxx).sqrt();
        Some(Self { mb_per_hour: slope, interval: [slope - half, slope + half] })
    }
}

/// Mebibytes by which memory has grown from the end of the first third to the end, each the mean of a tenth
/// of the run.
fn grown(resident: &[(Duration, u64)]) -> Option<f64> {
    let tenth = (resident.len() / 10).max(1);
    let mean = |part: &[(Duration, u64)]| {
        let sum: f64 = part.iter().map(|(_, bytes)| *bytes as f64).sum();
        (!part.is_empty()).then(|| sum / part.len() as f64 / MEBIBYTE)
    };
    let third = resident.len() / 3;
    let first = mean(resident.get(third..third + tenth)?)?;
    Some(mean(resident.get(resident.len() - tenth..)?)? - first)
}

impl Soaked {
    /// The gate, line by line.
    pub fn gate(&self) -> Vec<GateLine> {
        let share = |of: Option<f64>| of.map_or("not known".to_owned(), |of| format!("{:.1} %", of * 100.0));
        let line = |name, target: &str, measured: String, met| GateLine {
            name,
            target: target.to_owned(),
            measured,
            met,
        };
        let p99 = self.p99_ms.map_or("no answer".to_owned(), |ms| format!("{ms:.2} ms"));
        vec![
            line("p99 latency", "under 25 ms", p99, Some(self.p99_ms.is_some_and(|ms| ms < 25.0))),
            self.memory(),
            line(
                "nodes on the preferred provider",
                "at least 70 %",
                self.dispatch.map_or("the CPU is the only one".to_owned(), |of| share(Some(of))),
                self.dispatch.map(|of| of >= 0.7),
            ),
            line("circuits opened", "none", self.openings.to_string(), Some(self.openings == 0)),
            line(
                "buffers reused",
                "over 80 %",
                share(self.buffer_hit_rate),
                self.buffer_hit_rate.map(|of| of > 0.8),
            ),
            line(
                "ledger",
                "balanced, none lost",
                format!("off by {}, {} lost", self.unbalanced, self.lost),
                Some(self.unbalanced == 0 && self.lost == 0),
            ),
            line("inferences", "at least 1000", self.inferences.to_string(), Some(self.inferences >= 1000)),
        ]
    }

    /// Whether every line that is judged is met.
    pub fn passed(&self) -> bool {
        self.gate().iter().all(|line| line.met != Some(false))
    }

    fn memory(&self) -> GateLine {
        let name = "memory growth";
        if self.duration < SHORT {
            let grown = grown(&self.resident);
            let measured = grown.map_or("not known".to_owned(), |grown| format!("{grown:.1} MiB"));
            let target = "under 8 MiB after the first third: the run is shorter than 10 minutes".to_owned();
            return GateLine { name, target, measured, met: grown.map(|grown| grown < 8.0) };
        }
        let growth = Growth::of(&self.resident);
        let measured = growth.map_or("not known".to_owned(), |growth| {
            let [low, high] = growth.interval;
            format!("{:.1} MB/h ({low:.1} to {high:.1})", growth.mb_per_hour)
        });
        let target = "under 10 MB/h".to_owned();
        GateLine { name, target, measured, met: growth.map(|growth| growth.mb_per_hour < 10.0) }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A good run of so many seconds, whose memory grows so many megabytes an hour under noise.
    fn run(seconds: u64, mb_per_hour: f64) -> Soaked {
        let mut rng = SmallRng::seed_from_u64(seconds);
        let resident = (0..seconds).map(|second| {
            let grown = mb_per_hour * MEGABYTE * second as f64 / 3600.0;
            (Duration::from_secs(second), (90e6 + grown + rng.random_range(-5e5..5e5)) as u64)
        });
        Soaked {
            duration: Duration::from_secs(seconds),
            p99_ms: Some(4.0),
            resident: resident.collect(),
            inferences: 5000,
            dispatch: Some(0.9),
            buffer_hit_rate: Some(0.99),
            ..Soaked::default()
        }
    }

    #[test]
    fn a_leak_of_twenty_megabytes_an_hour_is_caught_and_none_is_not() {
        assert!(run(3600, 0.0).passed() && run(3600, 5.0).passed());
        let leaks = run(3600, 20.0);
        assert!(!leaks.passed());
        let growth = Growth::of(&leaks.resident).unwrap();
        assert!((growth.mb_per_hour - 20.0).abs() < 1.0, "{growth:?}");
        assert!(growth.interval[0] > 15.0 && growth.interval[1] < 25.0, "{growth:?}");
        let only = leaks.gate().into_iter().filter(|line| line.met == Some(false));
        assert_eq!(only.map(|line| line.name).collect::<Vec<_>>(), ["memory growth"]);
    }

    #[test]
    fn a_short_run_is_judged_by_how_far_memory_has_grown_and_says_so() {
        assert!(run(60, 0.0).passed());
        // 18 MiB a minute.
        let leaks = run(60, 18.0 * 60.0 * 1.048_576).gate().swap_remove(1);
        assert!(leaks.met == Some(false) && leaks.target.contains("shorter than 10 minutes"), "{leaks:?}");
    }

    #[test]
    fn every_line_can_fail_and_what_is_not_known_is_not_judged() {
        let good = || run(60, 0.0);
        for (name, bad) in [
            ("p99 latency", Soaked { p99_ms: Some(25.0), ..good() }),
            ("p99 latency", Soaked { p99_ms: None, ..good() }),
            ("nodes on the preferred provider", Soaked { dispatch: Some(0.69), ..good() }),
            ("circuits opened", Soaked { openings: 1, ..good() }),
            ("buffers reused", Soaked { buffer_hit_rate: Some(0.8), ..good() }),
            ("ledger", Soaked { unbalanced: -1, ..good() }),
            ("ledger", Soaked { lost: 1, ..good() }),
            ("inferences", Soaked { inferences: 999, ..good() }),
        ] {
            let failed: Vec<_> = bad.gate().into_iter().filter(|line| line.met == Some(false)).collect();
            assert!(failed.len() == 1 && failed[0].name == name && !bad.passed(), "{failed:?}");
        }
        let less = Soaked { dispatch: None, buffer_hit_rate: None, resident: Vec::new(), ..good() };
        assert_eq!(less.gate().iter().filter(|line| line.met.is_none()).count(), 3);
        assert!(less.passed());
    }
}
