//! Frames with their outcomes, recorded beside the data path.
//!
//! The message of a frame that may be recorded is kept with its envelope until its outcome is published, and
//! then handed to a thread that writes [a ring of recordings](sferic_recording::ring). The thread's queue is
//! bounded by bytes; what finds no room is counted. A folder that cannot be written ends the recording, with
//! one line, and nothing else.

mod choice;
pub mod frame;
mod message;
mod tap;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use jiff::Timestamp;
use sferic_actors::frame::Encoding;
use sferic_recording::ring::RecordRing;
use sferic_settings::{Record, given};
use sferic_telemetry::with_causes;

pub use choice::{Choice, is_replayed};
pub use message::message;
pub use tap::{Tapped, keep_messages};

/// Bytes of frames that wait to be written.
const QUEUE_BYTES: u64 = 64 << 20;

/// So many frames may wait.
const QUEUE_FRAMES: usize = 4096;

/// Metadata are written this often; what came later is lost with a process that is killed.
const FLUSH: Duration = Duration::from_secs(5);

/// What records frames, where that is wanted.
///
/// # Errors
/// The folder cannot be written.
pub fn open(record: &Record) -> anyhow::Result<Option<Arc<Recorder>>> {
    if record.folder.as_os_str().is_empty() {
        return Ok(None);
    }
    let source = given(&record.source).map(str::to_owned);
    let choice = Choice { rule: record.rule, source, model: given(&record.model).map(str::to_owned) };
    let recorder = Recorder::start(&record.folder, record.max_bytes, choice).context("`record.folder`")?;
    let folder = record.folder.display();
    tracing::info!(%folder, rule = %record.rule, "recording frames with their outcomes");
    Ok(Some(Arc::new(recorder)))
}

/// A frame with its outcome.
#[derive(Debug)]
pub struct Finished {
    /// The tokens after `<prefix>.frames.`.
    pub source: String,
    /// The frame as it was received.
    pub payload: Bytes,
    /// How it is written.
    pub encoding: Encoding,
    /// When it was received.
    pub received_at: SystemTime,
    /// Its outcome in JSON; `null` where none is known.
    pub outcome: Vec<u8>,
}

/// What became of the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Written.
    pub recorded: u64,
    /// Not chosen by the rule, the source or the model.
    pub passed_over: u64,
    /// Not decoded.
    pub undecodable: u64,
    /// Found no room in the queue or in the folder, or came after the recording had ended.
    pub dropped: u64,
    /// Bytes of the folder's recordings.
    pub bytes: u64,
    /// Recordings that were removed for room.
    pub removed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicU64,
    recorded: AtomicU64,
    passed_over: AtomicU64,
    undecodable: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
    removed: AtomicU64,
    /// Why the recording has ended.
    stopped: OnceLock<String>,
}

