//! Compares circuits with a plain reference implementation, on a paused clock.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::core::{Call, Force};
use super::tests::model;
use super::*;

const WINDOW: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_millis(100);
const OPEN_FOR: Duration = Duration::from_secs(2);

/// Keeps every call since the last closing and evaluates all of them each time.
struct Reference {
    config: Config,
    began: Instant,
    state: CircuitState,
    /// When each call ended, and its result.
    calls: Vec<(Instant, Call)>,
    openings: u32,
    /// For each frame let through: whether its result still counts.
    permits: Vec<bool>,
    succeeded: u32,
    counts: CircuitCounts,
}

impl Reference {
    fn change(&mut self, state: CircuitState) {
        self.state = state;
        self.permits.iter_mut().for_each(|counts| *counts = false);
        self.succeeded = 0;
        self.calls.clear();
    }

    fn tick(&mut self, now: Instant) {
        if let CircuitState::Open { until: Some(until) } = self.state
            && until <= now
        {
            self.change(CircuitState::HalfOpen);
        }
    }

    fn probes_out(&self) -> u32 {
        self.permits.iter().filter(|&&counts| counts).count() as u32
    }

    fn admit(&mut self, now: Instant) -> bool {
        self.tick(now);
        let admitted = match self.state {
            CircuitState::Closed => true,
            CircuitState::HalfOpen => self.probes_out() < self.config.success_threshold,
            CircuitState::Open { .. } => false,
        };
        if admitted {
            self.counts.probes += u64::from(self.state == CircuitState::HalfOpen);
            self.permits.push(true);
        } else {
            self.counts.refused += 1;
        }
        admitted
    }

    /// Whether the circuit opens.
    fn end(&mut self, permit: usize, call: Call, now: Instant) -> bool {
        self.tick(now);
        let counts = self.permits.remove(permit);
        self.counts.failures += u64::from(call == Call::Failed);
        let slow = matches!(call, Call::Succeeded { slow: true } | Call::TimedOut);
        let failed = call == Call::Failed;
        self.counts.slow += u64::from(slow);
        if !counts || call == Call::Abandoned {
            return false;
        }
        if self.state == CircuitState::HalfOpen {
            let opens = failed || (slow && self.config.slow_share > 0.0);
            self.succeeded += u32::from(matches!(call, Call::Succeeded { .. }));
            if !opens && self.succeeded >= self.config.success_threshold {
                self.openings = 0;
                self.change(CircuitState::Closed);
            }
            return opens;
        }
        self.calls.push((now, call));
        let said = self.calls.iter().rev().filter(|(_, call)| *call != Call::TimedOut);
        let in_a_row = said.take_while(|(_, call)| *call == Call::Failed).count();
        // The window moves in tenths, from when the circuit was made.
        let step = |at: Instant| (at - self.began).as_micros() / (WINDOW.as_micros() / 10);
        let lately: Vec<_> = self.calls.iter().filter(|call| step(call.0) + 10 > step(now)).collect();
        let share = |of: fn(Call) -> bool| {
            lately.iter().filter(|call| of(call.1)).count() as f64 / lately.len() as f64
        };
        let failures = share(|call| call == Call::Failed);
        let slow = share(|call| matches!(call, Call::Succeeded { slow: true } | Call::TimedOut));
        let judged = lately.len() >= self.config.min_calls as usize;
        let Config { failure_threshold, failure_share, slow_share, .. } = self.config;
        in_a_row >= failure_threshold as usize
            || judged && failure_share > 0.0 && failures >= failure_share
            || judged && slow_share > 0.0 && slow >= slow_share
    }
}

