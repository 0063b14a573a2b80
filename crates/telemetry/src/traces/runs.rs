//! The run of a batch is a span of its own, linked to its frames. It is assembled as their outcomes are
//! published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanKind, TraceFlags, TraceState};
use sferic_actors::account::trail::Run;
use sferic_actors::frame::ModelId;
use tokio::time::Instant;

use super::attributes as names;
use super::context::{new_span_id, new_trace_id};
use crate::otlp::spans::{Span, Spans};

/// Maximum number of incomplete runs, and the maximum time after the last frame of one. A frame answered
/// while its batch was being formed counts in the batch and does not know of it, so some runs stay
/// incomplete.
const MOST: usize = 1024;
const LONGEST: Duration = Duration::from_secs(10);

/// The incomplete runs, by number.
#[derive(Debug, Default)]
pub struct Runs(BTreeMap<u64, Gathering>);

/// A run in assembly.
#[derive(Debug)]
pub struct Gathering {
    context: SpanContext,
    model: Option<Arc<ModelId>>,
    run: Run,
    time: [u64; 2],
    left: usize,
    links: Vec<SpanContext>,
    failed: bool,
    joined: Instant,
}

/// A published frame that was in a run.
#[derive(Debug)]
pub struct FrameInRun<'a> {
    /// The run.
    pub run: &'a Run,
    /// The model.
    pub model: Option<&'a Arc<ModelId>>,
    /// Start and end as far as the frame knows, nanoseconds since 1970.
    pub time: [u64; 2],
    /// Whether it failed.
    pub failed: bool,
    /// The inference span of the frame, where it is kept.
    pub inference: Option<SpanContext>,
    /// The current time.
    pub now: Instant,
}

impl Runs {
    /// Adds a frame. Returns the span of the run, and the completed runs of which the spans of some frame are
    /// kept.
    pub fn join(&mut self, frame: &FrameInRun<'_>) -> (SpanContext, Vec<Gathering>) {
        let new = || Gathering {
            context: SpanContext::new(
                new_trace_id(),
                new_span_id(),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            model: frame.model.cloned(),
            run: *frame.run,
            time: frame.time,
            left: frame.run.batch_size,
            links: Vec::with_capacity(if frame.inference.is_some() { frame.run.batch_size } else { 0 }),
            failed: false,
            joined: frame.now,
        };
        let mut over = Vec::new();
        let mut gathering = self.0.remove(&frame.run.id).unwrap_or_else(new);
        gathering.time[1] = gathering.time[1].max(frame.time[1]);
        gathering.left = gathering.left.saturating_sub(1);
        gathering.links.extend(frame.inference.clone());
        gathering.failed |= frame.failed;
        gathering.joined = frame.now;
        let context = gathering.context.clone();
        if gathering.left == 0 {
            over.push(gathering);
        } else {
            self.0.insert(frame.run.id, gathering);
        }
        while let Some((_, oldest)) = self.0.first_key_value()
            && (oldest.joined + LONGEST <= frame.now || self.0.len() > MOST)
        {
            over.extend(self.0.pop_first().map(|(_, gathering)| gathering));
        }
        over.retain(Gathering::is_kept);
        (context, over)
    }

    /// Removes all incomplete runs.
    pub fn drain(&mut self) -> impl Iterator<Item = Gathering> + use<> {
        std::mem::take(&mut self.0).into_values().filter(Gathering::is_kept)
    }
}

impl Gathering {
    fn is_kept(&self) -> bool {
        !self.links.is_empty()
    }

    /// Writes the run's span.
    pub fn write(&self, to: &mut Spans) {
        let [begun, ended] = self.time;
        let span = Span {
            trace_id: self.context.trace_id(),
            span_id: self.context.span_id(),
            trace_state: "",
            parent: None,
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name: "run",
            begun,
            ended,
        };
        to.push(&span, |span| {
            span.attribute(names::BATCH_SIZE, self.run.batch_size);
            span.attribute(names::SESSION, self.run.session);
            if let Some(model) = &self.model {
                span.model(model);
            }
            self.links.iter().for_each(|link| span.link(link));
            if self.failed {
                span.error("the run failed");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;

    fn run(id: u64, batch_size: usize, begun: Instant) -> Run {
        Run { id, session: 1, batch_size, begun, ended: None }
    }

    fn join(
        runs: &mut Runs,
        run: &Run,
        end: u64,
        inference: Option<u64>,
        now: Instant,
    ) -> (SpanContext, Vec<Gathering>) {
        let inference = inference.map(|id| {
            SpanContext::new(TraceId::from(1), SpanId::from(id), TraceFlags::SAMPLED, false, TraceState::NONE)
        });
        let frame = FrameInRun { run, model: None, time: [10, end], failed: end == 30, inference, now };
        runs.join(&frame)
    }

    #[test]
    fn the_last_frame_of_a_batch_completes_its_run() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        let batch = run(7, 3, now);
        let (first, over) = join(&mut runs, &batch, 20, Some(1), now);
        assert!(over.is_empty());
        let (second, over) = join(&mut runs, &batch, 30, None, now);
        assert!(over.is_empty() && first == second, "one run is one span");
        let (_, over) = join(&mut runs, &batch, 25, Some(2), now);
        let [run] = &over[..] else { panic!("{over:?}") };
        assert_eq!(run.time, [10, 30]);
        let linked: Vec<_> = run.links.iter().map(SpanContext::span_id).collect();
        assert_eq!(linked, [1, 2].map(SpanId::from), "what is not kept can't be linked to");
        assert!(run.failed, "one failed");
        assert!(runs.0.is_empty());
    }

    #[test]
    fn an_incomplete_run_is_exported_later_and_one_without_kept_frames_is_not() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        join(&mut runs, &run(1, 2, now), 20, Some(1), now);
        join(&mut runs, &run(2, 2, now), 20, None, now);
        let (_, over) = join(&mut runs, &run(3, 1, now), 20, None, now + LONGEST);
        assert_eq!(over.len(), 1, "{over:?}");
        assert!(runs.0.is_empty());
        for id in 0..MOST as u64 {
            assert!(join(&mut runs, &run(id, 2, now), 20, Some(id + 1), now).1.is_empty());
        }
        let (_, over) = join(&mut runs, &run(5000, 2, now), 20, Some(1), now);
        assert_eq!((over.len(), over[0].links[0].span_id()), (1, SpanId::from(1)), "the oldest is completed");
        assert_eq!(runs.drain().count(), MOST);
    }
}
