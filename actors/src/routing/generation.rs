//! The models in service, as one generation that is replaced as a whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::router::{Router, VersionName};
use super::shadow::Shadow;
use super::split::{Sender, Split};
use crate::account::trail::Assignment;
use crate::breaker::{CircuitPermit, Circuits, SharedCircuit};
use crate::frame::{Content, ModelId};
use crate::outcome::Failure;
use crate::ports::LoadedModel;

/// The models in service at one time, with their circuits.
#[derive(Debug)]
pub struct Generation {
    router: Router,
    /// In the order of the router.
    versions: Vec<(Arc<dyn LoadedModel>, Arc<SharedCircuit>)>,
}

/// The version that serves a frame.
#[derive(Debug)]
pub struct Routed {
    /// The loaded model, which the frame carries to its features and its run.
    pub model: Arc<dyn LoadedModel>,
    /// Permit of its circuit, or the failure that the frame gets if it is not answered from the cache.
    pub circuit_permit: Result<CircuitPermit, Failure>,
    /// Where a split has chosen it.
    pub split: Option<Assignment>,
    /// The version that a split has chosen, but that does not take the frame.
    pub declined: Option<(Arc<ModelId>, Assignment)>,
    /// The version that gets a copy of the frame.
    pub shadow: Option<Arc<ModelId>>,
}

impl Generation {
    /// A generation of these models. `default` serves frames that name none, the `active` version of a model
    /// those that name no version; `refused` could not be loaded.
    pub fn new(
        default: &str,
        mut models: Vec<Arc<dyn LoadedModel>>,
        active: &[VersionName],
        refused: Vec<VersionName>,
        circuits: &Circuits,
    ) -> Self {
        // Versions are numbers without leading zeros, so the longer one is the larger.
        models.sort_by(|a, b| {
            let key = |model: &dyn LoadedModel| (model.id().name.clone(), model.id().version.len());
            key(&**a).cmp(&key(&**b)).then_with(|| a.id().version.cmp(&b.id().version))
        });
        let names = models
            .iter()
            .map(|model| VersionName { name: model.id().name.clone(), version: model.id().version.clone() });
        let router = Router::new(default, names.collect(), active, refused);
        let versions =
            models.into_iter().map(|model| (Arc::clone(&model), circuits.of(model.id()))).collect();
        Self { router, versions }
    }

    /// A model in service; `None` where it is not, or not with these files.
    pub fn model(&self, id: &ModelId) -> Option<Arc<dyn LoadedModel>> {
        let found = self.versions.iter().find(|(model, _)| **model.id() == *id);
        found.map(|(model, _)| Arc::clone(model))
    }

    /// Whether the model of frames that name none gathers.
    pub fn default_gathers(&self) -> bool {
        self.router.default_place().is_some_and(|place| self.versions[place].0.gather().is_some())
    }

    fn gathers(&self) -> bool {
        self.versions.iter().any(|(model, _)| model.gather().is_some())
    }

    /// The same with splits of traffic.
    pub fn with_splits(self, splits: Vec<Split>) -> Self {
        Self { router: self.router.with_splits(splits), ..self }
    }

    /// The same with versions that get copies.
    pub fn with_shadows(self, shadows: Vec<Shadow>) -> Self {
        Self { router: self.router.with_shadows(shadows), ..self }
    }

    /// The same with other names of versions.
    pub fn with_aliases(self, aliases: Vec<(VersionName, String)>) -> Self {
        Self { router: self.router.with_aliases(aliases), ..self }
    }

    /// Selects the version for a frame of this sender that asks for `name`, `name@version` or `name@alias`,
    /// or for nothing.
    ///
    /// # Errors
    /// There is no such version, or it does not take the frame.
    pub fn route(
        &self,
        asked: Option<&str>,
        sender: Sender<'_>,
        content: &Content,
    ) -> Result<Routed, Failure> {
        let accepts = |place: usize| self.versions[place].0.accepts(content);
        let admit = |place: usize| self.versions[place].1.admit();
        let route = self.router.route(asked, sender, accepts, admit)?;
        let id = |place: usize| Arc::clone(self.versions[place].0.id());
        Ok(Routed {
            model: Arc::clone(&self.versions[route.place].0),
            circuit_permit: route.permit,
            split: route.split,
            declined: route.declined.map(|(place, assignment)| (id(place), assignment)),
            shadow: route.shadow.map(id),
        })
    }
}

/// The current generation. Frames keep the model that they were routed to, so a replaced generation is freed
/// when the last frame that uses it ends.
#[derive(Debug)]
pub struct Models {
    generation: ArcSwap<Generation>,
    gathers: watch::Sender<bool>,
}

impl Models {
    /// Begins with this generation.
    pub fn new(generation: Generation) -> Arc<Self> {
        let gathers = watch::Sender::new(generation.gathers());
        Arc::new(Self { generation: ArcSwap::from_pointee(generation), gathers })
    }

    /// The generation that frames are routed by from now on.
    pub fn current(&self) -> Guard<Arc<Generation>> {
        self.generation.load()
    }

    /// Whether a model in service gathers the frames of several receivers.
    pub fn gathers(&self) -> watch::Receiver<bool> {
        self.gathers.subscribe()
    }

    /// Replaces the generation, at once for every frame that is routed afterwards.
    pub fn replace(&self, generation: Generation) {
        let gathers = generation.gathers();
        self.generation.store(Arc::new(generation));
        self.gathers.send_if_modified(|before| std::mem::replace(before, gathers) != gathers);
    }
}
