//! Values that several sections share.

/// The CPU cores this process may use, at least 1.
///
/// The standard library counts what the process is allowed, not what the host has: on Linux the scheduler's
/// affinity mask and the CPU quota of cgroup v1 or v2, so a container limited to two cores gets two.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// An optional text: empty means not given.
pub fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
