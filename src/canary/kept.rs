//! What is kept of splits and shadows over a restart, and begun again after it.

use super::in_shadow::{InShadow, KeptShadow};
use super::plan::{KeptSplit, Plan};
use super::state::{Canaries, SplitEnd};
use crate::nats::ControlError;

impl Canaries {
    /// The split and the shadow of a model, as far as they have a meaning yet.
    pub fn kept(&self, name: &str) -> (Option<KeptSplit>, Option<KeptShadow>) {
        let state = self.state();
        let Some(of_model) = state.models.get(name) else { return (None, None) };
        let (active, loaded) = self.models.loaded(name).unwrap_or_default();
        let is_meant =
            |plan: &&Plan| !plan.is_promoting && plan.outdated(active.as_deref(), &loaded).is_none();
        let in_shadow = of_model.shadow.as_ref();
        let in_shadow = in_shadow.filter(|shadow| shadow.outdated(active.as_deref(), &loaded).is_none());
        (of_model.plan.as_ref().filter(is_meant).map(Plan::kept), in_shadow.map(InShadow::kept))
    }

    /// Goes on with a split that was kept, or ends the one in force.
    ///
    /// # Errors
    /// A version is not loaded, or another one is active.
    pub fn take_split(&self, name: &str, kept: Option<&KeptSplit>) -> Result<(), ControlError> {
        let (active, loaded) = self.models.loaded(name)?;
        let mut state = self.state();
        let of_model = state.models.entry(name.to_owned()).or_default();
        if of_model.plan.as_ref().map(Plan::kept).as_ref() == kept {
            return Ok(());
        }
        if let Some((plan, kept)) = of_model.plan.as_mut().zip(kept)
            && plan.follow(kept)
        {
            self.models.divide(name, Some(plan.split.clone()));
            return Ok(());
        }
        let plan = kept.map(|kept| Plan::resume(name, kept, self.limits, loaded.clone()));
        if let Some(reason) = plan.as_ref().and_then(|plan| plan.outdated(active.as_deref(), &loaded)) {
            return Err(ControlError::new(409, reason));
        }
        self.models.divide(name, plan.as_ref().map(|plan| plan.split.clone()));
        if plan.is_none() {
            of_model.end_split(SplitEnd::Ended, "ended by another daemon".to_owned());
        }
        of_model.plan = plan;
        Ok(())
    }

    /// Begins a shadow that was kept, or ends the one there is.
    ///
    /// # Errors
    /// The version is not loaded, or active.
    pub fn take_shadow(&self, name: &str, kept: Option<&KeptShadow>) -> Result<(), ControlError> {
        let mut state = self.state();
        let of_model = state.models.entry(name.to_owned()).or_default();
        if of_model.shadow.as_ref().map(InShadow::kept).as_ref() == kept {
            return Ok(());
        }
        self.set_shadow(name, of_model, kept.map(|kept| (kept.version.clone(), kept.share)))
    }
}
