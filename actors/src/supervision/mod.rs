//! Restarts what dies.
//!
//! Invariant: children are started in the order Publish, Breaker, ModelPool, Preprocess, Cache, Ingest, and references point only
//! towards those started before. So when a child dies it is restarted together with everything started after it, and
//! no stale reference is left.

mod backoff;
mod children;
mod config;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use backoff::Backoff;
pub use backoff::jitter;
use children::Children;
pub use children::Stage;
pub use config::Config;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
pub use task::Task;
use tokio::time::Instant;

use crate::pipeline::Plant;

/// Address of the supervisor.
pub type SupervisorRef = ActorRef<SupervisorMsg>;

/// Starts the children, restarts them, and gives up past the configured intensity.
#[derive(Debug)]
pub struct Supervisor;

/// How often each stage has ended and made for a restart.
#[derive(Debug, Default)]
pub struct Restarts([AtomicU64; Stage::ALL.len()]);

impl Restarts {
    /// Of one stage; those that were restarted along with it have none for that.
    pub fn of(&self, stage: Stage) -> u64 {
        self.0[stage as usize].load(Relaxed)
    }
}

/// What the supervisor works with.
pub struct SupervisorArguments {
    /// How often and how soon it restarts.
    pub config: Config,
    /// What the children work with.
    pub plant: Arc<Plant>,
}

/// What the supervisor remembers.
pub struct SupervisorState {
    plant: Arc<Plant>,
    children: Children,
    backoff: Backoff,
    /// The first stage that is down and waits for its restart.
    down: Option<Stage>,
}

/// What the supervisor is told.
#[derive(Debug)]
pub enum SupervisorMsg {
    /// Start what is down.
    Restart,
    /// Stop this stage and all after it, the last first, for good.
    Stop(Stage, RpcReplyPort<()>),
    /// Which actor runs this stage now; for tests that kill it.
    Find(Stage, RpcReplyPort<Option<ActorCell>>),
}

impl SupervisorState {
    async fn child_ended(&mut self, ended: &ActorCell, reason: &str, myself: &SupervisorRef) -> Result<(), ActorProcessingErr> {
        // One that was stopped on purpose, or along with an earlier one, is not among the children any more.
        let Some(stage) = self.children.stage_of(ended.get_id()) else { return Ok(()) };
        let Some(delay) = self.backoff.next(Instant::now()) else {
            return Err(format!("{stage:?} ended ({reason}); {}", self.backoff.exhausted()).into());
        };
        tracing::error!(?stage, reason, restart_in_ms = delay.as_millis(), "actor ended");
        self.plant.restarts.0[stage as usize].fetch_add(1, Relaxed);
        self.children.stop_from(stage).await;
        self.down = Some(self.down.map_or(stage, |down| down.min(stage)));
        myself.send_after(delay, || SupervisorMsg::Restart);
        Ok(())
    }

    async fn restart(&mut self, myself: &SupervisorRef) -> Result<(), ActorProcessingErr> {
        if let Some(stage) = self.down.take() {
            self.children.start_from(stage, &self.plant, myself.get_cell()).await?;
            tracing::info!(from = ?stage, "actors restarted");
        }
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(&self, myself: SupervisorRef, arguments: SupervisorArguments) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Children::default();
        children.start_from(Stage::FIRST, &arguments.plant, myself.get_cell()).await?;
        Ok(SupervisorState { plant: arguments.plant, children, backoff: Backoff::new(arguments.config), down: None })
    }

    async fn handle(&self, myself: SupervisorRef, message: SupervisorMsg, state: &mut SupervisorState) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Restart => state.restart(&myself).await?,
            SupervisorMsg::Stop(stage, done) => {
                state.down = None;
                state.children.stop_from(stage).await;
                let _ = done.send(());
            }
            SupervisorMsg::Find(stage, reply) => {
                let _ = reply.send(state.children.find(stage));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: SupervisorRef,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(child, error) => state.child_ended(&child, &error.to_string(), &myself).await,
            SupervisionEvent::ActorTerminated(child, _, reason) => {
                state.child_ended(&child, reason.as_deref().unwrap_or("stopped"), &myself).await
            }
            _ => Ok(()),
        }
    }
}
