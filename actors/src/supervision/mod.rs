//! Restarts actors that end.
//!
//! Invariant: children are started in the order Publish, Breaker, ModelPool, Preprocess, Cache, Gather,
//! Ingest, and references point only to children started before. So a child that ends is restarted together
//! with all started after it (`rest_for_one`), and no stale reference is left.

mod backoff;
mod children;
mod config;

use std::sync::Arc;

use backoff::Backoff;
use children::Children;
pub use config::Config;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::time::Instant;

use crate::shared_state::SharedState;
use crate::stages::ActorRole;

/// Address of the supervisor.
pub type SupervisorRef = ActorRef<SupervisorMsg>;

/// Starts the children, restarts them, and gives up past the configured intensity.
#[derive(Debug)]
pub struct Supervisor;

/// Arguments of the supervisor.
pub struct SupervisorArguments {
    /// Limits and delays of restarts.
    pub config: Config,
    /// State that the children are given.
    pub shared_state: Arc<SharedState>,
}

/// State of the supervisor.
pub struct SupervisorState {
    shared_state: Arc<SharedState>,
    children: Children,
    backoff: Backoff,
    /// The first child that has ended and waits for its restart.
    down: Option<ActorRole>,
}

/// Messages of the supervisor.
#[derive(Debug)]
pub enum SupervisorMsg {
    /// Restart the children that are down.
    Restart,
    /// Stop this child and all started after it, in reverse order, for good.
    Stop(ActorRole, RpcReplyPort<()>),
    /// Return the actor that has this role now; for tests that kill it.
    Find(ActorRole, RpcReplyPort<Option<ActorCell>>),
}

impl SupervisorState {
    async fn child_ended(
        &mut self,
        ended: &ActorCell,
        reason: &str,
        myself: &SupervisorRef,
    ) -> Result<(), ActorProcessingErr> {
        // A child that was stopped on purpose, or along with an earlier one, is not listed any more.
        let Some(role) = self.children.role_of(ended.get_id()) else { return Ok(()) };
        let Some(delay) = self.backoff.next(role, Instant::now()) else {
            return Err(format!("{role:?} ended ({reason}); {}", self.backoff.exhausted()).into());
        };
        tracing::error!(?role, reason, restart_in_ms = delay.as_millis(), "actor ended");
        self.shared_state.restarts.count(role);
        self.children.stop_from(role).await;
        self.down = Some(self.down.map_or(role, |down| down.min(role)));
        myself.send_after(delay, || SupervisorMsg::Restart);
        Ok(())
    }

    async fn restart(&mut self, myself: &SupervisorRef) -> Result<(), ActorProcessingErr> {
        if let Some(role) = self.down.take() {
            self.children.start_from(role, &self.shared_state, myself.get_cell()).await?;
            tracing::info!(from = ?role, "actors restarted");
        }
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: SupervisorRef,
        arguments: SupervisorArguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Children::default();
        children.start_from(ActorRole::FIRST, &arguments.shared_state, myself.get_cell()).await?;
        Ok(SupervisorState {
            shared_state: arguments.shared_state,
            children,
            backoff: Backoff::new(arguments.config),
            down: None,
        })
    }

    async fn handle(
        &self,
        myself: SupervisorRef,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Restart => state.restart(&myself).await?,
            SupervisorMsg::Stop(role, done) => {
                state.down = None;
                state.children.stop_from(role).await;
                let _ = done.send(());
            }
            SupervisorMsg::Find(role, reply) => {
                let _ = reply.send(state.children.find(role));
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
            SupervisionEvent::ActorFailed(child, error) => {
                state.child_ended(&child, &error.to_string(), &myself).await
            }
            SupervisionEvent::ActorTerminated(child, _, reason) => {
                state.child_ended(&child, reason.as_deref().unwrap_or("stopped"), &myself).await
            }
            _ => Ok(()),
        }
    }
}
