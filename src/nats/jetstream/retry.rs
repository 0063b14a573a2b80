//! Which failures are final, and when the frames of the others are delivered again.

use std::time::Duration;

use sferic_actors::frame::Delivery;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_settings::{Jetstream, LONGEST_RETRY_DELAY};

/// Delay before the second delivery.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The rule.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    pub(super) max_deliver: u64,
    /// Zero: none.
    pub(super) max_backlog_age: Duration,
}

impl RetryPolicy {
    /// The rule in the settings.
    pub fn new(settings: &Jetstream) -> Self {
        let Jetstream { max_deliver, max_backlog_age, .. } = *settings;
        Self { max_deliver: max_deliver.into(), max_backlog_age }
    }

    /// How long the stream waits before it delivers the frame again; `None` where the failure is final.
    /// `chance`, from 0 to 1, spreads frames that fail together over a quarter of the delay.
    ///
    /// A frame that was too slow once is retried once: it would hold a session each time.
    pub fn retry_after(&self, delivery: &Delivery, failure: &Failure, chance: f64) -> Option<Duration> {
        let most = if failure.code == FailureCode::DeadlineExceeded { 2 } else { self.max_deliver };
        let is_final = delivery.deliveries >= most.min(self.max_deliver) || self.is_too_old(delivery);
        if is_final || !failure.code.is_retryable() {
            return None;
        }
        let doublings = delivery.deliveries.saturating_sub(1).min(16) as u32;
        let delay = (FIRST_DELAY * 2u32.pow(doublings)).max(failure.retry_after.unwrap_or_default());
        Some(delay.min(LONGEST_RETRY_DELAY).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0))
    }

    /// Whether the delivery is one too many: a daemon died with the frame each time before.
    pub fn is_exhausted(&self, delivery: &Delivery) -> bool {
        delivery.deliveries > self.max_deliver
    }

    /// Whether the frame, which nobody sent back, goes back unrun. Every other time it does, so that frames
    /// of a daemon that one of them has ended do not meet that one again and again.
    pub fn returns_alone(&self, delivery: &Delivery) -> bool {
        delivery.deliveries.is_multiple_of(2) && delivery.deliveries < self.max_deliver
    }

    /// Whether the frame has been in its stream for longer than `max_backlog_age`.
    pub fn is_too_old(&self, delivery: &Delivery) -> bool {
        !self.max_backlog_age.is_zero() && delivery.age() > self.max_backlog_age
    }

    /// Whether a failure of this delivery ends the frame though its code is retryable.
    pub fn ends_retries(&self, delivery: &Delivery, failure: &Failure) -> bool {
        failure.code.is_retryable() && self.retry_after(delivery, failure, 0.0).is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sferic_settings::Settings;

    use super::*;

    fn policy(max_deliver: u32) -> RetryPolicy {
        RetryPolicy::new(&Jetstream { max_deliver, ..Settings::default().jetstream })
    }

    fn delivered(deliveries: u64) -> Delivery {
        Delivery { deliveries, ..Delivery::default() }
    }

    #[test]
    fn a_frame_that_was_too_slow_is_retried_once_and_a_bad_one_never() {
        let policy = policy(5);
        let retry = |deliveries, code| {
            policy.retry_after(&delivered(deliveries), &Failure::new(code, "why"), 0.0).is_some()
        };
        assert_eq!([1, 2, 3].map(|n| retry(n, FailureCode::DeadlineExceeded)), [true, false, false]);
        assert_eq!([1, 4, 5, 6].map(|n| retry(n, FailureCode::Overloaded)), [true, true, false, false]);
        assert_eq!([1, 2].map(|n| retry(n, FailureCode::InvalidFrame)), [false, false]);
        assert!(!policy.is_exhausted(&delivered(5)) && policy.is_exhausted(&delivered(6)));
    }

    #[test]
    fn delays_double_and_respect_what_the_failure_asks_for() {
        let policy = policy(50);
        let delay = |deliveries, failure: &Failure| {
            policy.retry_after(&delivered(deliveries), failure, 0.0).unwrap().as_secs()
        };
        let mut failure = Failure::new(FailureCode::Internal, "why");
        assert_eq!([1, 2, 3, 4, 5, 6, 49].map(|n| delay(n, &failure)), [1, 2, 4, 8, 16, 30, 30]);
        failure.retry_after = Some(Duration::from_secs(12));
        assert_eq!([1, 2, 5].map(|n| delay(n, &failure)), [12, 12, 16]);
        failure.retry_after = Some(Duration::from_secs(600));
        assert_eq!(delay(1, &failure), 30, "the window of duplicates must cover all retries");
    }

    proptest! {
        #[test]
        fn every_frame_ends_within_the_time_that_the_settings_check(
            max_deliver in 1u32..50,
            chances in prop::collection::vec(0.0..=1.0f64, 50),
            slow in any::<bool>(),
        ) {
            let policy = policy(max_deliver);
            let code = if slow { FailureCode::DeadlineExceeded } else { FailureCode::ModelUnavailable };
            let mut failure = Failure::new(code, "why");
            failure.retry_after = Some(Duration::from_secs(3600));
            let (mut deliveries, mut waited) = (1, Duration::ZERO);
            let retry = |deliveries: u64| {
                policy.retry_after(&delivered(deliveries), &failure, chances[deliveries as usize % 50])
            };
            while let Some(delay) = retry(deliveries) {
                waited += delay;
                deliveries += 1;
            }
            prop_assert!(deliveries <= u64::from(max_deliver));
            prop_assert!(waited <= LONGEST_RETRY_DELAY * max_deliver);
            prop_assert!(policy.ends_retries(&delivered(deliveries), &failure));
        }
    }
}
