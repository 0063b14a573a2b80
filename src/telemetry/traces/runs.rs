//! A batch's run is a span of its own, linked to its frames; it is put together as their outcomes are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use sferic_actors::frame::ModelId;
use sferic_actors::outcome::{FailureCode, Outcome};
use sferic_actors::trail::Run;
use tokio::time::Instant;

use super::attributes::{self as names, attribute};
use super::context::{Ids, SpanContext};
use super::frame::{Clock, error, link};

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
    begun_ns: u64,
    ended_ns: u64,
    left: usize,
    links: Vec<Link>,
    failed: bool,
    joined: Instant,
}

impl Runs {
    /// A frame of `run` is told; `inference` is its span, where that is kept. Gives the run's span, and the spans of runs that are over.
    #[allow(clippy::too_many_arguments)] // all of one frame
    pub fn join(
        &mut self,
        run: &Run,
        outcome: &Outcome,
        halved: bool,
        inference: Option<SpanContext>,
        clock: Clock,
        ids: &Ids,
        now: Instant,
    ) -> (SpanContext, Vec<Option<Span>>) {
        let new = || Gathering {
            context: SpanContext { trace_id: ids.trace(), span_id: ids.span(), sampled: true },
            model: outcome.trail.model.clone(),
            run: *run,
            begun_ns: clock.at(run.begun),
            ended_ns: 0,
            left: run.batch_size,
            links: Vec::with_capacity(if inference.is_some() { run.batch_size } else { 0 }),
            failed: false,
            joined: now,
        };
        let mut over = Vec::new();
        let mut gathering = self.0.remove(&run.id).unwrap_or_else(new);
        gathering.ended_ns = gathering.ended_ns.max(clock.at(run.ended.unwrap_or(outcome.settled_at)));
        gathering.left = gathering.left.saturating_sub(1);
        gathering.links.extend(inference.map(link));
        gathering.failed |= halved || outcome.result.as_ref().is_err_and(|failure| failure.code == FailureCode::InferenceFailed);
        gathering.joined = now;
        let context = gathering.context;
        if gathering.left == 0 {
            over.push(gathering.span());
        } else {
            self.0.insert(run.id, gathering);
        }
        while let Some((_, oldest)) = self.0.first_key_value()
            && (oldest.joined + LONGEST <= now || self.0.len() > MOST)
        {
            over.extend(self.0.pop_first().map(|(_, gathering)| gathering.span()));
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
            start_time_unix_nano: self.begun_ns,
            end_time_unix_nano: self.ended_ns,
            attributes,
            links: self.links,
            status: self.failed.then(|| error("the run failed")).flatten(),
            ..Span::default()
        })
    }
}
