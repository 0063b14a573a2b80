//! Everyone who looks, and the outcomes that one may resume from.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::event::Event;
use super::interest::{Interest, Kind};
use super::ring::Ring;
use super::viewer::Waiting;
use super::waterfall::LastLooks;

/// How many may look at once.
pub const MAX_VIEWERS: usize = 32;

/// Outcomes are kept so long after the last viewer has gone: a page that loses its connection comes back.
const LINGER: Duration = Duration::from_secs(60);

/// Time between two spectra of a source.
const BETWEEN_SPECTRA: Duration = Duration::from_millis(40);

/// Sources whose spectra are looked at, at once.
const MAX_SPECTRA: usize = 64;

/// The last event that a viewer has seen, of its earlier stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeAfter(pub String);

#[derive(Debug, Default)]
struct All {
    viewers: Vec<Arc<Waiting>>,
    /// Outcomes, newest last.
    history: Ring,
    /// The newest state of each kind, for those who come.
    newest: [Option<Arc<Event>>; 2],
    /// Since when nobody looks.
    nobody_since: Option<Instant>,
    is_over: bool,
}

/// Everyone who looks.
#[derive(Debug)]
pub struct Viewers {
    all: Mutex<All>,
    /// Tells the numbers of this process from those of an earlier one.
    epoch: String,
    /// Whether outcomes are kept at all.
    watching: AtomicBool,
    /// Whether somebody looks at spectra.
    spectra: AtomicBool,
    last_looks: Mutex<LastLooks>,
    /// Outcomes so far.
    pub outcomes: AtomicU64,
    /// Outcomes that no event was made of, although somebody looked; since the thread last asked.
    pub missed: AtomicU64,
    /// Copies that found no room in the queue, and events that viewers were too slow for.
    pub dropped: AtomicU64,
    /// Bytes in the queue.
    pub queued_bytes: AtomicUsize,
}

impl Default for Viewers {
    fn default() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let places = std::num::NonZeroUsize::MIN.saturating_add(MAX_SPECTRA - 1);
        Self {
            all: Mutex::default(),
            epoch: format!("{:x}", started.as_millis()),
            watching: AtomicBool::new(false),
            spectra: AtomicBool::new(false),
            last_looks: Mutex::new(LastLooks::new(places)),
            outcomes: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
        }
    }
}

impl Viewers {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many look.
    pub fn len(&self) -> usize {
        self.all().viewers.len()
    }

    /// Whether outcomes are kept.
    pub fn are_watching(&self) -> bool {
        self.watching.load(Relaxed)
    }

    /// Whether a row of this source is to be made now.
    pub fn want_spectrum(&self, source: &str) -> bool {
        if !self.spectra.load(Relaxed) {
            return false;
        }
        let is_wanted = |viewer: &Arc<Waiting>| viewer.interest().takes(Kind::Waterfall, Some(source));
        if !self.all().viewers.iter().any(is_wanted) {
            return false;
        }
        let (mut looks, now) =
            (self.last_looks.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        if looks.get(source).is_some_and(|last| now.duration_since(*last) < BETWEEN_SPECTRA) {
            return false;
        }
        looks.put(source.to_owned(), now);
        true
    }

    /// The id of an outcome's event.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch)
    }

    /// Adds somebody, with what there is after the event that was seen last.
    pub fn add(viewers: &Arc<Self>, interest: Interest, resume: Option<ResumeAfter>) -> Option<Viewer> {
        let mut all = viewers.all();
        if all.viewers.len() >= MAX_VIEWERS || all.is_over {
            return None;
        }
        let waiting = Arc::new(Waiting::new(interest));
        let seen = resume.as_ref().and_then(|ResumeAfter(id)| {
            let (epoch, number) = id.split_once('-')?;
            (epoch == viewers.epoch).then(|| number.parse().ok())?
        });
        if let Some(seen) = seen {
            let (missing, events) = all.history.after(seen, viewers.outcomes.load(Relaxed));
            waiting.miss(missing);
            events.for_each(|event| _ = waiting.push(event));
        }
        all.newest.iter().flatten().for_each(|event| _ = waiting.push(event));
        waiting.wake();
        all.viewers.push(Arc::clone(&waiting));
        viewers.look_around(&mut all);
        drop(all);
        Some(Viewer { waiting, viewers: Arc::clone(viewers) })
    }

    /// Gives an event to everyone who wants it, and keeps it where somebody may want it later. The models are
    /// given where they have changed.
    pub fn give(&self, event: Event) {
        let event = Arc::new(event);
        let mut all = self.all();
        let is_known =
            |newest: &Option<Arc<Event>>| newest.as_ref().is_some_and(|old| old.text == event.text);
        if event.kind == Kind::Models && is_known(&all.newest[1]) {
            return;
        }
        let dropped = all.viewers.iter().map(|viewer| viewer.push(&event)).sum();
        self.dropped.fetch_add(dropped, Relaxed);
        match event.kind {
            Kind::Outcome => {
                all.history.push(event);
                // Pushed out, an outcome is no more to be resumed from; nobody has missed it.
                all.history.forget_dropped();
            }
            Kind::Health => all.newest[0] = Some(event),
            Kind::Models => all.newest[1] = Some(event),
            Kind::Waterfall | Kind::Dropped => {}
        }
    }

    /// Wakes everyone, after events were given; counts outcomes that are missing.
    pub fn wake(&self) {
        let missed = self.missed.swap(0, Relaxed);
        for viewer in &self.all().viewers {
            viewer.miss(missed);
            viewer.wake();
        }
    }

    /// Stops keeping outcomes where nobody has looked for a while.
    pub fn rest(&self) {
        let mut all = self.all();
        if all.nobody_since.is_some_and(|since| since.elapsed() > LINGER) {
            (all.history, all.nobody_since) = (Ring::default(), None);
            self.watching.store(false, Relaxed);
        }
    }

    /// Ends every stream; nobody is added any more.
    pub fn end(&self) {
        let mut all = self.all();
        all.is_over = true;
        all.viewers.iter().for_each(|viewer| viewer.end());
    }

    fn remove(&self, gone: &Arc<Waiting>) {
        let mut all = self.all();
        all.viewers.retain(|viewer| !Arc::ptr_eq(viewer, gone));
        self.look_around(&mut all);
    }

    fn look_around(&self, all: &mut All) {
        let has_spectra = all.viewers.iter().any(|viewer| viewer.interest().has_spectra());
        self.spectra.store(has_spectra, Relaxed);
        if all.viewers.is_empty() {
            (all.nobody_since, all.newest) = (Some(Instant::now()), [None, None]);
        } else {
            all.nobody_since = None;
            self.watching.store(true, Relaxed);
        }
    }
}

/// Somebody who looks, until this is dropped.
#[derive(Debug)]
pub struct Viewer {
    waiting: Arc<Waiting>,
    viewers: Arc<Viewers>,
}

impl Viewer {
    /// The next part of the stream; `None` at its end.
    pub async fn next(&self) -> Option<Bytes> {
        self.waiting.next().await
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.viewers.remove(&self.waiting);
    }
}
