//! A batch's run is a span of its own, linked to its frames; it is put together as their outcomes are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanContext, Status, TraceFlags, TraceState};
use opentelemetry_sdk::trace::SpanData;
use sferic_actors::frame::ModelId;
use sferic_actors::trail::Run;
use tokio::time::Instant;

use super::attributes as names;
use super::context::{new_span_id, new_trace_id};
use super::frame::{model, span};

/// Runs that wait for further frames. A frame that was answered while its batch was being formed is counted in the batch and does not know of
/// it, so some wait in vain: the oldest gives way, and none waits longer than this after its last frame.
const MOST: usize = 1024;
const LONGEST: Duration = Duration::from_secs(10);

/// The runs of which some frames are told, by their number.
#[derive(Debug, Default)]
pub struct Runs(BTreeMap<u64, Gathering>);

#[derive(Debug)]
struct Gathering {
    context: SpanContext,
    model: Option<Arc<ModelId>>,
    run: Run,
    time: [SystemTime; 2],
    left: usize,
    links: Vec<Link>,
    failed: bool,
    joined: Instant,
}

/// A frame that was in a run, and is told.
#[derive(Debug)]
pub struct Joining<'a> {
    /// The run.
    pub run: &'a Run,
    /// Whose it was.
    pub model: Option<&'a Arc<ModelId>>,
    /// When it began and ended, as far as the frame knows.
    pub time: [SystemTime; 2],
    /// It failed.
    pub failed: bool,
    /// The frame's span in it, where that is kept.
    pub inference: Option<SpanContext>,
    /// The time.
    pub now: Instant,
}

impl Runs {
    /// Gives the run's span, and the spans of runs that are over.
    pub fn join(&mut self, frame: &Joining<'_>) -> (SpanContext, Vec<SpanData>) {
        let new = || Gathering {
            context: SpanContext::new(new_trace_id(), new_span_id(), TraceFlags::SAMPLED, false, TraceState::NONE),
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
        gathering.links.extend(frame.inference.clone().map(Link::with_context));
        gathering.failed |= frame.failed;
        gathering.joined = frame.now;
        let context = gathering.context.clone();
        if gathering.left == 0 {
            over.extend(gathering.span());
        } else {
            self.0.insert(frame.run.id, gathering);
        }
        while let Some((_, oldest)) = self.0.first_key_value()
            && (oldest.joined + LONGEST <= frame.now || self.0.len() > MOST)
        {
            over.extend(self.0.pop_first().and_then(|(_, gathering)| gathering.span()));
        }
        (context, over)
    }

    /// The spans of all that still wait.
    pub fn drain(&mut self) -> impl Iterator<Item = SpanData> + use<> {
        std::mem::take(&mut self.0).into_values().filter_map(Gathering::span)
    }
}

impl Gathering {
    /// The run's span; none where no frame's is kept.
    fn span(self) -> Option<SpanData> {
        if self.links.is_empty() {
            return None;
        }
        let [begun, ended] = self.time;
        let mut span = span(self.context, "run", begun, ended);
        span.attributes.push(KeyValue::new(names::BATCH_SIZE, self.run.batch_size as i64));
        span.attributes.push(KeyValue::new(names::SESSION, self.run.session as i64));
        span.attributes.extend(self.model.as_deref().into_iter().flat_map(model));
        span.links.links = self.links;
        if self.failed {
            span.status = Status::error("the run failed");
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn run(id: u64, batch_size: usize, begun: Instant) -> Run {
        Run { id, session: 1, batch_size, begun, ended: None }
    }

    fn join(runs: &mut Runs, run: &Run, end: u64, inference: Option<u64>, now: Instant) -> (SpanContext, Vec<SpanData>) {
        let inference =
            inference.map(|id| SpanContext::new(TraceId::from(1), SpanId::from(id), TraceFlags::SAMPLED, false, TraceState::NONE));
        let frame = Joining { run, model: None, time: [at(10), at(end)], failed: end == 30, inference, now };
        runs.join(&frame)
    }

    #[test]
    fn the_last_frame_of_a_batch_tells_its_run() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        let batch = run(7, 3, now);
        let (first, over) = join(&mut runs, &batch, 20, Some(1), now);
        assert!(over.is_empty());
        let (second, over) = join(&mut runs, &batch, 30, None, now);
        assert!(over.is_empty() && first == second, "one run is one span");
        let (_, over) = join(&mut runs, &batch, 25, Some(2), now);
        let [span] = &over[..] else { panic!("{over:?}") };
        assert_eq!((span.start_time, span.end_time), (at(10), at(30)));
        let linked: Vec<_> = span.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(linked, [1, 2].map(SpanId::from), "what is not kept can't be linked to");
        assert_eq!(span.status, Status::error("the run failed"), "one failed");
        assert!(runs.0.is_empty());
    }

    #[test]
    fn a_run_that_waits_in_vain_is_told_later_and_none_that_nobody_kept() {
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
        assert_eq!((over.len(), over[0].links[0].span_context.span_id()), (1, SpanId::from(1)), "the oldest gives way");
        assert_eq!(runs.drain().count(), MOST);
    }
}
