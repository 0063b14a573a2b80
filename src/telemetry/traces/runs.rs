//! A batch's run is a span of its own, linked to its frames; it is put together as their outcomes are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use sferic_actors::frame::ModelId;
use sferic_actors::trail::Run;
use tokio::time::Instant;

use super::attributes::{self as names, attribute};
use super::context::{Ids, SpanContext};
use super::frame::{error, link};

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
    time: [u64; 2],
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
    /// When it began and ended, as far as the frame knows, nanoseconds since 1970.
    pub time: [u64; 2],
    /// It failed.
    pub failed: bool,
    /// The frame's span in it, where that is kept.
    pub inference: Option<SpanContext>,
    /// The time.
    pub now: Instant,
}

impl Runs {
    /// Gives the run's span, and the spans of runs that are over.
    pub fn join(&mut self, frame: &Joining<'_>, ids: &Ids) -> (SpanContext, Vec<Span>) {
        let new = || Gathering {
            context: SpanContext { trace_id: ids.trace(), span_id: ids.span(), sampled: true },
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
        gathering.links.extend(frame.inference.map(link));
        gathering.failed |= frame.failed;
        gathering.joined = frame.now;
        let context = gathering.context;
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
    pub fn drain(&mut self) -> impl Iterator<Item = Span> + use<> {
        std::mem::take(&mut self.0).into_values().filter_map(Gathering::span)
    }
}

impl Gathering {
    /// The run's span; none where no frame's is kept.
    fn span(self) -> Option<Span> {
        if self.links.is_empty() {
            return None;
        }
        let mut attributes = vec![attribute(names::BATCH_SIZE, self.run.batch_size), attribute(names::SESSION, self.run.session)];
        if let Some(model) = &self.model {
            attributes.push(attribute(names::MODEL, model.name.as_str()));
            attributes.push(attribute(names::MODEL_VERSION, model.version.as_str()));
        }
        Some(Span {
            trace_id: self.context.trace_id.to_be_bytes().into(),
            span_id: self.context.span_id.to_be_bytes().into(),
            flags: 1,
            name: "run".into(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: self.time[0],
            end_time_unix_nano: self.time[1],
            attributes,
            links: self.links,
            status: self.failed.then(|| error("the run failed")).flatten(),
            ..Span::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64, batch_size: usize, begun: Instant) -> Run {
        Run { id, session: 1, batch_size, begun, ended: None }
    }

    fn join(runs: &mut Runs, run: &Run, end: u64, inference: Option<u64>, now: Instant) -> (SpanContext, Vec<Span>) {
        let inference = inference.map(|span_id| SpanContext { trace_id: 1, span_id, sampled: true });
        let frame = Joining { run, model: None, time: [10, end], failed: end == 30, inference, now };
        runs.join(&frame, &Ids::default())
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
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (10, 30));
        let linked: Vec<_> = span.links.iter().map(|link| link.span_id[7]).collect();
        assert_eq!(linked, [1, 2], "what is not kept can't be linked to");
        assert!(span.status.is_some(), "one failed");
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
        assert_eq!((over.len(), over[0].links[0].span_id[7]), (1, 1), "the oldest gives way");
        assert_eq!(runs.drain().count(), MOST);
    }
}
