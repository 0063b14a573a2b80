//! Shadows: versions that see copies of frames on spare capacity. What they answer is compared with the
//! answers of the active version and not published.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sferic_actors::pipeline::SharedState;
use sferic_actors::ports::{FeatureWorkers, LoadedModel, Runners};
use sferic_actors::routing::Shadow;
use sferic_canary::Pair;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::in_shadow::{Answered, InShadow};
use super::request::ShadowRequest;
use super::spare::{Computed, SpareThread};
use super::state::Canaries;
use crate::models::requests::read;
use crate::nats::ControlError;

/// Interval at which a waiting copy looks for spare capacity, and a running one whether it is still spare.
const LOOK: Duration = Duration::from_millis(2);

/// How long a copy waits for spare capacity.
const PATIENCE: Duration = Duration::from_secs(1);

impl Canaries {
    /// Begins, ends or shows the shadow of a model.
    ///
    /// # Errors
    /// A wrong request.
    pub fn shadow(&self, request: &Bytes) -> Result<Value, ControlError> {
        let request: ShadowRequest = read(request)?;
        let name = request.model.clone().unwrap_or_else(|| self.models.default_name().to_owned());
        let (active, loaded) = self.models.loaded(&name)?;
        let names: Vec<_> = loaded.iter().map(|id| id.version.clone()).collect();
        let id = |version: &str| loaded.iter().find(|id| id.version == version).cloned().unwrap_or_default();
        let mut state = self.state();
        if request.version.is_some() {
            let active = active.unwrap_or_default();
            let wanted = request.wanted(&active, &names)?;
            let of_model = state.models.entry(name.clone()).or_default();
            let ended = of_model.shadow.take().map(|_| "ended on request".to_owned());
            of_model.shadow_ended = ended.filter(|_| wanted.is_none());
            of_model.shadow = wanted.map(|(version, share)| {
                InShadow::new(Shadow::new(&name, &version, share), id(&active), id(&version))
            });
            let shadow = of_model.shadow.as_ref().map(|of| of.shadow.clone());
            tracing::info!(model = name, version = shadow.as_ref().map(|of| &of.version), "shadow");
            self.models.copy(&name, shadow);
        }
        let of_model = state.models.get(&name);
        let shadow = of_model.and_then(|of_model| of_model.shadow.as_ref()).map(InShadow::view);
        let ended = of_model.and_then(|of_model| of_model.shadow_ended.as_deref());
        Ok(json!({"model": name, "shadow": shadow, "ended": ended}))
    }

    /// Counts a copy of a frame in its comparison, where that is still the one it was made for.
    fn with_shadow(&self, of: &Answered, change: impl FnOnce(&mut InShadow)) {
        let mut state = self.state();
        let in_shadow = state.models.get_mut(&of.active.name).and_then(|of_model| of_model.shadow.as_mut());
        if let Some(in_shadow) = in_shadow.filter(|is| is.is_between(&of.active, &of.copy.model)) {
            change(in_shadow);
        }
    }

    fn compared(&self, of: &Answered, computed: Option<Computed>) {
        let cpu = computed.as_ref().map(|computed| computed.cpu).unwrap_or_default();
        let answer = computed.and_then(|computed| computed.result.ok()).map(Arc::new);
        self.with_shadow(of, |in_shadow| {
            let answers = Pair { active: of.answer.as_deref(), shadow: answer.as_deref() };
            in_shadow.paired.frame(answers, Pair { active: of.compute, shadow: cpu });
        });
        if let Some(answer) = answer {
            self.state().recent.add_shadow(&of.source, &of.frame_id, answer, Arc::clone(&of.copy.model));
        }
    }
}

/// Runs shadows.
pub struct Shadowing {
    /// What compares them.
    pub canaries: Arc<Canaries>,
    /// The queues, which say whether capacity is spare.
    pub shared_state: Arc<SharedState>,
    /// Features in buffers of their own.
    pub workers: FeatureWorkers,
    /// A runner of their own.
    pub runners: Runners,
    /// The longest that a run may take.
    pub bound: Duration,
}

impl Shadowing {
    /// Runs copies one by one, until it is dropped.
    pub async fn run(self, mut answered: mpsc::Receiver<Answered>) {
        let mut thread = None;
        while let Some(frame) = answered.recv().await {
            let Some(model) = self.canaries.models.of_id(&frame.copy.model) else { continue };
            if !self.has_spare_capacity_in_time().await {
                self.canaries.with_shadow(&frame, |in_shadow| in_shadow.skipped += 1);
                continue;
            }
            let spare = match thread.take() {
                Some(spare) => spare,
                None => match SpareThread::start(&self.workers, &self.runners) {
                    Ok(spare) => spare,
                    Err(error) => {
                        tracing::warn!(%error, "no thread for shadow versions");
                        continue;
                    }
                },
            };
            match self.compute(&spare, model, &frame).await {
                Ended::Computed(computed) => self.canaries.compared(&frame, Some(computed)),
                Ended::Cancelled => self.canaries.with_shadow(&frame, |in_shadow| in_shadow.skipped += 1),
                Ended::TimedOut => self.canaries.compared(&frame, None),
                Ended::Panicked => {
                    tracing::error!(model = %frame.copy.model, "a shadow version panicked");
                    self.canaries.compared(&frame, None);
                    continue;
                }
            }
            thread = Some(spare);
        }
    }

    async fn compute(&self, spare: &SpareThread, model: Arc<dyn LoadedModel>, frame: &Answered) -> Ended {
        let begun = Instant::now();
        let mut computed = spare.compute(model, frame.copy.content.clone());
        let mut cancelled = None;
        let result = loop {
            tokio::select! {
                result = &mut computed => break result,
                () = tokio::time::sleep(LOOK) => {}
            }
            let is_late = begun.elapsed() > self.bound;
            if cancelled.is_none() && (is_late || self.shared_state.queue.depth() > 0) {
                spare.cancel();
                cancelled = Some(if is_late { Ended::TimedOut } else { Ended::Cancelled });
            }
        };
        if cancelled.is_some() {
            spare.reset();
        }
        match (result, cancelled) {
            (Err(_), _) => Ended::Panicked,
            (Ok(Computed { result: Err(_), .. }), Some(cancelled)) => cancelled,
            (Ok(computed), _) => Ended::Computed(computed),
        }
    }

    /// Waits until a session is free and no frame waits, or for [`PATIENCE`].
    async fn has_spare_capacity_in_time(&self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if self.shared_state.queue.has_free_session() && self.shared_state.frames.depth() == 0 {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }
}

/// How a copy ended.
enum Ended {
    Computed(Computed),
    /// The capacity was needed.
    Cancelled,
    TimedOut,
    Panicked,
}
