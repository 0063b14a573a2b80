//! CPU time and memory of the process, from `/proc` of Linux.

/// Time and memory.
pub struct ProcessUsage {
    /// User and system time, seconds.
    pub cpu_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// Usage of this process; `None` where there is no `/proc`.
pub fn usage() -> Option<ProcessUsage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // User and system time are the 14th and 15th field, in hundredths of a second; the second, a name in
    // brackets, may hold spaces.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let cpu_s = (ticks()? + ticks()?) as f64 / 100.0;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(ProcessUsage { cpu_s, resident_bytes: kib << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.cpu_s >= 0.0);
    }
}
