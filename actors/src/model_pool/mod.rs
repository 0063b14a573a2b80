//! Guards the sessions: what may wait for one, for how long, and in what order.
//!
//! Invariant: sessions pull; nothing here knows which of them is busy.

mod config;
mod core;
mod queue;
mod service_times;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use config::Config;
pub use core::{Load, Next, Refusal, Schedulable, Scheduler};
pub use queue::WorkQueue;
use ractor::{Actor, ActorProcessingErr, ActorRef};
pub use sessions::Sessions;
pub use stats::{NotBegun, PoolStats, WAIT_BUCKETS_MS};
use tokio::time::Instant;

use crate::frame::PreparedFrame;
use crate::outcome::{Failure, FailureCode};

/// Address of the model pool.
pub type ModelPoolRef = ActorRef<ModelPoolMsg>;

/// Lets frames into the queue and out of it when they have waited too long.
#[derive(Debug)]
pub struct ModelPool;

/// What the pool works with.
#[derive(Debug)]
pub struct ModelPoolArguments {
    /// Bounds.
    pub config: Config,
    /// Where frames wait.
    pub queue: Arc<WorkQueue>,
}

/// What the pool remembers.
#[derive(Debug)]
pub struct ModelPoolState {
    config: Config,
    queue: Arc<WorkQueue>,
    /// Whether a look at the overdue is on its way.
    watching: bool,
}

/// What the pool is told.
#[derive(Debug)]
pub enum ModelPoolMsg {
    /// Let this frame wait for a session.
    Enqueue(Box<PreparedFrame>),
    /// Some frame may have waited for the acquire timeout.
    LookForOverdue,
}

impl ModelPoolState {
    fn enqueue(&mut self, frame: PreparedFrame, myself: &ModelPoolRef) {
        if frame.job.is_settled(Instant::now()) {
            return;
        }
        self.queue.push(frame);
        if !self.watching {
            self.watch(Instant::now() + self.config.acquire_timeout, myself);
        }
    }

    fn watch(&mut self, then: Instant, myself: &ModelPoolRef) {
        self.watching = true;
        myself.send_after(then - Instant::now(), || ModelPoolMsg::LookForOverdue);
    }

    fn fail_overdue(&mut self, myself: &ModelPoolRef) {
        self.watching = false;
        let (overdue, next) = self.queue.take_overdue();
        for frame in overdue {
            frame.job.fail(Failure::new(
                FailureCode::ModelUnavailable,
                format!("no session was free within pool.acquire_timeout, {} ms", self.config.acquire_timeout.as_millis()),
            ));
        }
        if let Some(next) = next {
            self.watch(next, myself);
        }
    }
}

impl Actor for ModelPool {
    type Msg = ModelPoolMsg;
    type State = ModelPoolState;
    type Arguments = ModelPoolArguments;

    async fn pre_start(&self, myself: ModelPoolRef, arguments: ModelPoolArguments) -> Result<ModelPoolState, ActorProcessingErr> {
        let ModelPoolArguments { config, queue } = arguments;
        let mut state = ModelPoolState { config, queue, watching: false };
        // Frames may wait from before a restart.
        state.fail_overdue(&myself);
        Ok(state)
    }

    async fn handle(&self, myself: ModelPoolRef, message: ModelPoolMsg, state: &mut ModelPoolState) -> Result<(), ActorProcessingErr> {
        match message {
            ModelPoolMsg::Enqueue(frame) => state.enqueue(*frame, &myself),
            ModelPoolMsg::LookForOverdue => state.fail_overdue(&myself),
        }
        Ok(())
    }
}
