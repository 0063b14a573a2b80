//! Somebody who looks.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::event::{Event, text};
use super::interest::{Interest, Kind};
use super::ring::Ring;

/// Bytes given at once.
const CHUNK: usize = 64 << 10;

/// A line that means nothing is sent where nothing else was for so long: proxies close silent connections.
const SILENCE: Duration = Duration::from_secs(15);

/// Events in their order, and the newest state of each kind, which no other event pushes out.
#[derive(Debug, Default)]
struct Queue {
    ring: Ring,
    health: Option<Arc<Event>>,
    models: Option<Arc<Event>>,
}

/// What waits for a viewer.
#[derive(Debug)]
pub struct Waiting {
    interest: Interest,
    waiting: Mutex<Queue>,
    arrived: Notify,
    over: AtomicBool,
}

impl Waiting {
    /// Nothing, so far.
    pub fn new(interest: Interest) -> Self {
        Self { interest, waiting: Mutex::default(), arrived: Notify::new(), over: AtomicBool::new(false) }
    }

    /// What is wanted.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Adds an event, where it is wanted; gives the number of older ones that it has pushed out. The viewer
    /// is woken by [`wake`](Self::wake).
    pub fn push(&self, event: &Arc<Event>) -> u64 {
        if !self.interest.takes(event.kind, event.source.as_deref()) {
            return 0;
        }
        let (mut queue, event) = (self.queue(), Arc::clone(event));
        match event.kind {
            Kind::Health => queue.health = Some(event),
            Kind::Models => queue.models = Some(event),
            Kind::Outcome | Kind::Waterfall | Kind::Dropped => return queue.ring.push(event),
        }
        0
    }

    /// Counts outcomes that are missing for everyone.
    pub fn miss(&self, events: u64) {
        if events > 0 && self.interest.has(Kind::Outcome) {
            self.queue().ring.miss(events);
        }
    }

    /// Wakes the viewer.
    pub fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Ends the stream once what waits was taken.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
        self.wake();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next part of the stream; `None` at its end.
    pub async fn next(&self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.part() {
                return Some(part);
            }
            if self.over.load(Relaxed) {
                return None;
            }
            if timeout(SILENCE, self.arrived.notified()).await.is_err() {
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }

    fn part(&self) -> Option<Bytes> {
        let mut queue = self.queue();
        let state = [queue.models.take(), queue.health.take()];
        let (dropped, events) = queue.ring.take(CHUNK);
        drop(queue);
        if dropped == 0 && events.is_empty() && state.iter().all(Option::is_none) {
            return None;
        }
        let mut part = BytesMut::new();
        state.iter().flatten().for_each(|event| part.extend_from_slice(&event.text));
        if dropped > 0 && self.interest.has(Kind::Dropped) {
            part.extend_from_slice(&text(Kind::Dropped, None, &format!("{{\"count\":{dropped}}}")));
        }
        events.iter().for_each(|event| part.extend_from_slice(&event.text));
        Some(part.freeze())
    }
}
