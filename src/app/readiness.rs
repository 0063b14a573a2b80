//! Whether the daemon is ready, as `sferic.health` reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::overlap::Overlap;
use super::transport::OutcomesRefused;
use crate::nats::{Connection, HealthStatus, Input, InputSwitch, Probe};

/// Lifecycle of the daemon: starting, running, stopping.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    const STARTING: u8 = 0;
    const RUNNING: u8 = 1;
    const STOPPING: u8 = 2;

    pub fn started(&self) {
        self.0.store(Self::RUNNING, Ordering::Release);
    }

    pub fn stopping(&self) {
        self.0.store(Self::STOPPING, Ordering::Release);
    }
}

/// What readiness depends on.
pub struct Readiness {
    pub lifecycle: Lifecycle,
    pub connection: Connection,
    pub probe: Probe,
    pub input: InputSwitch,
    pub outcomes_refused: OutcomesRefused,
    pub overlap: Arc<Overlap>,
}

/// Interval of the check; shorter interruptions are not logged.
const LOOK: Duration = Duration::from_millis(500);

/// Logs each change of the reason why the daemon is not ready, and when it is ready again.
pub async fn log_changes(readiness: Arc<Readiness>) {
    let mut logged = None;
    let mut was_ready = true;
    loop {
        tokio::time::sleep(LOOK).await;
        let (status, reason) = readiness.now();
        let is_ready = matches!(status, HealthStatus::Ok | HealthStatus::Paused);
        if !is_ready && reason != logged {
            tracing::warn!(status = status.as_str(), reason, "not ready");
        } else if is_ready && !was_ready {
            tracing::info!("ready again");
        }
        (logged, was_ready) = (reason, is_ready);
    }
}

/// Everything that readiness depends on, at one moment.
#[derive(Debug, Clone, Default)]
struct View {
    lifecycle: u8,
    down: Option<String>,
    /// Number of connections so far.
    epoch: u64,
    is_confirmed: bool,
    deaf_for_s: Option<f64>,
    input_refused: Option<String>,
    outcomes_refused: Option<String>,
    overlap: Option<String>,
    is_joining: bool,
    is_paused: bool,
}

impl Readiness {
    /// The status, and the reason where it is not `ok` and one is known.
    pub fn now(&self) -> (HealthStatus, Option<String>) {
        let epoch = self.connection.epoch();
        let input = self.input.state();
        View {
            lifecycle: self.lifecycle.0.load(Ordering::Acquire),
            down: self.connection.down(),
            epoch,
            is_confirmed: self.probe.has_confirmed(epoch),
            deaf_for_s: self.probe.deaf_for().map(|age| age.as_secs_f64()),
            input_refused: self.input.refused(),
            outcomes_refused: (self.outcomes_refused)(),
            overlap: self.overlap.reason(),
            is_joining: input == Input::Joining,
            is_paused: input == Input::Paused,
        }
        .status()
    }
}

impl View {
    fn status(self) -> (HealthStatus, Option<String>) {
        if self.lifecycle == Lifecycle::STOPPING {
            return (HealthStatus::Stopping, None);
        }
        // Before the first connection there is nothing to be disconnected from.
        let without = if self.epoch == 0 { HealthStatus::Starting } else { HealthStatus::Disconnected };
        if let Some(reason) = self.down {
            return (without, Some(reason));
        }
        if self.lifecycle == Lifecycle::STARTING {
            return (HealthStatus::Starting, Some("the service is being started".to_owned()));
        }
        if let Some(words) = self.input_refused {
            return (
                HealthStatus::Disconnected,
                Some(format!("the server refuses the subscription: {words}")),
            );
        }
        if !self.is_confirmed || self.is_joining {
            return (
                HealthStatus::Starting,
                Some("the server has not confirmed the subscription yet".to_owned()),
            );
        }
        if let Some(seconds) = self.deaf_for_s {
            return (
                HealthStatus::Disconnected,
                Some(format!("the server has not answered for {seconds:.0} s")),
            );
        }
        if let Some(words) = self.outcomes_refused {
            return (HealthStatus::Disconnected, Some(format!("the server refuses outcomes: {words}")));
        }
        if self.overlap.is_some() {
            return (HealthStatus::Starting, self.overlap);
        }
        if self.is_paused { (HealthStatus::Paused, None) } else { (HealthStatus::Ok, None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_status_and_its_reason() {
        let good = View { lifecycle: Lifecycle::RUNNING, epoch: 1, is_confirmed: true, ..View::default() };
        let words = || Some("its words".to_owned());
        for (view, status, reason) in [
            (good.clone(), HealthStatus::Ok, ""),
            (
                View { lifecycle: Lifecycle::STOPPING, down: words(), ..good.clone() },
                HealthStatus::Stopping,
                "",
            ),
            (View { epoch: 0, down: words(), ..good.clone() }, HealthStatus::Starting, "its words"),
            (View { down: words(), ..good.clone() }, HealthStatus::Disconnected, "its words"),
            (
                View { lifecycle: Lifecycle::STARTING, ..good.clone() },
                HealthStatus::Starting,
                "being started",
            ),
            (View { is_confirmed: false, ..good.clone() }, HealthStatus::Starting, "not confirmed"),
            (View { is_joining: true, ..good.clone() }, HealthStatus::Starting, "not confirmed"),
            (
                View { input_refused: words(), is_joining: true, ..good.clone() },
                HealthStatus::Disconnected,
                "subscription: its words",
            ),
            (View { deaf_for_s: Some(3.21), ..good.clone() }, HealthStatus::Disconnected, "3 s"),
            (
                View { outcomes_refused: words(), ..good.clone() },
                HealthStatus::Disconnected,
                "outcomes: its words",
            ),
            (View { overlap: words(), ..good.clone() }, HealthStatus::Starting, "its words"),
            (View { is_paused: true, ..good }, HealthStatus::Paused, ""),
        ] {
            let shown = format!("{view:?}");
            let (is, why) = view.status();
            assert_eq!(is, status, "{shown}");
            assert!(
                why.as_deref().unwrap_or_default().contains(reason) && why.is_some() != reason.is_empty(),
                "{shown}: {why:?}"
            );
        }
    }
}
