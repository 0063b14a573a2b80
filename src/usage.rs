//! What a process uses, from Linux's `/proc`.

use std::collections::BTreeMap;

use anyhow::Context;

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
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let read = |file| std::fs::read_to_string(path.join(file));
        // A thread may end meanwhile; those of the daemon do not.
        let (Ok(name), Ok(text)) = (read("comm"), read("schedstat")) else { continue };
        let ns: u64 = text.split_whitespace().next().context("an empty schedstat")?.parse()?;
        let kind = name.trim_end().trim_end_matches(|last: char| last.is_ascii_digit()).trim_end_matches('-');
        *kinds.entry(kind.to_owned()).or_default() += ns as f64 / 1e9;
    }
    Ok(kinds)
}

impl Usage {
    /// The processor time of all threads, to the nanosecond, and the resident memory.
    ///
    /// # Errors
    /// Where there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let cpu_s = by_thread(pid)?.values().sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next());
        Ok(Self { cpu_s, resident_bytes: kib.context("no VmRSS")?.parse::<u64>()? << 10 })
    }
}
