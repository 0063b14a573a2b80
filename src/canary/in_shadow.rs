//! A version in the shadow of the active one, and how their answers differ.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sferic_actors::account::copies::FrameCopy;
use sferic_actors::account::ledger::End;
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::{Answer, FailureCode, Outcome};
use sferic_actors::routing::Shadow;
use sferic_canary::{Pair, Paired, Truth};

/// Sessions that are remembered; of further ones no frame is evidence.
const MAX_SESSIONS: usize = 1 << 20;

/// A shadow as it is kept over a restart. What was seen of it is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptShadow {
    /// The version.
    pub version: String,
    /// Share of the frames that are copied, 0 to 1.
    pub share: f64,
}

/// A version in the shadow of the active one.
#[derive(Debug)]
pub(super) struct InShadow {
    pub(super) shadow: Shadow,
    /// The active version, and this one, as they were loaded when it began.
    active: Arc<ModelId>,
    model: Arc<ModelId>,
    pub(super) paired: Paired,
    /// Copies that it has answered, failed on, and for which no capacity was spare.
    pub(super) counts: [u64; 3],
    /// Sessions whose truth was evidence already.
    sessions: HashSet<u64>,
}

/// A frame that the active version has answered, or failed on.
pub struct Answered {
    /// Until it is computed; `None` where there was no room.
    pub(super) copy: Option<Arc<FrameCopy>>,
    /// The version that is to see it.
    pub(super) model: Arc<ModelId>,
    pub(super) active: Arc<ModelId>,
    pub(super) answer: Option<Arc<Answer>>,
    pub(super) compute: Duration,
    pub(super) source: String,
    pub(super) frame_id: String,
}

impl Answered {
    /// Takes the copy of a frame, where it has one and its outcome can be compared: a failure of the model or
    /// an answer that it has computed.
    pub(super) fn take(outcome: &mut Outcome, end: End) -> Option<Self> {
        let copy = outcome.trail.copy.take()?;
        let model = copy.as_ref().map_or_else(Arc::clone, |copy| Arc::clone(&copy.model));
        let answer = match (&outcome.result, end) {
            (Ok(prediction), End::Prediction) if !prediction.cache_hit => Some(&prediction.answer),
            (Err(failure), End::Failure) if failure.code == FailureCode::InferenceFailed => None,
            _ => return None,
        };
        let stages = outcome.trail.stages();
        let compute = stages.features.unwrap_or_default() + stages.inference.unwrap_or_default();
        Some(Self {
            model,
            copy: copy.ok(),
            active: Arc::clone(outcome.trail.model.as_ref()?),
            answer: answer.map(Arc::clone),
            compute,
            source: outcome.envelope.source.to_string(),
            frame_id: outcome.info.frame_id.clone(),
        })
    }
}

impl InShadow {
    /// Begins to compare `model` with `active`.
    pub(super) fn new(shadow: Shadow, active: Arc<ModelId>, model: Arc<ModelId>) -> Self {
        Self { shadow, active, model, paired: Paired::default(), counts: [0; 3], sessions: HashSet::new() }
    }

    /// Why it has no meaning any more: what is loaded or active has changed.
    pub(super) fn outdated(&self, active: Option<&str>, loaded: &[Arc<ModelId>]) -> Option<String> {
        let (model, was) = (&self.model, &self.active);
        if active != Some(&was.version) {
            let (name, active) = (&was.name, active.unwrap_or_default());
            return Some(format!("ended: {name}@{active} is active now, and was {}", was.version));
        }
        let gone = [was, model].into_iter().find(|id| !loaded.contains(id))?;
        Some(format!("ended: {gone} is not loaded any more, or with other files"))
    }

    /// What is kept of it.
    pub(super) fn kept(&self) -> KeptShadow {
        KeptShadow { version: self.shadow.version.clone(), share: self.shadow.share() }
    }

    pub(super) fn is_between(&self, active: &ModelId, model: &ModelId) -> bool {
        *self.active == *active && *self.model == *model
    }

    /// The truth of a frame that both have answered.
    pub(super) fn scored(
        &mut self,
        active: (&ModelId, &Answer),
        shadow: (&ModelId, &Answer),
        truth: &Truth,
        session: Option<u64>,
    ) {
        if !self.is_between(active.0, shadow.0) {
            return;
        }
        let is_first =
            session.is_none_or(|session| self.sessions.len() < MAX_SESSIONS && self.sessions.insert(session));
        self.paired.truth(Pair { active: active.1, shadow: shadow.1 }, truth, is_first);
    }

    /// For people and programs.
    pub(super) fn view(&self) -> Value {
        json!({
            "version": self.shadow.version,
            "active": self.active.version,
            "share": self.shadow.share(),
            "skipped": self.counts[2],
            "paired": self.paired.view(),
            "method": "test martingales of the differences of the scores of the same frames",
        })
    }
}