#[derive(Debug, Clone)]
enum Step {
    Admit,
    End { permit: prop::sample::Index, call: Call },
    Check { permit: prop::sample::Index },
    Wait { ms: u64 },
    Force(Force),
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop_oneof![
        4 => Just(Call::Failed),
        3 => Just(Call::Succeeded { slow: false }),
        2 => Just(Call::Succeeded { slow: true }),
        1 => Just(Call::TimedOut),
        1 => Just(Call::Abandoned),
    ];
    let permit = any::<prop::sample::Index>;
    prop_oneof![
        12 => Just(Step::Admit),
        12 => (permit(), call).prop_map(|(permit, call)| Step::End { permit, call }),
        2 => permit().prop_map(|permit| Step::Check { permit }),
        4 => (1u64..400).prop_map(|ms| Step::Wait { ms }),
        1 => (400u64..12_000).prop_map(|ms| Step::Wait { ms }),
        1 => prop_oneof![Just(Force::Open), Just(Force::Close), Just(Force::Reset)].prop_map(Step::Force),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let share = || prop_oneof![Just(0.0), Just(0.34), Just(0.5)];
    (1u32..6, share(), share(), 1u32..8, 1u32..4).prop_map(
        |(failure_threshold, failure_share, slow_share, min_calls, success_threshold)| Config {
            failure_threshold,
            failure_share,
            slow_share,
            slow_call: SLOW,
            window: WINDOW,
            min_calls,
            open_for: OPEN_FOR,
            success_threshold,
        },
    )
}

async fn run(config: Config, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let circuit = Circuits::new(config.clone()).of(&model());
    let mut reference = Reference {
        config,
        began: Instant::now(),
        state: CircuitState::Closed,
        calls: Vec::new(),
        openings: 0,
        permits: Vec::new(),
        succeeded: 0,
        counts: CircuitCounts::default(),
    };
    let mut permits = Vec::new();
    for step in steps {
        let now = Instant::now();
        match step {
            Step::Admit => {
                let admitted = circuit.admit();
                prop_assert_eq!(admitted.is_ok(), reference.admit(now));
                match admitted {
                    Ok(permit) => permits.push(permit),
                    Err(failure) => {
                        let wait = if let CircuitState::Open { until: Some(until) } = reference.state {
                            Some(until - now)
                        } else {
                            None
                        };
                        prop_assert_eq!(failure.retry_after, wait);
                    }
                }
            }
            Step::End { permit, call } if !permits.is_empty() => {
                let index = permit.index(permits.len());
                let mut permit = permits.remove(index);
                match call {
                    Call::Succeeded { slow: false } => permit.succeeded(SLOW - Duration::from_nanos(1)),
                    Call::Succeeded { slow: true } => permit.succeeded(SLOW),
                    Call::Failed => permit.failed(),
                    Call::TimedOut => permit.timed_out(SLOW),
                    Call::Abandoned => drop(permit),
                }
                if reference.end(index, call, now) {
                    let CircuitState::Open { until: Some(until) } = circuit.state().0 else {
                        return Err(TestCaseError::fail("it should have opened"));
                    };
                    let full =
                        OPEN_FOR.as_secs_f64() * [1.0, 2.0, 4.0, 8.0][reference.openings.min(3) as usize];
                    let share = (until - now).as_secs_f64() / full;
                    prop_assert!((0.8..=1.2).contains(&share), "{share} of {full} s");
                    reference.openings += 1;
                    reference.counts.openings += 1;
                    // The rest is random.
                    reference.change(CircuitState::Open { until: Some(until) });
                }
            }
            Step::Check { permit } if !permits.is_empty() => {
                let index = permit.index(permits.len());
                reference.tick(now);
                prop_assert_eq!(
                    permits[index].check().is_ok(),
                    reference.permits[index] || reference.state == CircuitState::Closed
                );
            }
            Step::End { .. } | Step::Check { .. } => {}
            Step::Wait { ms } => tokio::time::advance(Duration::from_millis(ms)).await,
            Step::Force(how) => {
                circuit.force(how);
                reference.tick(now);
                if how == Force::Open {
                    reference.counts.openings +=
                        u64::from(!matches!(reference.state, CircuitState::Open { .. }));
                    reference.change(CircuitState::Open { until: None });
                } else {
                    reference.openings = 0;
                    reference.change(CircuitState::Closed);
                }
                if how == Force::Reset {
                    reference.counts = CircuitCounts::default();
                }
            }
        }
        reference.tick(Instant::now());
        prop_assert_eq!(circuit.state().0, reference.state);
        prop_assert_eq!(circuit.stats().counts, reference.counts);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A circuit behaves like the reference, step by step.
    #[test]
    fn it_behaves_like_the_reference(config in config(), steps in prop::collection::vec(step(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(run(config, steps))?;
    }
}
