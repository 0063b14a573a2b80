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

/// What waits for a viewer.
#[derive(Debug)]
pub struct Waiting {
    interest: Interest,
    ring: Mutex<Ring>,
    arrived: Notify,
    over: AtomicBool,
}

impl Waiting {
    /// Nothing, so far.
    pub fn new(interest: Interest) -> Self {
        Self { interest, ring: Mutex::default(), arrived: Notify::new(), over: AtomicBool::new(false) }
    }

    /// What is wanted.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Adds an event, where it is wanted; gives the number of older ones that it has pushed out. The viewer
    /// is woken by [`wake`](Self::wake).
    pub fn push(&self, event: &Arc<Event>) -> u64 {
        let is_wanted = self.interest.takes(event.kind, event.source.as_deref());
        if is_wanted { self.ring().push(Arc::clone(event)) } else { 0 }
    }

    /// Counts outcomes that are missing for everyone.
    pub fn miss(&self, events: u64) {
        if events > 0 && self.interest.has(Kind::Outcome) {
            self.ring().miss(events);
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

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut ring = self.ring();
        if ring.is_empty() {
            return None;
        }
        let (dropped, events) = ring.take(CHUNK);
        drop(ring);
        let mut part = BytesMut::new();
        if dropped > 0 && self.interest.has(Kind::Dropped) {
            part.extend_from_slice(&text(Kind::Dropped, None, &format!("{{\"count\":{dropped}}}")));
        }
        events.iter().for_each(|event| part.extend_from_slice(&event.text));
        Some(part.freeze())
    }
}
