//! What a process uses, from Linux's `/proc`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{read_dir, read_to_string};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Time and memory.
pub struct Usage {
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Bytes of memory in use.
    pub resident_bytes: u64,
}

/// Seconds of processor time of a process by kind of thread: its name without the number at its end.
///
/// # Errors
/// Where there is no such process, or no `/proc`.
pub fn by_thread(pid: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut kinds = BTreeMap::new();
    for task in read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let read = |file| read_to_string(path.join(file));
        // A thread may end meanwhile; those of the daemon do not.
        let (Ok(name), Ok(text)) = (read("comm"), read("schedstat")) else { continue };
        let ns = nanoseconds(&text).context("schedstat cannot be read")?;
        let kind = name.trim_end().trim_end_matches(|last: char| last.is_ascii_digit()).trim_end_matches('-');
        *kinds.entry(kind.to_owned()).or_default() += ns as f64 / 1e9;
    }
    Ok(kinds)
}

impl Usage {
    /// The processor time of all threads that are or were, to a hundredth of a second, and the resident
    /// memory.
    ///
    /// # Errors
    /// Where there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&stat).context("stat cannot be read")?;
        let bytes = resident_bytes(&format!("/proc/{pid}/status")).context("no VmRSS")?;
        Ok(Self { cpu_s: ticks as f64 / 100.0, resident_bytes: bytes })
    }
}

/// User and system time of a process's `stat`, the 14th and 15th field; the second, a name in brackets, may
/// hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The processor time of this process, of all threads that are or were.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Time on a processor, of a thread's `schedstat`.
fn nanoseconds(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let text = read_to_string(status).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
    Some(kib.parse::<u64>().ok()? << 10)
}

/// What a daemon's threads do, by their names.
const KINDS: [(&str, &[&str]); 3] = [
    // Tokio's, those for blocking work too: reading, decoding, cache, publication.
    ("async", &["tokio-rt-"]),
    ("features", &["features-"]),
    // Also those of ONNX Runtime, where a run has several.
    ("sessions", &["session-", "onnx"]),
];

/// The threads that are of none of these kinds, and what threads have used that are over.
const OTHER: &str = "other";

/// A reading is kept for this long: one request for statistics asks several times.
const KEPT: Duration = Duration::from_millis(50);

/// What this process uses, as it states it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnUsage {
    /// Seconds of processor time, user and system, of all threads that are or were.
    pub cpu_s: f64,
    /// Bytes of memory in use; `None` where there is no `/proc`.
    pub resident_bytes: Option<u64>,
    /// The same seconds by kind of thread: `async`, `features`, `sessions` and `other`; none without `/proc`.
    pub threads_cpu_s: BTreeMap<String, f64>,
}

/// Reads what this process uses. What it states of any kind of thread never gets less.
#[derive(Debug, Default)]
pub struct UsageMeter(Mutex<Meter>);

#[derive(Debug, Default)]
struct Meter {
    /// Nanoseconds of each thread when it was last read, with the place of its kind.
    threads: HashMap<String, (usize, u64)>,
    /// Nanoseconds of threads that are over, by kind.
    over: [u64; KINDS.len()],
    other_s: f64,
    last: Option<(Instant, OwnUsage)>,
}

impl UsageMeter {
    /// What is used now.
    pub fn read(&self) -> OwnUsage {
        let mut meter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &meter.last {
            Some((at, usage)) if at.elapsed() < KEPT => usage.clone(),
            _ => {
                let usage = meter.read();
                meter.last = Some((Instant::now(), usage.clone()));
                usage
            }
        }
    }
}

impl Meter {
    fn read(&mut self) -> OwnUsage {
        let threads = threads();
        for (id, (kind, before)) in &self.threads {
            // A number may be given to a new thread.
            if threads.get(id).is_none_or(|(_, now)| now < before) {
                self.over[*kind] += before;
            }
        }
        let mut by_kind = self.over;
        threads.values().for_each(|(kind, ns)| by_kind[*kind] += ns);
        self.threads = threads;
        // After the threads, so that it is not less than their sum.
        let cpu_s = own_cpu().as_secs_f64();
        let by_kind = by_kind.map(|ns| ns as f64 / 1e9);
        self.other_s = self.other_s.max(cpu_s - by_kind.iter().sum::<f64>());
        let named = KINDS.iter().zip(by_kind).map(|((kind, _), seconds)| ((*kind).to_owned(), seconds));
        let all = named.chain([(OTHER.to_owned(), self.other_s)]);
        let resident_bytes = resident_bytes("/proc/self/status");
        let threads_cpu_s = if resident_bytes.is_some() { all.collect() } else { BTreeMap::new() };
        OwnUsage { cpu_s, resident_bytes, threads_cpu_s }
    }
}

/// The threads of a known kind that are there: the place of the kind, and nanoseconds.
fn threads() -> HashMap<String, (usize, u64)> {
    let tasks = read_dir("/proc/self/task").into_iter().flatten().flatten();
    let thread = |task: std::fs::DirEntry| {
        let name = read_to_string(task.path().join("comm")).ok()?;
        let is = |(_, starts): &(&str, &[&str])| starts.iter().any(|start| name.starts_with(start));
        let kind = KINDS.iter().position(is)?;
        let ns = nanoseconds(&read_to_string(task.path().join("schedstat")).ok()?)?;
        Some((task.file_name().to_string_lossy().into_owned(), (kind, ns)))
    };
    tasks.filter_map(thread).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Uses so many milliseconds of this thread, a new one.
    fn spin(ms: i64) {
        while clock_gettime(ClockId::ThreadCPUTime).tv_nsec < (ms * 1_000_000) as _ {}
    }

    fn named(name: &str) -> std::thread::Builder {
        std::thread::Builder::new().name(name.to_owned())
    }

    #[test]
    fn time_is_told_by_kind_of_thread_and_stays_when_threads_end() {
        let meter = UsageMeter::default();
        let read = || meter.0.lock().unwrap().read();
        let before = read();
        assert!(before.resident_bytes.unwrap() > 1 << 20);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (done, spun) = std::sync::mpsc::channel::<()>();
        let session = named("session-7").spawn(move || {
            spin(50);
            done.send(()).unwrap();
            wait.recv().unwrap_err();
        });
        spun.recv().unwrap();
        let there = read();
        let of = |usage: &OwnUsage, kind: &str| usage.threads_cpu_s[kind];
        assert!(of(&there, "sessions") - of(&before, "sessions") >= 0.045, "{there:?}");
        drop(go);
        session.unwrap().join().unwrap();
        // A thread that no reading has seen counts among the others.
        named("features-3").spawn(|| spin(50)).unwrap().join().unwrap();
        let after = read();
        assert!(of(&after, "sessions") >= of(&there, "sessions"), "{after:?}");
        assert!(of(&after, OTHER) - of(&there, OTHER) >= 0.045, "{after:?}");
        let sum: f64 = after.threads_cpu_s.values().sum();
        assert!((sum - after.cpu_s).abs() < 0.02, "{after:?}");
        assert_eq!(after.threads_cpu_s.len(), 4);
    }

    #[test]
    fn a_process_is_read_by_its_number() {
        named("a ) b").spawn(|| spin(50)).unwrap().join().unwrap();
        let before = own_cpu().as_secs_f64();
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.cpu_s >= before - 0.02, "of threads that ended too");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
