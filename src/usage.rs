//! What a process uses, from Linux's `/proc`.

use anyhow::Context;

/// Time and memory.
pub struct Usage {
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Bytes of memory in use.
    pub resident_bytes: u64,
}

impl Usage {
    /// The processor time of all threads, to the nanosecond, and the resident memory.
    ///
    /// # Errors
    /// Where there is no such process, or no `/proc`.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let mut ns = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile; those of the daemon do not.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            ns += text.split_whitespace().next().context("an empty schedstat")?.parse::<u64>()?;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next());
        Ok(Self { cpu_s: ns as f64 / 1e9, resident_bytes: kib.context("no VmRSS")?.parse::<u64>()? << 10 })
    }
}
