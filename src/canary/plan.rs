//! A split in force: which step it is in, and what its versions have shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sferic_actors::account::trail::Assignment;
use sferic_actors::frame::ModelId;
use sferic_actors::routing::Split;
use sferic_canary::{Arm, Evidence, Limits, Trial, Worse};
use tokio::time::Instant;

use super::request::Wanted;

/// A split in force.
#[derive(Debug)]
pub struct Plan {
    pub wanted: Wanted,
    pub split: Split,
    /// What is compared, as it was loaded when the split began.
    pub versions: Vec<Arc<ModelId>>,
    /// One for each canary.
    trials: BTreeMap<String, Trial>,
    /// Frames of each canary since the step began.
    frames: BTreeMap<String, u64>,
    step: usize,
    step_began: Instant,
    /// The same by the wall clock, milliseconds since 1970.
    step_began_ms: u64,
    /// The circuit of the baseline is not closed: its failures are not those of its model.
    pub is_paused: bool,
    /// Its canary is about to become active.
    pub is_promoting: bool,
    /// A canary that is worse, and in what.
    pub worse: Option<(String, Worse)>,
}

/// A split as it is kept over a restart. What was seen of its versions is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptSplit {
    #[serde(flatten)]
    wanted: Wanted,
    /// The place of its step.
    step: usize,
    /// When that began, milliseconds since 1970.
    step_began_ms: u64,
}

impl KeptSplit {
    /// Every version that it divides or compares.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        let canaries = self.wanted.canaries.iter().map(|(canary, _)| canary);
        canaries.chain([&self.wanted.baseline]).map(String::as_str)
    }

    /// Checks what somebody may have written by hand.
    ///
    /// # Errors
    /// What is wrong, with what is allowed.
    pub fn check(&self) -> Result<(), String> {
        self.wanted.check()?;
        match self.step < self.wanted.steps.len().max(1) {
            true => Ok(()),
            false => Err(format!("`step` is {}, of {} steps", self.step, self.wanted.steps.len())),
        }
    }
}

/// What is next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// The canary gets a larger share.
    Step,
    /// The canary becomes active.
    Promote(String),
    /// The time of the split is over.
    Over,
}

impl Plan {
    /// Begins with the first step; `loaded` are the versions of the model.
    pub fn new(model: &str, wanted: Wanted, limits: Limits, loaded: Vec<Arc<ModelId>>) -> Self {
        let of = |(canary, _): &(String, f64)| (canary.clone(), Trial::new(limits));
        let is_compared = |id: &Arc<ModelId>| {
            id.version == wanted.baseline || wanted.canaries.iter().any(|(canary, _)| *canary == id.version)
        };
        Self {
            split: split(model, &wanted, 0),
            versions: loaded.into_iter().filter(is_compared).collect(),
            trials: wanted.canaries.iter().map(of).collect(),
            frames: BTreeMap::new(),
            step: 0,
            step_began: Instant::now(),
            step_began_ms: now_ms(),
            is_paused: false,
            is_promoting: false,
            worse: None,
            wanted,
        }
    }

    /// Goes on with one that was kept.
    pub fn resume(model: &str, kept: &KeptSplit, limits: Limits, loaded: Vec<Arc<ModelId>>) -> Self {
        let KeptSplit { wanted, step, step_began_ms } = kept.clone();
        let mut plan = Self::new(model, wanted, limits, loaded);
        plan.split = split(model, &plan.wanted, step);
        let since = Duration::from_millis(now_ms().saturating_sub(step_began_ms));
        let step_began = Instant::now().checked_sub(since).unwrap_or(plan.step_began);
        (plan.step, plan.step_began, plan.step_began_ms) = (step, step_began, step_began_ms);
        plan
    }

    /// Goes to the step that another daemon has gone to; `false` where it is another split.
    pub fn follow(&mut self, kept: &KeptSplit) -> bool {
        if self.wanted != kept.wanted {
            return false;
        }
        self.go_to(kept.step);
        self.step_began_ms = kept.step_began_ms;
        true
    }

    /// What is kept of it.
    pub fn kept(&self) -> KeptSplit {
        let (wanted, step, step_began_ms) = (self.wanted.clone(), self.step, self.step_began_ms);
        KeptSplit { wanted, step, step_began_ms }
    }

    /// A frame that a split has divided has ended: with which version, of whom, after which time or with a
    /// failure. One of an earlier split or step says nothing.
    pub fn frame(&mut self, version: &str, of: Assignment, latency: Result<Option<Duration>, ()>) {
        let Assignment { split, key } = of;
        if split != self.split.number || self.is_paused {
            return;
        }
        if version != self.wanted.baseline {
            match self.frames.get_mut(version) {
                Some(frames) => *frames += 1,
                None => drop(self.frames.insert(version.to_owned(), 1)),
            }
        }
        let (split, baseline) = (&self.split, &self.wanted.baseline);
        let rest = split.share(baseline);
        for (canary, trial, arm) in arms(&mut self.trials, baseline, version) {
            let of = split.share(canary);
            let share = of / (of + rest);
            let worse = match latency {
                Ok(Some(latency)) => trial.frame(arm, key, share, Some(latency)),
                Ok(None) => None,
                Err(()) => trial.frame(arm, key, share, None),
            };
            self.worse = self.worse.take().or_else(|| Some((canary.to_owned(), worse?)));
        }
    }

