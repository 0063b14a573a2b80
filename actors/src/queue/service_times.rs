//! Session time per frame of each model, as measured run by run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::ModelId;

/// Weight of a new run in the mean.
const WEIGHT: f64 = 0.1;

/// Exponentially weighted mean of the run time per frame of each model. A model without runs has the time
/// measured at warm-up.
#[derive(Debug, Default)]
pub struct ServiceTimes {
    seconds: HashMap<Arc<ModelId>, f64>,
}

impl ServiceTimes {
    /// Session time per frame of `model`; `expected` where it has not been run.
    pub fn of(&self, model: &ModelId, expected: Duration) -> Duration {
        self.seconds.get(model).map_or(expected, |&seconds| Duration::from_secs_f64(seconds))
    }

    /// Adds a run of `frames` frames.
    pub fn observe(&mut self, model: &Arc<ModelId>, run: Duration, frames: usize) {
        let seconds = run.as_secs_f64() / frames.max(1) as f64;
        match self.seconds.get_mut(model) {
            Some(mean) => *mean += WEIGHT * (seconds - *mean),
            None => drop(self.seconds.insert(Arc::clone(model), seconds)),
        }
    }
}
