//! Shadows: versions that see copies of frames on spare capacity. What they answer is compared with the
//! answers of the active version and not published.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sferic_actors::routing::Shadow;
use sferic_canary::Pair;

use super::in_shadow::InShadow;
use super::request::{ShadowRequest, name};
use super::spare::{Computed, Ended, ShadowParts, ShadowThread};
use super::state::{Canaries, OfModel, State};
use crate::models::requests::read;
use crate::nats::ControlError;

impl Canaries {
    /// Begins, ends or shows the shadow of a model.
    ///
    /// # Errors
    /// A wrong request.
    pub fn shadow(&self, request: &Bytes) -> Result<Value, ControlError> {
        let request: ShadowRequest = read(request)?;
        self.count_shadows();
        let name = name(request.model.as_deref(), self.models.default_name())?;
        let (active, loaded) = self.models.loaded(&name)?;
        let names: Vec<_> = loaded.iter().map(|id| id.version.clone()).collect();
        let mut state = self.state();
        if request.version.is_some() {
            let wanted = request.wanted(active.as_deref().unwrap_or_default(), &names)?;
            self.models.decide(&name);
            self.set_shadow(&name, state.models.entry(name.clone()).or_default(), wanted)?;
        }
        let of_model = state.models.get(&name);
        let shadow = of_model.and_then(|of_model| of_model.shadow.as_ref()).map(InShadow::view);
        let ended = of_model.and_then(|of_model| of_model.shadow_ended.as_deref());
        Ok(json!({"model": name, "shadow": shadow, "ended": ended}))
    }

    /// Begins a shadow, of this version and share, or ends the one there is.
    pub(super) fn set_shadow(
        &self,
        name: &str,
        of_model: &mut OfModel,
        wanted: Option<(String, f64)>,
    ) -> Result<(), ControlError> {
        let (active, loaded) = self.models.loaded(name)?;
        let id = |version: &str| {
            let found = loaded.iter().find(|id| id.version == version).cloned();
            found.ok_or_else(|| ControlError::new(409, format!("{name}@{version} is not loaded")))
        };
        let in_shadow = match wanted {
            None => None,
            Some((version, share)) => {
                let (active, model) = (id(active.as_deref().unwrap_or_default())?, id(&version)?);
                Some(InShadow::new(Shadow::new(name, &version, share), active, model))
            }
        };
        let shadow = in_shadow.as_ref().map(|of| of.shadow.clone());
        let ended = of_model.shadow.take().map(|_| "ended on request".to_owned());
        of_model.shadow_ended = ended.filter(|_| in_shadow.is_none());
        of_model.shadow = in_shadow;
        tracing::info!(model = name, version = shadow.as_ref().map(|of| &of.version), "shadow");
        self.models.copy(name, shadow);
        Ok(())
    }

    /// Counts what the thread of shadows has done.
    pub(super) fn count_shadows(&self) {
        self.queue.cancel_late(self.bound);
        self.queue.ended().into_iter().for_each(|ended| self.count_shadow(ended));
    }

    pub(super) fn count_shadow(&self, ended: Ended) {
        let Ended { frame, computed } = ended;
        let mut state = self.state();
        let State { models, recent } = &mut *state;
        let in_shadow = models.get_mut(&frame.active.name).and_then(|of_model| of_model.shadow.as_mut());
        let of = in_shadow.filter(|is| is.is_between(&frame.active, &frame.model));
        let Some(in_shadow) = of else { return };
        let result = match &computed {
            Some(Computed { answer: Some(_), .. }) => 0,
            Some(_) => 1,
            None => 2,
        };
        in_shadow.counts[result] += 1;
        let Some(Computed { answer, cpu }) = computed else {
            return;
        };
        let answers = Pair { active: frame.answer.as_deref(), shadow: answer.as_deref() };
        in_shadow.paired.frame(answers, Pair { active: frame.compute, shadow: cpu });
        if let Some(answer) = answer {
            recent.add_shadow(&frame.source, &frame.frame_id, answer, Arc::clone(&frame.model));
        }
    }

    /// Starts the thread of shadows.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start_shadows(&self, parts: ShadowParts) -> io::Result<ShadowThread> {
        ShadowThread::start(Arc::clone(&self.queue), parts)
    }
}
