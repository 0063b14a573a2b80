//! Keeps the store and this daemon alike.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sferic_settings::Settings;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::document::{Here, Merge, ModelState};
use super::store::{Store, Stored};
use crate::canary::Canaries;
use crate::models::ModelService;
use crate::nats::{Connection, ControlError};

/// Interval at which both are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Time until a state that could not be had is tried again, at first and at most: its bundle may be on its
/// way.
const RETRY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(80)];

/// Time for daemons that run to write what a bucket has lost, before one that starts writes what it begins
/// with.
const FIRST_WRITE: Duration = Duration::from_secs(3);

/// Interval of repeated warnings of the same words.
const WARNING: Duration = Duration::from_secs(60);

/// Keeps what is active, split and shadowed.
pub struct Keeper {
    store: Store,
    models: Arc<ModelService>,
    canaries: Arc<Canaries>,
    progress: Mutex<Progress>,
}

/// How far both are alike.
struct Progress {
    merge: Merge,
    revision: Option<u64>,
    /// When a model's state is tried again, and how long that was put off.
    retries: HashMap<String, (Instant, Duration)>,
    /// Nothing is written before.
    write_from: Instant,
    /// The last warning about each model, and about the store.
    warnings: HashMap<String, (String, Instant)>,
}

impl Keeper {
    /// Reads the store of `models.state`, and does what it says.
    ///
    /// # Errors
    /// A file that cannot be read. A bucket may be there later.
    pub async fn start(
        state: &str,
        settings: &Settings,
        connection: &Connection,
        models: &Arc<ModelService>,
        canaries: &Arc<Canaries>,
    ) -> anyhow::Result<Arc<Self>> {
        let progress = Progress {
            merge: Merge::default(),
            revision: None,
            retries: HashMap::new(),
            write_from: Instant::now(),
            warnings: HashMap::new(),
        };
        let keeper = Arc::new(Self {
            store: Store::new(state, &settings.jetstream, connection),
            models: Arc::clone(models),
            canaries: Arc::clone(canaries),
            progress: progress.into(),
        });
        let mut progress = keeper.progress.lock().await;
        match keeper.read(&mut progress).await {
            Err(error) if !keeper.store.is_shared() => return Err(error).context("models.state"),
            Err(error) => progress.warn("", &format!("{error:#}")),
            Ok(()) => keeper.follow(&mut progress).await,
        }
        if keeper.store.is_shared() && progress.revision == Some(0) {
            progress.write_from += FIRST_WRITE;
        }
        drop(progress);
        Ok(keeper)
    }

    /// Keeps both alike until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
    }

    /// Brings both together once.
    pub async fn look(&self) {
        let mut progress = self.progress.lock().await;
        if let Err(error) = self.bring_together(&mut progress).await {
            progress.warn("", &format!("{error:#}"));
        }
    }

    async fn bring_together(&self, progress: &mut Progress) -> anyhow::Result<()> {
        if self.store.is_shared() || progress.revision.is_none() || self.store.is_lost() {
            self.read(progress).await?;
        }
        self.follow(progress).await;
        let (Some(document), Some(revision)) = (progress.merge.to_write(&self.here()), progress.revision)
        else {
            return Ok(());
        };
        if Instant::now() < progress.write_from {
            return Ok(());
        }
        // Where another has written before, the next look reads that.
        if let Some(revision) = self.store.write(&document, revision).await? {
            progress.merge.written(document);
            progress.revision = Some(revision);
        }
        Ok(())
    }

    async fn read(&self, progress: &mut Progress) -> anyhow::Result<()> {
        let Stored { document, revision } = self.store.read().await?;
        if progress.revision != Some(revision) || self.store.is_lost() {
            progress.revision = Some(revision);
            progress.merge.read(document, &self.here());
        }
        Ok(())
    }

    /// Does what the store says.
    async fn follow(&self, progress: &mut Progress) {
        for (model, state) in progress.merge.wanted(&self.here()) {
            if progress.retries.get(&model).is_some_and(|(retry, _)| Instant::now() < *retry) {
                continue;
            }
            match self.take(&model, &state).await {
                Ok(()) => {
                    progress.retries.remove(&model);
                    progress.merge.done(&model);
                    tracing::info!(model, active = state.roles.active, "as models.state says");
                }
                Err(error) => {
                    progress.warn(&model, error.message());
                    let [first, most] = RETRY;
                    let after = progress.retries.get(&model).map_or(first, |(_, last)| (*last * 2).min(most));
                    progress.retries.insert(model, (Instant::now() + after, after));
                }
            }
        }
    }

    async fn take(&self, model: &str, state: &ModelState) -> Result<(), ControlError> {
        state.check().map_err(|wrong| ControlError::new(400, wrong))?;
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
    fn here(&self) -> BTreeMap<String, Here> {
        let here = self.models.roles().into_iter().map(|(model, roles)| {
            let (split, shadow) = self.canaries.kept(&model);
            let followed = self.models.followed(&model);
            let decisions = self.models.decisions(&model);
            (model, Here { state: ModelState { roles, split, shadow, followed }, decisions })
        });
        here.collect()
    }
}

impl Progress {
    /// Warns about a model, or with an empty name about the store; the same words once a minute.
    fn warn(&mut self, model: &str, error: &str) {
        let last = self.warnings.get(model);
        if last.is_none_or(|(words, at)| words != error || at.elapsed() > WARNING) {
            tracing::warn!(model, error, "models.state is not followed yet");
            self.warnings.insert(model.to_owned(), (error.to_owned(), Instant::now()));
        }
    }
}
