//! The queue of spans for export, already encoded. It drops and never blocks.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::counts::{ExportCounts, FRAMES};
use super::spans::Spans;

/// Size in bytes from which further frames are dropped; so a request stays below the 4 MiB that gRPC servers
/// accept.
const BYTES: usize = 3 << 20;

/// The queue.
#[derive(Debug, Clone)]
pub struct TraceQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<QueuedSpans>,
    /// Notified for the first frame, and again when half of the queue is used.
    bell: Notify,
    counts: Arc<ExportCounts>,
}

#[derive(Debug, Default)]
struct QueuedSpans {
    spans: Spans,
    frames: u64,
}

/// A place in the queue, to which the spans of one frame are written.
pub struct Reservation<'a> {
    waiting: MutexGuard<'a, QueuedSpans>,
    shared: &'a Shared,
}

impl TraceQueue {
    /// An empty queue.
    pub(crate) fn new(counts: Arc<ExportCounts>) -> Self {
        Self(Arc::new(Shared { waiting: Mutex::default(), bell: Notify::new(), counts }))
    }

    /// Reserves a place for the spans of one frame; where there is none, the frame is counted as dropped.
    pub fn reserve(&self) -> Option<Reservation<'_>> {
        let shared = &*self.0;
        let waiting = shared.lock();
        if waiting.frames >= FRAMES || waiting.spans.size() >= BYTES {
            shared.counts.queue_full.fetch_add(1, Relaxed);
            return None;
        }
        Some(Reservation { waiting, shared })
    }

    /// Counts a failure or slow frame that is not kept because there are too many.
    pub fn count_limited(&self) {
        self.0.counts.limited.fetch_add(1, Relaxed);
    }

    /// Waits for the next notification.
    pub(super) async fn rung(&self) {
        self.0.bell.notified().await;
    }

    /// Takes all queued spans in exchange for this empty buffer; returns the number of frames.
    pub(crate) fn take(&self, spans: &mut Spans) -> u64 {
        let mut waiting = self.0.lock();
        std::mem::swap(&mut waiting.spans, spans);
        self.0.counts.waiting.store(0, Relaxed);
        std::mem::take(&mut waiting.frames)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, QueuedSpans> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Reservation<'_> {
    type Target = Spans;

    fn deref(&self) -> &Spans {
        &self.waiting.spans
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut Spans {
        &mut self.waiting.spans
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.waiting.frames += 1;
        self.shared.counts.waiting.store(self.waiting.frames, Relaxed);
        if [1, FRAMES / 2].contains(&self.waiting.frames) {
            self.shared.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_counts_until_it_is_taken() {
        let counts = Arc::<ExportCounts>::default();
        let queue = TraceQueue::new(Arc::clone(&counts));
        for n in 0..FRAMES {
            assert!(queue.reserve().is_some(), "place {n}");
        }
        assert!(queue.reserve().is_none() && queue.reserve().is_none());
        assert_eq!((counts.waiting(), counts.queue_full.load(Relaxed)), (FRAMES, 2));
        assert_eq!(queue.take(&mut Spans::default()), FRAMES);
        assert_eq!(counts.waiting(), 0);
        assert!(queue.reserve().is_some());
    }

    #[test]
    fn a_queue_full_of_bytes_refuses_and_its_memory_is_reused() {
        let counts = Arc::<ExportCounts>::default();
        let queue = TraceQueue::new(Arc::clone(&counts));
        let span = crate::otlp::spans::Span {
            trace_id: 1.into(),
            span_id: 1.into(),
            trace_state: "",
            parent: None,
            parent_is_remote: false,
            kind: opentelemetry::trace::SpanKind::Internal,
            name: &"x".repeat(BYTES / 2),
            begun: 0,
            ended: 0,
        };
        for _ in 0..2 {
            queue.reserve().unwrap().push(&span, |_| {});
        }
        assert!(queue.reserve().is_none());
        let mut spans = Spans::default();
        assert_eq!(queue.take(&mut spans), 2);
        assert!(spans.size() > BYTES);
    }
}
