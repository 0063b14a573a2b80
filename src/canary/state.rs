//! What is known of the versions of every model, and what becomes of their splits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sferic_actors::breaker::{CircuitState, Circuits};
use sferic_actors::outcome::{Answer, FailureCode, Outcome};
use sferic_canary::{Limits, Tally, Truth};

use super::plan::{Next, Plan};
use super::recent::{Recent, RecentAnswer, Subject};
use super::request::SplitRequest;
use crate::models::ModelService;
use crate::models::requests::read;
use crate::nats::ControlError;

/// Interval at which splits go on or end.
const TICK: Duration = Duration::from_millis(100);

/// Judges versions.
pub struct Canaries {
    models: Arc<ModelService>,
    circuits: Arc<Circuits>,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    models: BTreeMap<String, OfModel>,
    recent: Recent,
}

#[derive(Default)]
struct OfModel {
    tallies: BTreeMap<String, Tally>,
    plan: Option<Plan>,
    /// Why the last split ended.
    ended: Option<String>,
}

impl Canaries {
    /// None yet.
    pub fn new(models: Arc<ModelService>, circuits: Arc<Circuits>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { models, circuits, limits, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame has ended.
    pub(super) fn ended(&self, outcome: &Outcome) {
        let Some(model) = &outcome.trail.model else { return };
        let latency = match &outcome.result {
            // From the cache it says nothing of the version's speed.
            Ok(prediction) if prediction.cache_hit => Ok(None),
            Ok(_) => Ok(Some(outcome.settled_at.saturating_duration_since(outcome.received_at))),
            Err(failure) if failure.code == FailureCode::InvalidFrame => return,
            Err(_) => Err(()),
        };
        let mut state = self.state();
        let State { models, recent } = &mut *state;
        let Some(of_model) = get_or_default(models, &model.name) else { return };
        if let Some(tally) = get_or_default(&mut of_model.tallies, &model.version) {
            tally.frame(latency);
        }
        if let (Some(plan), Some(key)) = (&mut of_model.plan, outcome.trail.split) {
            plan.frame(&model.version, key, latency);
        }
        if let Ok(prediction) = &outcome.result
            && !matches!(*prediction.answer, Answer::Tensors(_))
        {
            let (answer, model) = (Arc::clone(&prediction.answer), Arc::clone(&prediction.model));
            let answer = RecentAnswer { answer, model, split: outcome.trail.split };
            let (info, source) = (&outcome.info, &outcome.envelope.source);
            recent.add(source, &info.frame_id, info.session_id.as_deref(), answer);
        }
    }

    /// Scores the answers that a truth is about.
    pub(super) fn score(&self, source: &str, of: &Subject, truth: &Truth) {
        let mut state = self.state();
        let State { models, recent } = &mut *state;
        for RecentAnswer { answer, model, split } in recent.take(source, of) {
            let of_model = models.entry(model.name.clone()).or_default();
            let tally = of_model.tallies.entry(model.version.clone()).or_default();
            if let (Some(score), Some(plan), Some(key)) =
                (tally.truth(&answer, truth), &mut of_model.plan, split)
            {
                plan.scored(&model.version, key, score);
            }
        }
    }

    /// Begins, changes, ends or shows a split.
    ///
    /// # Errors
    /// A wrong request.
    pub fn split(&self, request: &Bytes) -> Result<Value, ControlError> {
        let request: SplitRequest = read(request)?;
        let name = request.model.clone().unwrap_or_else(|| self.models.default_name().to_owned());
        let (active, loaded) = self.models.loaded(&name)?;
        let mut state = self.state();
        if request.weights.is_some() {
            let of_model = state.models.entry(name.clone()).or_default();
            match request.wanted(active.as_deref(), &loaded)? {
                Some(wanted) => {
                    let plan = Plan::new(&name, wanted, self.limits);
                    self.models.divide(&name, Some(plan.split.clone()));
                    tracing::info!(model = name, weights = ?plan.split.shares().collect::<Vec<_>>(), "split");
                    (of_model.plan, of_model.ended) = (Some(plan), None);
                }
                None => {
                    self.models.divide(&name, None);
                    of_model.ended = of_model.plan.take().map(|_| "ended on request".to_owned());
                }
            }
        }
        Ok(view(&name, state.models.get(&name)))
    }

    /// The tallies and the split of a model, as `.split` shows them.
    pub fn view(&self, name: &str) -> Value {
        view(name, self.state().models.get(name))
    }

    /// Ends what is over, and gives what is to become active.
    fn tick(&self) -> Vec<(String, String)> {
        let mut promoted = Vec::new();
        let mut state = self.state();
        for (name, of_model) in &mut state.models {
            let Some(plan) = &mut of_model.plan else { continue };
            if plan.is_promoting {
                continue;
            }
            let broken = plan.wanted.canaries.iter().find(|(canary, _)| self.is_broken(name, canary));
            let reason = if let Some(gone) = self.outdated(name, plan) {
                Some(gone)
            } else if let Some((canary, _)) = broken {
                Some(format!("rolled back: the circuit of {name}@{canary} is open"))
            } else if let Some((canary, worse)) = &plan.worse {
                let worse = json!(worse);
                let worse = worse.as_str().unwrap_or_default();
                Some(format!("rolled back: {name}@{canary} is worse in its {worse}"))
            } else {
                None
            };
            if let Some(reason) = reason {
                tracing::warn!(model = name, reason, "the split is ended");
                self.models.divide(name, None);
                (of_model.plan, of_model.ended) = (None, Some(reason));
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
                    (of_model.plan, of_model.ended) = (None, Some("its time is over".to_owned()));
                }
                Some(Next::Promote(version)) => {
                    plan.is_promoting = true;
                    promoted.push((name.clone(), version));
                }
            }
        }
        promoted
    }

    fn is_broken(&self, name: &str, version: &str) -> bool {
        let all = self.circuits.all();
        let circuit = all.iter().find(|circuit| {
            let model = circuit.model();
            model.name == name && model.version == version
        });
        circuit.is_some_and(|circuit| circuit.state().0 != CircuitState::Closed)
    }

    /// Why the split has no meaning any more: somebody has changed what is loaded or active.
    fn outdated(&self, name: &str, plan: &Plan) -> Option<String> {
        let Ok((active, loaded)) = self.models.loaded(name) else {
            return Some(format!("ended: {name} is not there any more"));
        };
        let baseline = &plan.wanted.baseline;
        if active.as_ref() != Some(baseline) {
            let active = active.unwrap_or_default();
            return Some(format!("ended: {name}@{active} is active now, and was {baseline}"));
        }
        let gone = plan.wanted.canaries.iter().find(|(canary, _)| !loaded.contains(canary));
        gone.map(|(canary, _)| format!("ended: {name}@{canary} is not loaded any more"))
    }

    /// Makes a canary active, which keeps its share until then.
    async fn promote(&self, name: &str, version: &str) {
        let promoted = self.models.promote(name, Some(version)).await;
        let reason = match promoted {
            Ok(_) => format!("promoted: {name}@{version} is active"),
            Err(error) => format!("not promoted: {}", error.message()),
        };
        tracing::info!(model = name, reason, "the split is ended");
        let mut state = self.state();
        let of_model = state.models.entry(name.to_owned()).or_default();
        // Another may have been asked for meanwhile.
        if of_model.plan.take_if(|plan| plan.is_promoting).is_some() {
            self.models.divide(name, None);
            of_model.ended = Some(reason);
        }
    }
}

/// The value of a key, without copying one that is there.
fn get_or_default<'a, T: Default>(map: &'a mut BTreeMap<String, T>, key: &str) -> Option<&'a mut T> {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), T::default());
    }
    map.get_mut(key)
}

fn view(name: &str, of_model: Option<&OfModel>) -> Value {
    let plan = of_model.and_then(|of_model| of_model.plan.as_ref()).map(Plan::view);
    let ended = of_model.and_then(|of_model| of_model.ended.as_deref());
    let versions: BTreeMap<_, _> = of_model
        .into_iter()
        .flat_map(|of_model| &of_model.tallies)
        .map(|(version, tally)| (version, tally.view()))
        .collect();
    json!({"model": name, "split": plan, "ended": ended, "versions": versions})
}

/// Lets splits grow and end, until it is dropped.
pub async fn watch(canaries: Arc<Canaries>) {
    loop {
        tokio::time::sleep(TICK).await;
        for (name, version) in canaries.tick() {
            let canaries = Arc::clone(&canaries);
            // It waits for the last frame of what is replaced.
            tokio::spawn(async move { canaries.promote(&name, &version).await });
        }
    }
}
