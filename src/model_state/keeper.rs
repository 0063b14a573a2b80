//! Keeps the store and this daemon alike.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::document::{Document, Merge, ModelState};
use super::store::{Store, Stored};
use crate::canary::Canaries;
use crate::models::ModelService;
use crate::nats::{Connection, ControlError};

/// Interval at which both are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Time until a state that could not be had is tried again: its bundle may be on its way.
const RETRY: Duration = Duration::from_secs(5);

/// Interval of repeated warnings.
const WARNING: Duration = Duration::from_secs(60);

/// Keeps what is active, split and shadowed.
pub struct Keeper {
    store: Store,
    models: Arc<ModelService>,
    canaries: Arc<Canaries>,
    merge: Merge,
    revision: Option<u64>,
    /// When a model's state is tried again.
    retries: HashMap<String, Instant>,
    warnings: Throttle,
}

impl Keeper {
    /// Reads the store of `models.state`, and does what it says.
    ///
    /// # Errors
    /// A file that cannot be read. A bucket may be there later.
    pub async fn start(
        state: &str,
        connection: &Connection,
        models: &Arc<ModelService>,
        canaries: &Arc<Canaries>,
    ) -> anyhow::Result<Self> {
        let mut keeper = Self {
            store: Store::new(state, connection),
            models: Arc::clone(models),
            canaries: Arc::clone(canaries),
            merge: Merge::default(),
            revision: None,
            retries: HashMap::new(),
            warnings: Throttle::new(WARNING),
        };
        match keeper.read().await {
            Err(error) if !keeper.store.is_shared() => return Err(error).context("models.state"),
            Err(error) => keeper.warn(&format!("{error:#}")),
            Ok(()) => keeper.follow().await,
        }
        Ok(keeper)
    }

    /// Keeps both alike until it is dropped.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look().await {
                self.warn(&format!("{error:#}"));
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if self.store.is_shared() || self.revision.is_none() {
            self.read().await?;
        }
        self.follow().await;
        let (Some(document), Some(revision)) = (self.merge.to_write(&self.here()), self.revision) else {
            return Ok(());
        };
        // Where another has written before, the next look reads that.
        if let Some(revision) = self.store.write(&document, revision).await? {
            self.merge.written(document);
            self.revision = Some(revision);
        }
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let Stored { document, revision } = self.store.read().await?;
        if self.revision != Some(revision) {
            self.revision = Some(revision);
            self.merge.read(document, &self.here());
        }
        Ok(())
    }

    /// Does what the store says.
    async fn follow(&mut self) {
        for (model, state) in self.merge.wanted(&self.here()) {
            if self.retries.get(&model).is_some_and(|retry| Instant::now() < *retry) {
                continue;
            }
            match self.take(&model, &state).await {
                Ok(()) => {
                    self.retries.remove(&model);
                    self.merge.done(&model);
                    tracing::info!(model, active = state.roles.active, "as models.state says");
                }
                Err(error) => {
                    self.warn(&format!("{model}: {}", error.message()));
                    self.merge.put_off(&model, &self.here());
                    self.retries.insert(model, Instant::now() + RETRY);
                }
            }
        }
    }

    async fn take(&self, model: &str, state: &ModelState) -> Result<(), ControlError> {
        self.models.take_roles(model, &state.roles).await?;
        self.models.set_followed(model, state.followed.clone());
        let split = state.split.iter().flat_map(|split| split.versions());
        for version in split.chain(state.shadow.iter().map(|shadow| shadow.version.as_str())) {
            self.models.load(model, version).await?;
        }
        self.canaries.take_split(model, state.split.as_ref())?;
        self.canaries.take_shadow(model, state.shadow.as_ref())
    }

    /// What this daemon does.
    fn here(&self) -> Document {
        let states = self.models.roles().into_iter().map(|(model, roles)| {
            let (split, shadow) = self.canaries.kept(&model);
            let followed = self.models.followed(&model);
            (model, ModelState { roles, split, shadow, followed })
        });
        states.collect()
    }

    fn warn(&self, error: &str) {
        if let Some(suppressed) = self.warnings.pass(Instant::now()) {
            tracing::warn!(error, suppressed, "models.state is not followed yet");
        }
    }
}
