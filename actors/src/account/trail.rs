//! The stages a frame has passed, with times.
//!
//! Kept beside the reply slot and not in the job, so that an expired frame also reports how far it came.

use std::sync::Arc;
use std::time::Duration;

use sferic_samples::Datatype;
use tokio::time::Instant;

use super::copies::FrameCopy;
use crate::frame::ModelId;
use crate::outcome::SessionSummary;

/// Progress of a frame. What it has not reached is `None`.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Size of the message, bytes.
    pub payload_bytes: usize,
    /// Datatype of its samples.
    pub datatype: Option<Datatype>,
    /// Samples a channel.
    pub samples: usize,
    /// The model it is for.
    pub model: Option<Arc<ModelId>>,
    /// Where a split of traffic has chosen that.
    pub split: Option<Assignment>,
    /// The version that a split has chosen, but that does not take the frame.
    pub declined: Option<(Arc<ModelId>, Assignment)>,
    /// What is kept for a version that sees copies; the version alone where there was no room.
    pub copy: Option<Result<Arc<FrameCopy>, Arc<ModelId>>>,
    /// The session it was answered with.
    pub session: Option<Arc<SessionSummary>>,
    /// Ingest began to decode it.
    pub decode_begun: Option<Instant>,
    /// It was decoded and routed to a model.
    pub decoded: Option<Instant>,
    /// The cache lookup ended.
    pub looked_up: Option<Instant>,
    /// From then on it waited for a session: before its features where the session computes them, after
    /// them where a worker does.
    pub queued: Option<Instant>,
    /// A worker or the session began its features.
    pub features_begun: Option<Instant>,
    /// Its features were ready.
    pub features_ended: Option<Instant>,
    /// Its latest run.
    pub run: Option<Run>,
    /// Earlier runs: those of a batch that failed and was halved.
    pub earlier_runs: Vec<Run>,
}

/// What a split of traffic has decided of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The number of the split.
    pub split: u64,
    /// The hash of what stays with the version: the session, the source or the frame.
    pub key: u64,
}

/// A session's run of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the run, the same for all its frames.
    pub id: u64,
    /// The session.
    pub session: usize,
    /// Frames in it.
    pub batch_size: usize,
    /// When it began.
    pub begun: Instant,
    /// When it ended; `None` for a frame that was answered before.
    pub ended: Option<Instant>,
}

/// Time spent per stage; `None` for a stage that the frame did not complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Decoding the frame and selecting its model.
    pub decode: Option<Duration>,
    /// Waiting for a preprocess worker.
    pub preprocess_wait: Option<Duration>,
    /// Computing the features.
    pub features: Option<Duration>,
    /// Waiting for a session.
    pub queue: Option<Duration>,
    /// In the session's run.
    pub inference: Option<Duration>,
}

impl Trail {
    /// Enters a run.
    pub fn runs_in(&mut self, run: Run) {
        self.earlier_runs.extend(self.run.replace(run));
    }

    /// Records the end of the current run.
    pub fn ran(&mut self, ended: Instant) {
        if let Some(run) = &mut self.run {
            run.ended = Some(ended);
        }
    }

    /// Its runs in order.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.earlier_runs.iter().chain(&self.run)
    }

    /// When a worker began its features; `None` where a session computes them.
    fn worker_begun(&self) -> Option<Instant> {
        self.features_begun.filter(|begun| self.queued.is_none_or(|queued| queued > *begun))
    }

    /// When a session took it.
    pub fn acquired(&self) -> Option<Instant> {
        match self.worker_begun() {
            Some(_) => self.runs().next().map(|run| run.begun),
            None => self.features_begun,
        }
    }

    /// The time spent per stage.
    pub fn stages(&self) -> Stages {
        let between =
            |(from, to): (Option<Instant>, Option<Instant>)| Some(to?.saturating_duration_since(from?));
        let first_run = self.runs().next().map(|run| run.begun);
        Stages {
            decode: between((self.decode_begun, self.decoded)),
            preprocess_wait: between((self.looked_up, self.worker_begun())),
            features: between((self.features_begun, self.features_ended)),
            queue: between((self.queued, self.acquired())),
            inference: between((first_run, self.run.and_then(|run| run.ended))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_known_as_far_as_the_frame_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut trail = Trail {
            decode_begun: Some(at(0)),
            decoded: Some(at(1)),
            looked_up: Some(at(2)),
            ..Trail::default()
        };
        assert_eq!(trail.stages(), Stages { decode: Some(Duration::from_millis(1)), ..Stages::default() });
        (trail.features_begun, trail.features_ended, trail.queued) = (Some(at(4)), Some(at(8)), Some(at(8)));
        let run = |id, begun| Run { id, session: 0, batch_size: 1, begun: at(begun), ended: None };
        trail.runs_in(run(1, 16));
        trail.ran(at(20));
        trail.runs_in(run(2, 21));
        assert_eq!(trail.stages().inference, None, "still in its second run");
        trail.ran(at(32));
        let ms = |ms| Some(Duration::from_millis(ms));
        let all = Stages {
            decode: ms(1),
            preprocess_wait: ms(2),
            features: ms(4),
            queue: ms(8),
            inference: ms(16),
        };
        assert_eq!(trail.stages(), all, "the runs of a halved batch count together");
        assert_eq!(trail.earlier_runs.len(), 1);

        // A session that computes the features: the wait for it is before them.
        trail.queued = Some(at(2));
        let of_session = Stages { preprocess_wait: None, queue: ms(2), ..all };
        assert_eq!(trail.stages(), of_session);
    }
}