    /// The truth of a frame has come: the score of its answer.
    pub fn scored(&mut self, version: &str, of: Assignment, score: f64) {
        // Also of an earlier step: scores are compared whatever the shares are.
        let key = of.key;
        for (canary, trial, arm) in arms(&mut self.trials, &self.wanted.baseline, version) {
            let worse = trial.scored(arm, key, score);
            self.worse = self.worse.take().or_else(|| Some((canary.to_owned(), worse?)));
        }
    }

    /// Why it has no meaning any more: somebody has changed what is `loaded` or `active`.
    pub fn outdated(&self, active: Option<&str>, loaded: &[Arc<ModelId>]) -> Option<String> {
        let (name, baseline) = (&self.split.model, &self.wanted.baseline);
        if active != Some(baseline) {
            let active = active.unwrap_or_default();
            return Some(format!("ended: {name}@{active} is active now, and was {baseline}"));
        }
        if let Some(id) = self.versions.iter().find(|id| !loaded.contains(id)) {
            return Some(format!("ended: {id} is not loaded any more, or with other files"));
        }
        let is_there = |canary: &&(String, f64)| self.versions.iter().any(|id| id.version == canary.0);
        let gone = self.wanted.canaries.iter().find(|canary| !is_there(canary))?;
        Some(format!("ended: {name}@{} is not loaded", gone.0))
    }

    /// The evidence against each canary.
    pub fn evidence(&self) -> impl Iterator<Item = (&str, Evidence)> {
        self.trials.iter().map(|(canary, trial)| (canary.as_str(), trial.evidence()))
    }

    /// What is due now.
    pub fn next(&self) -> Option<Next> {
        let is_over = self.wanted.lasts.is_some_and(|lasts| self.step_began.elapsed() >= lasts);
        if !is_over || self.is_promoting || self.is_paused {
            return None;
        }
        if self.wanted.steps.is_empty() {
            return Some(Next::Over);
        }
        let canary = &self.wanted.canaries.first()?.0;
        if self.frames.get(canary).copied().unwrap_or_default() < self.wanted.min_frames {
            return None;
        }
        Some(match self.wanted.steps.get(self.step + 1) {
            // Nobody would be left to compare it with.
            Some(step) if *step >= 100.0 => Next::Promote(canary.clone()),
            Some(_) => Next::Step,
            None => Next::Over,
        })
    }

    /// Goes on to the next step.
    pub fn step(&mut self) {
        self.go_to(self.step + 1);
    }

    fn go_to(&mut self, step: usize) {
        self.step = step;
        self.split = split(&self.split.model, &self.wanted, self.step);
        self.frames.clear();
        (self.step_began, self.step_began_ms) = (Instant::now(), now_ms());
    }

    /// For people and programs.
    pub fn view(&self) -> Value {
        let comparison = |(canary, trial): (&String, &Trial)| {
            json!({
                "baseline": self.wanted.baseline,
                "canary": canary,
                "evidence": trial.evidence(),
                "worse": trial.worse(),
                "frames_in_step": self.frames.get(canary).copied().unwrap_or_default(),
            })
        };
        json!({
            "key": self.wanted.key,
            "weights": self.split.shares().collect::<BTreeMap<_, _>>(),
            "steps": self.wanted.steps,
            "step": self.wanted.steps.get(self.step),
            "for_s": self.wanted.lasts.map(|lasts| lasts.as_secs_f64()),
            "min_frames": self.wanted.min_frames,
            "step_s": self.step_began.elapsed().as_secs_f64(),
            "comparisons": self.trials.iter().map(comparison).collect::<Vec<_>>(),
            "method": "test martingales: a canary that is not worse reaches `needed` with the probability \
                       models.canary.false_alarms at most, however often it is looked at",
        })
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The trials that a frame of `version` is part of, and as which of the two.
fn arms<'a>(
    trials: &'a mut BTreeMap<String, Trial>,
    baseline: &'a str,
    version: &'a str,
) -> impl Iterator<Item = (&'a str, &'a mut Trial, Arm)> {
    trials.iter_mut().filter_map(move |(canary, trial)| {
        let arm = match version {
            _ if version == canary => Arm::Canary,
            _ if version == baseline => Arm::Active,
            _ => return None,
        };
        Some((canary.as_str(), trial, arm))
    })
}

/// In the order of their numbers, whichever is active here: daemons may differ in that, and a session has one
/// version at all of them. Of two versions, who had the one that grows keeps it.
fn split(model: &str, wanted: &Wanted, step: usize) -> Split {
    let mut weights = wanted.canaries.clone();
    let mut rest = wanted.rest;
    if let (Some(percent), [(_, weight)]) = (wanted.steps.get(step), weights.as_mut_slice()) {
        (*weight, rest) = (*percent, 100.0 - percent);
    }
    if rest > 0.0 {
        weights.push((wanted.baseline.clone(), rest));
    }
    weights.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    Split::new(model, wanted.key, &weights)
}
