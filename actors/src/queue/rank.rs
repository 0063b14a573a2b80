//! Order of service of waiting frames.

use std::time::Duration;

use tokio::time::Instant;

/// After this long a waiting frame counts as one priority higher, so that none starves.
pub const AGEING: Duration = Duration::from_millis(250);

/// Rank of a frame that has waited since then at a level of [`Priority`](crate::frame::Priority), 0 the most
/// urgent; the lowest rank is served first.
pub fn rank(level: usize, since: Instant, now: Instant) -> (usize, Instant, usize) {
    let steps = now.saturating_duration_since(since).as_nanos() / AGEING.as_nanos();
    (level.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX)), since, level)
}
