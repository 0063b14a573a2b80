//! What is known of the versions of every model, and what becomes of their splits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sferic_actors::account::ledger::End;
use sferic_actors::account::trail::Assignment;
use sferic_actors::breaker::{CircuitState, Circuits};
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::{Answer, FailureCode, Outcome};
use sferic_canary::{Limits, Tally, Truth};

use super::in_shadow::{Answered, InShadow};
use super::plan::{Next, Plan};
use super::recent::{Recent, RecentAnswer, Subject};
use super::request::{SplitRequest, name};
use super::spare::{Ended, ShadowQueue};
use crate::models::ModelService;
use crate::models::requests::read;
use crate::nats::ControlError;

/// Interval at which splits go on or end.
const TICK: Duration = Duration::from_millis(100);

/// Judges versions.
pub struct Canaries {
    pub(super) models: Arc<ModelService>,
    circuits: Arc<Circuits>,
    pub(super) limits: Limits,
    state: Mutex<State>,
    pub(super) queue: Arc<ShadowQueue>,
    /// The longest that a run of a shadow may take.
    pub(super) bound: Duration,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) models: BTreeMap<String, OfModel>,
    pub(super) recent: Recent,
}

#[derive(Default)]
pub(super) struct OfModel {
    /// Of each version, as long as it has the same files.
    pub(super) tallies: BTreeMap<String, (Arc<ModelId>, Tally)>,
    pub(super) plan: Option<Plan>,
    /// Why the last split ended.
    pub(super) ended: Option<String>,
    pub(super) shadow: Option<InShadow>,
    /// Why the last shadow ended.
    pub(super) shadow_ended: Option<String>,
    /// Splits that were rolled back, promoted their canary, and ended otherwise.
    pub(super) ends: [u64; 3],
}

/// How a split has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum SplitEnd {
    RolledBack,
    Promoted,
    Ended,
}

impl OfModel {
    /// Ends the split, if there is one.
    pub(super) fn end_split(&mut self, how: SplitEnd, reason: String) {
        if self.plan.take().is_some() {
            self.ends[how as usize] += 1;
            self.ended = Some(reason);
        }
    }

    fn tally(&mut self, id: &Arc<ModelId>) -> Option<&mut Tally> {
        // Without copying the version of one that is there.
        if self.tallies.get(&id.version).is_none_or(|(of, _)| of != id) {
            self.tallies.insert(id.version.clone(), (Arc::clone(id), Tally::default()));
        }
        self.tallies.get_mut(&id.version).map(|(_, tally)| tally)
    }
}