/// Records frames in a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    choice: Choice,
    shared: Arc<Shared>,
    /// Nothing ends the thread.
    queue: SyncSender<Option<Finished>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Opens the folder and starts the thread.
    ///
    /// # Errors
    /// The folder cannot be made or read, or the thread not be started.
    pub fn start(folder: &Path, max_bytes: u64, choice: Choice) -> anyhow::Result<Self> {
        let ring = RecordRing::open(folder, max_bytes)?;
        let shared = Arc::<Shared>::default();
        shared.bytes.store(ring.bytes(), Relaxed);
        let (queue, finished) = sync_channel(QUEUE_FRAMES);
        let writer = Writer { ring, choice: choice.clone(), shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run(&finished))
            .context("cannot start the recorder's thread")?;
        Ok(Self { choice, shared, queue, thread: Mutex::new(Some(thread)) })
    }

    /// Whether frames of this source may be recorded.
    pub fn wants(&self, source: &str) -> bool {
        self.shared.stopped.get().is_none() && self.choice.takes_source(source)
    }

    /// Hands over a frame that has ended; never waits.
    pub fn take(&self, finished: Finished) {
        let bytes = finished.payload.len() as u64;
        let queued = self.shared.queued_bytes.fetch_add(bytes, Relaxed);
        let has_room = queued + bytes <= QUEUE_BYTES && self.shared.stopped.get().is_none();
        if !has_room || self.queue.try_send(Some(finished)).is_err() {
            self.shared.queued_bytes.fetch_sub(bytes, Relaxed);
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// What became of the frames so far.
    pub fn counts(&self) -> RecordCounts {
        let Shared { recorded, passed_over, undecodable, dropped, bytes, removed, .. } = &*self.shared;
        RecordCounts {
            recorded: recorded.load(Relaxed),
            passed_over: passed_over.load(Relaxed),
            undecodable: undecodable.load(Relaxed),
            dropped: dropped.load(Relaxed),
            bytes: bytes.load(Relaxed),
            removed: removed.load(Relaxed),
        }
    }

    /// Why the recording has ended; `None` while it goes on.
    pub fn stopped(&self) -> Option<&str> {
        self.shared.stopped.get().map(String::as_str)
    }

    /// Writes what is queued, and ends. Blocks.
    pub fn close(&self) -> RecordCounts {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Where the thread has ended, nobody reads it.
            _ = self.queue.send(None);
            // A thread that has panicked has said so.
            _ = thread.join();
        }
        self.counts()
    }
}

/// The thread's.
struct Writer {
    ring: RecordRing,
    choice: Choice,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, finished: &Receiver<Option<Finished>>) {
        let mut flush_at = Instant::now() + FLUSH;
        loop {
            let next = finished.recv_timeout(flush_at.saturating_duration_since(Instant::now()));
            let written = match &next {
                Ok(Some(finished)) => {
                    self.shared.queued_bytes.fetch_sub(finished.payload.len() as u64, Relaxed);
                    self.write(finished)
                }
                Err(RecvTimeoutError::Timeout) => {
                    flush_at = Instant::now() + FLUSH;
                    self.ring.flush().map_err(Into::into)
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => self.ring.end_all().map_err(Into::into),
            };
            self.shared.bytes.store(self.ring.bytes(), Relaxed);
            self.shared.removed.store(self.ring.removed(), Relaxed);
            if let Err(error) = written {
                let reason = with_causes(&error);
                tracing::error!("recording has ended: {reason}");
                _ = self.shared.stopped.set(reason);
                // Of what was written, as much stays as the folder has room for.
                let left_out = self.ring.salvage() as u64;
                let left_out = left_out.min(self.shared.recorded.load(Relaxed));
                self.shared.recorded.fetch_sub(left_out, Relaxed);
                let queued = finished.try_iter().flatten().count() as u64;
                let this = u64::from(matches!(next, Ok(Some(_))));
                self.shared.dropped.fetch_add(queued + this + left_out, Relaxed);
                return;
            }
            if matches!(next, Ok(None) | Err(RecvTimeoutError::Disconnected)) {
                return;
            }
        }
    }

    fn write(&mut self, finished: &Finished) -> anyhow::Result<()> {
        let outcome: serde_json::Value = serde_json::from_slice(&finished.outcome).unwrap_or_default();
        if !self.choice.takes(&outcome) {
            self.shared.passed_over.fetch_add(1, Relaxed);
            return Ok(());
        }
        let Some(frame) = frame::read(&finished.payload, finished.encoding) else {
            self.shared.undecodable.fetch_add(1, Relaxed);
            return Ok(());
        };
        let id = outcome["frame_id"].as_str().or_else(|| frame.keys.get("frame_id")?.as_str());
        if !id.is_none_or(|id| self.choice.rule.takes_id(id)) {
            self.shared.passed_over.fetch_add(1, Relaxed);
            return Ok(());
        }
        let received_at = Timestamp::try_from(finished.received_at).unwrap_or(Timestamp::UNIX_EPOCH);
        let is_written = self.ring.add(&frame.record(&finished.source, received_at, outcome))?;
        let count = if is_written { &self.shared.recorded } else { &self.shared.dropped };
        count.fetch_add(1, Relaxed);
        Ok(())
    }
}
