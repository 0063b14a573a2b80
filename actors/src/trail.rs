//! Where a frame has been, and when.
//!
//! It lies beside the frame's reply and not in its job, so that also a frame whose deadline passes tells where it was then.

use std::sync::Arc;
use std::time::Duration;

use sferic_features::Datatype;
use tokio::time::Instant;

use crate::frame::ModelId;

/// A frame's way, as far as it has come; what it did not pass is `None`.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Size of the message, bytes.
    pub payload_bytes: usize,
    /// How its samples were written.
    pub datatype: Option<Datatype>,
    /// Samples a channel.
    pub samples: usize,
    /// The model it is for.
    pub model: Option<Arc<ModelId>>,
    /// Ingest began to read it.
    pub decode_begun: Option<Instant>,
    /// It was read, and its samples hashed.
    pub decoded: Option<Instant>,
    /// The cache had looked for its answer.
    pub looked_up: Option<Instant>,
    /// A worker began with its features.
    pub features_begun: Option<Instant>,
    /// They were ready; from then on it waited for a session.
    pub features_ended: Option<Instant>,
    /// The run it was in last.
    pub run: Option<Run>,
    /// Those before: the runs of a batch that failed and was halved.
    pub earlier_runs: Vec<Run>,
}

/// A session's run of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// One number a run, the same for all its frames.
    pub id: u64,
    /// The session.
    pub session: usize,
    /// Frames in it.
    pub batch_size: usize,
    /// When it began.
    pub begun: Instant,
    /// When it was over; `None` for a frame that was answered before.
    pub ended: Option<Instant>,
}

/// Time spent per stage; a stage the frame did not pass to its end is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Reading the frame's encoding and hashing its samples.
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
    /// The frame is in this run from now on.
    pub fn runs_in(&mut self, run: Run) {
        self.earlier_runs.extend(self.run.replace(run));
    }

    /// The run it is in is over.
    pub fn ran(&mut self, ended: Instant) {
        if let Some(run) = &mut self.run {
            run.ended = Some(ended);
        }
    }

    /// The runs it was in, the first one first.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.earlier_runs.iter().chain(&self.run)
    }

    /// Where the time went.
    pub fn stages(&self) -> Stages {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let first_run = self.earlier_runs.first().or(self.run.as_ref());
        Stages {
            decode: between(self.decode_begun, self.decoded),
            preprocess_wait: between(self.looked_up, self.features_begun),
            features: between(self.features_begun, self.features_ended),
            queue: between(self.features_ended, first_run.map(|run| run.begun)),
            inference: between(first_run.map(|run| run.begun), self.run.and_then(|run| run.ended)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_as_far_as_the_frame_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut trail = Trail { decode_begun: Some(at(0)), decoded: Some(at(1)), looked_up: Some(at(2)), ..Trail::default() };
        assert_eq!(trail.stages(), Stages { decode: Some(Duration::from_millis(1)), ..Stages::default() });
        (trail.features_begun, trail.features_ended) = (Some(at(4)), Some(at(8)));
        let run = |id, begun| Run { id, session: 0, batch_size: 1, begun: at(begun), ended: None };
        trail.runs_in(run(1, 16));
        trail.ran(at(20));
        trail.runs_in(run(2, 21));
        assert_eq!(trail.stages().inference, None, "still in its second run");
        trail.ran(at(32));
        let ms = |ms| Some(Duration::from_millis(ms));
        let all = Stages { decode: ms(1), preprocess_wait: ms(2), features: ms(4), queue: ms(8), inference: ms(16) };
        assert_eq!(trail.stages(), all, "the runs of a halved batch count together");
        assert_eq!(trail.earlier_runs.len(), 1);
    }
}