impl Canaries {
    /// None yet. No run of a shadow takes longer than `bound`.
    pub fn new(
        models: Arc<ModelService>,
        circuits: Arc<Circuits>,
        limits: Limits,
        bound: Duration,
    ) -> Arc<Self> {
        let (state, queue) = (Mutex::default(), Arc::default());
        Arc::new(Self { models, circuits, limits, state, queue, bound })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame has ended.
    pub(super) fn ended(&self, outcome: &mut Outcome, end: End) {
        if let Some(answered) = Answered::take(outcome, end) {
            let left = if answered.copy.is_some() { self.queue.push(answered) } else { Some(answered) };
            if let Some(frame) = left {
                self.count_shadow(Ended { frame, computed: None });
            }
        }
        if let Some((model, assignment)) = outcome.trail.declined.take() {
            self.state().count(&model, Some(assignment), Err(()));
        }
        let Some(model) = &outcome.trail.model else { return };
        let latency = match &outcome.result {
            // From the cache it says nothing of the version's speed.
            Ok(prediction) if prediction.cache_hit => Ok(None),
            Ok(_) => Ok(Some(outcome.settled_at.saturating_duration_since(outcome.received_at))),
            Err(failure) if failure.code == FailureCode::InvalidFrame => return,
            Err(_) => Err(()),
        };
        let mut state = self.state();
        state.count(model, outcome.trail.split, latency);
        if let Ok(prediction) = &outcome.result
            && !matches!(*prediction.answer, Answer::Tensors(_))
        {
            let (answer, model) = (Arc::clone(&prediction.answer), Arc::clone(&prediction.model));
            let split = outcome.trail.split;
            let answer = RecentAnswer { answer, model, split, shadow: None, session: None };
            let (info, source) = (&outcome.info, &outcome.envelope.source);
            state.recent.add(source, &info.frame_id, info.session_id.as_deref(), answer);
        }
    }

    /// Scores the answers that a truth is about.
    pub(super) fn score(&self, source: &str, of: &Subject, truth: &Truth) {
        let mut state = self.state();
        let State { models, recent } = &mut *state;
        for RecentAnswer { answer, model, split, shadow, session } in recent.take(source, of) {
            let of_model = models.entry(model.name.clone()).or_default();
            let score = of_model.tally(&model).and_then(|tally| tally.truth(&answer, truth));
            if let (Some(score), Some(plan), Some(assignment)) = (score, &mut of_model.plan, split) {
                plan.scored(&model.version, assignment, score);
            }
            let Some((of_shadow, id)) = shadow else { continue };
            if let Some(tally) = of_model.tally(&id) {
                tally.truth(&of_shadow, truth);
            }
            if let Some(in_shadow) = &mut of_model.shadow {
                in_shadow.scored((&model, &answer), (&id, &of_shadow), truth, session);
            }
        }
    }

    /// Begins, changes, ends or shows a split.
    ///
    /// # Errors
    /// A wrong request.
    pub fn split(&self, request: &Bytes) -> Result<Value, ControlError> {
        let request: SplitRequest = read(request)?;
        let name = name(request.model.as_deref(), self.models.default_name())?;
        let (active, loaded) = self.models.loaded(&name)?;
        let mut state = self.state();
        if request.weights.is_some() {
            let of_model = state.models.entry(name.clone()).or_default();
            let names: Vec<_> = loaded.iter().map(|id| id.version.clone()).collect();
            let wanted = request.wanted(active.as_deref(), &names)?;
            self.models.decide(&name);
            match wanted {
                Some(wanted) => {
                    let plan = Plan::new(&name, wanted, self.limits, loaded);
                    self.models.divide(&name, Some(plan.split.clone()));
                    tracing::info!(model = name, weights = ?plan.split.shares().collect::<Vec<_>>(), "split");
                    (of_model.plan, of_model.ended) = (Some(plan), None);
                }
                None => {
                    self.models.divide(&name, None);
                    of_model.end_split(SplitEnd::Ended, "ended on request".to_owned());
                }
            }
        }
        Ok(view(&name, state.models.get(&name)))
    }

    /// Adds to what is known of a version how it did where the truth is known.
    pub fn with_truth(&self, mut info: Value) -> Value {
        let text = |key: &str| info[key].as_str().unwrap_or_default();
        let state = self.state();
        let tally = state.models.get(text("model")).and_then(|of| of.tallies.get(text("version")));
        let Some((_, tally)) = tally else { return info };
        let Value::Object(shown) = json!(tally.view()) else { return info };
        for key in ["truths", "error", "score", "coverage", "promised_coverage"] {
            info[key] = shown[key].clone();
        }
        info
    }

    /// Ends what is over, and gives what is to become active.
    fn tick(&self) -> Vec<(String, String)> {
        let mut promoted = Vec::new();
        let mut state = self.state();
        for (name, of_model) in &mut state.models {
            self.end_outdated_shadow(name, of_model);
            let Some(plan) = &mut of_model.plan else { continue };
            if plan.is_promoting {
                continue;
            }
            plan.is_paused = self.is_broken(name, &plan.wanted.baseline);
            if let Some((how, reason)) = self.end_of(name, plan) {
                tracing::warn!(model = name, reason, "the split is ended");
                self.models.divide(name, None);
                of_model.end_split(how, reason);
                continue;
            }
            match plan.next() {
                None => {}
                Some(Next::Step) => {
                    plan.step();
                    self.models.divide(name, Some(plan.split.clone()));
                    let weights: Vec<_> = plan.split.shares().collect();
                    tracing::info!(model = name, ?weights, "next step");
                }
                Some(Next::Over) => {
                    self.models.divide(name, None);
                    of_model.end_split(SplitEnd::Ended, "its time is over".to_owned());
                }
                Some(Next::Promote(version)) => {
                    plan.is_promoting = true;
                    promoted.push((name.clone(), version));
                }
            }
        }
        promoted
    }

    /// Why a split is to end now.
    fn end_of(&self, name: &str, plan: &Plan) -> Option<(SplitEnd, String)> {
        let (active, loaded) = self.models.loaded(name).unwrap_or_default();
        if let Some(gone) = plan.outdated(active.as_deref(), &loaded) {
            return Some((SplitEnd::Ended, gone));
        }
        let broken = plan.wanted.canaries.iter().find(|(canary, _)| self.is_broken(name, canary));
        if let Some((canary, _)) = broken {
            let reason = format!("rolled back: the circuit of {name}@{canary} is open");
            return Some((SplitEnd::RolledBack, reason));
        }
        let (canary, worse) = plan.worse.as_ref()?;
        let worse = json!(worse);
        let worse = worse.as_str().unwrap_or_default();
        Some((SplitEnd::RolledBack, format!("rolled back: {name}@{canary} is worse in its {worse}")))
    }

    fn is_broken(&self, name: &str, version: &str) -> bool {
        let all = self.circuits.all();
        let circuit = all.iter().find(|circuit| {
            let model = circuit.model();
            model.name == name && model.version == version
        });
        circuit.is_some_and(|circuit| circuit.state().0 != CircuitState::Closed)
    }

    fn end_outdated_shadow(&self, name: &str, of_model: &mut OfModel) {
        let Some(in_shadow) = &of_model.shadow else { return };
        let loaded = self.models.loaded(name);
        let (active, loaded) = loaded.unwrap_or_default();
        if let Some(reason) = in_shadow.outdated(active.as_deref(), &loaded) {
            tracing::warn!(model = name, reason, "the shadow is ended");
            self.models.copy(name, None);
            (of_model.shadow, of_model.shadow_ended) = (None, Some(reason));
        }
    }

    /// Makes a canary active, which keeps its share until then.
    async fn promote(&self, name: &str, version: &str) {
        let promoted = self.models.promote(name, Some(version)).await;
        let (how, reason) = match promoted {
            Ok(_) => (SplitEnd::Promoted, format!("promoted: {name}@{version} is active")),
            Err(error) => (SplitEnd::Ended, format!("not promoted: {}", error.message())),
        };
        tracing::info!(model = name, reason, "the split is ended");
        let mut state = self.state();
        let of_model = state.models.entry(name.to_owned()).or_default();
        // Another may have been asked for meanwhile.
        if of_model.plan.as_ref().is_some_and(|plan| plan.is_promoting) {
            self.models.divide(name, None);
            of_model.end_split(how, reason);
        }
    }
}

impl State {
    /// Counts a frame that has ended with a version: after which time, or with a failure.
    fn count(
        &mut self,
        model: &Arc<ModelId>,
        split: Option<Assignment>,
        latency: Result<Option<Duration>, ()>,
    ) {
        // Without copying the name of one that is there.
        if !self.models.contains_key(&model.name) {
            self.models.insert(model.name.clone(), OfModel::default());
        }
        let Some(of_model) = self.models.get_mut(&model.name) else { return };
        if let Some(tally) = of_model.tally(model) {
            tally.frame(latency);
        }
        if let (Some(plan), Some(assignment)) = (&mut of_model.plan, split) {
            plan.frame(&model.version, assignment, latency);
        }
    }
}

fn view(name: &str, of_model: Option<&OfModel>) -> Value {
    let plan = of_model.and_then(|of_model| of_model.plan.as_ref()).map(Plan::view);
    let ended = of_model.and_then(|of_model| of_model.ended.as_deref());
    let versions: BTreeMap<_, _> = of_model
        .into_iter()
        .flat_map(|of_model| &of_model.tallies)
        .map(|(version, (_, tally))| (version, tally.view()))
        .collect();
    json!({"model": name, "split": plan, "ended": ended, "versions": versions})
}

/// Lets splits grow and end, until it is dropped.
pub async fn watch(canaries: Arc<Canaries>) {
    loop {
        tokio::time::sleep(TICK).await;
        canaries.count_shadows();
        for (name, version) in canaries.tick() {
            let canaries = Arc::clone(&canaries);
            // It waits for the last frame of what is replaced.
            tokio::spawn(async move { canaries.promote(&name, &version).await });
        }
    }
}
