//! What a frame of each model costs a session, as measured run by run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::ModelId;

/// How much a new run counts against those before it.
const WEIGHT: f64 = 0.1;

/// An exponentially weighted mean of each model's run time a frame. A model that was never run costs what its warm-up said.
#[derive(Debug, Default)]
pub struct ServiceTimes {
    seconds: HashMap<Arc<ModelId>, f64>,
}

impl ServiceTimes {
    /// What a frame of `model` costs; `expected` where none has been run.
    pub fn of(&self, model: &ModelId, expected: Duration) -> Duration {
        self.seconds.get(model).map_or(expected, |&seconds| Duration::from_secs_f64(seconds))
    }

    /// A run of `frames` frames took this long.
    pub fn observe(&mut self, model: &Arc<ModelId>, run: Duration, frames: usize) {
        let seconds = run.as_secs_f64() / frames.max(1) as f64;
        match self.seconds.get_mut(model) {
            Some(mean) => *mean += WEIGHT * (seconds - *mean),
            None => drop(self.seconds.insert(Arc::clone(model), seconds)),
        }
    }
}
