//! What a viewer of the operator's page sees as it happens.
//!
//! While somebody looks, outcomes are copied once they are published, and frames of watched sources by
//! reference when they arrive. A thread makes events of the copies and puts them into a bounded
//! [ring](ring::Ring) for each viewer, whose oldest events are dropped and counted: a viewer that does not
//! read costs the data path nothing.

mod event;
mod interest;
mod outcome;
mod ring;
mod tap;
mod viewer;
mod viewers;
mod waterfall;
mod writer;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use sferic_actors::outcome::Outcome;

pub use interest::{Interest, InvalidInterest, Kind};
pub use tap::{Shown, show_frames};
use viewers::Viewers;
pub use viewers::{MAX_VIEWERS, ResumeAfter, Viewer};
use waterfall::Watched;
use writer::{Item, QUEUE, Writer};
pub use writer::{STARTING, State};

/// Bytes of the copies that wait for the thread.
const QUEUE_BYTES: usize = 32 << 20;

/// A longer outcome, which must hold large tensors, is not shown.
const LONGEST: usize = 256 << 10;

/// The events.
#[derive(Debug)]
pub struct Events {
    viewers: Arc<Viewers>,
    queue: SyncSender<Item>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Events {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start() -> anyhow::Result<Arc<Self>> {
        let viewers = Arc::<Viewers>::default();
        let (queue, items) = sync_channel(QUEUE);
        let writer = Writer::new(Arc::clone(&viewers));
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || writer.run(&items))
            .context("cannot start the thread of the page's events")?;
        Ok(Arc::new(Self { viewers, queue, thread: Mutex::new(Some(thread)) }))
    }

    /// Sets where the state of the daemon is read.
    pub fn open(&self, state: State) {
        self.offer(Item::Open(state), 0);
    }

    /// Lets somebody look; `None` where there are [`MAX_VIEWERS`] already.
    pub fn view(&self, interest: Interest, resume: Option<ResumeAfter>) -> Option<Viewer> {
        Viewers::add(&self.viewers, interest, resume)
    }

    /// How many look.
    pub fn viewers(&self) -> usize {
        self.viewers.len()
    }

    /// Copies that found no room on their way to the thread, and events that viewers were too slow for.
    pub fn dropped(&self) -> u64 {
        self.viewers.dropped.load(Relaxed)
    }

    fn outcome(&self, outcome: &Outcome) {
        let number = self.viewers.outcomes.fetch_add(1, Relaxed) + 1;
        if !self.viewers.are_watching() {
            return;
        }
        let Some(published) = outcome::Published::of(outcome, number) else { return };
        let size = published.size();
        if size > LONGEST || !self.offer(Item::Outcome(published), size) {
            self.viewers.missed.fetch_add(1, Relaxed);
        }
    }

    fn frame(&self, watched: Watched) {
        let size = watched.payload.len();
        self.offer(Item::Frame(watched), size);
    }

    fn offer(&self, item: Item, size: usize) -> bool {
        let queued = self.viewers.queued_bytes.fetch_add(size, Relaxed);
        let is_taken = queued + size <= QUEUE_BYTES && self.queue.try_send(item).is_ok();
        if !is_taken {
            self.viewers.queued_bytes.fetch_sub(size, Relaxed);
            self.viewers.dropped.fetch_add(1, Relaxed);
        }
        is_taken
    }

    /// Ends the thread and every stream. Blocks for as long as one event takes.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Where the thread has ended, nobody reads it.
            _ = self.queue.send(Item::End);
            // A thread that has panicked has said so.
            _ = thread.join();
        }
        self.viewers.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn before_the_daemon_runs_a_viewer_sees_that_it_starts() {
        let events = Events::start().unwrap();
        let viewer = events.view(Interest::read(None, None, None).unwrap(), None).unwrap();
        let next = async || tokio::time::timeout(Duration::from_secs(30), viewer.next()).await.unwrap();
        let part = String::from_utf8(next().await.unwrap().to_vec()).unwrap();
        assert!(part.starts_with("event: health\n") && part.contains("\"starting\""), "{part}");
        assert_eq!(events.viewers(), 1);
        events.close();
        while next().await.is_some() {}
        assert!(events.view(Interest::read(None, None, None).unwrap(), None).is_none());
        drop(viewer);
        assert_eq!(events.viewers(), 0);
    }
}
