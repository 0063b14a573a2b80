//! From the bytes of a source to its frames in a queue.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use sferic_live::{Format, FramedSamples, Framer, Pace, SampleClock, is_over};
use sferic_recording::Cut;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Bytes of the frames that wait to be sent, of one source.
const QUEUE_BYTES: usize = 8 << 20;

/// At least so many frames may wait.
const MIN_QUEUE: usize = 16;

/// More frames than this need not wait.
pub const MAX_QUEUE: usize = 8192;

/// A frame on its way to the server.
#[derive(Debug)]
pub struct LiveFrame {
    /// The source's counter: one more for each frame that was not kept back, also where it was dropped.
    pub seq: u64,
    /// When its first sample was taken.
    pub datetime: Option<Timestamp>,
    /// The samples.
    pub bytes: Vec<u8>,
}

/// What happened to a source's samples, but for the frames that were sent.
#[derive(Debug, Default)]
pub struct FeedCounts {
    /// Frames that found the queue full.
    pub dropped: AtomicU64,
    /// Frames at or below the squelch.
    pub kept_back: AtomicU64,
    /// Times the source stopped.
    pub stops: AtomicU64,
    /// Samples at its stops that made no whole frame.
    pub cut_off: AtomicU64,
}

/// Nobody takes frames any more.
#[derive(Clone, Copy, Debug)]
pub struct Ended;

/// Takes the bytes of one source.
pub struct Feed {
    format: Format,
    framer: Framer,
    clock: SampleClock,
    pace: Pace,
    squelch: Option<f64>,
    /// Whether a source that is read slowly waits, rather than leaving samples out itself.
    waits: bool,
    /// The earliest time that the next frame may have.
    last: Option<Timestamp>,
    /// Since the source began.
    bytes: u64,
    seq: u64,
    counts: Arc<FeedCounts>,
    frames: mpsc::Sender<LiveFrame>,
}

impl Feed {
    /// A feed, with the frames that come out of it; `waits` says whether the source holds back what is not
    /// read, as a pipe does.
    pub fn new(
        format: Format,
        cut: Cut,
        squelch: Option<f64>,
        waits: bool,
    ) -> (Self, Arc<FeedCounts>, mpsc::Receiver<LiveFrame>) {
        let per_sample = format.datatype.bytes_per_sample();
        let frame_bytes = usize::try_from(cut.frame).unwrap_or(usize::MAX).saturating_mul(per_sample);
        let (frames, receiver) =
            mpsc::channel((QUEUE_BYTES / frame_bytes.max(1)).clamp(MIN_QUEUE, MAX_QUEUE));
        let counts = Arc::<FeedCounts>::default();
        let feed = Self {
            format,
            framer: Framer::new(cut, per_sample),
            clock: SampleClock::new(format.sample_rate),
            pace: Pace::new(format.sample_rate * per_sample as f64),
            squelch,
            waits,
            last: None,
            bytes: 0,
            seq: 0,
            counts: Arc::clone(&counts),
            frames,
        };
        (feed, counts, receiver)
    }

    /// Sets whether the source holds back what is not read.
    pub fn set_waits(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// Takes bytes that have just come. Waits for room only where the source loses nothing by that.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Ended> {
        self.count(bytes.len());
        while let Some(frame) = self.framer.next(&mut bytes) {
            self.queue(frame).await?;
        }
        Ok(())
    }

    /// The source has stopped, or samples are missing: no frame holds samples of before and after.
    pub fn stopped(&mut self) {
        self.counts.stops.fetch_add(1, Relaxed);
        self.restart();
    }

    /// Samples are missing: no frame holds samples of before and after.
    pub fn restart(&mut self) {
        self.counts.cut_off.fetch_add(self.framer.restart(), Relaxed);
        self.clock = SampleClock::new(self.format.sample_rate);
        self.bytes = 0;
    }

    /// The source has ended. A source of less than one frame goes as one.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn end(&mut self) -> Result<(), Ended> {
        let per_sample = self.format.datatype.bytes_per_sample();
        let rest = self.framer.rest();
        let samples = rest.len() / per_sample;
        let is_first = self.seq == 0 && self.counts.kept_back.load(Relaxed) == 0;
        if is_first && samples > 0 {
            let bytes = rest[..samples * per_sample].to_vec();
            return self.queue(FramedSamples { first: 0, bytes }).await;
        }
        self.counts.cut_off.fetch_add(samples as u64, Relaxed);
        Ok(())
    }

    fn count(&mut self, bytes: usize) {
        let per_sample = self.format.datatype.bytes_per_sample() as u64;
        let before = self.bytes / per_sample;
        self.bytes += bytes as u64;
        self.clock.received(self.bytes / per_sample - before, Timestamp::now());
        self.pace.received(bytes, Instant::now());
    }

    /// When a frame's first sample was taken. No time goes back, though at the beginning of a source, until
    /// the shortest delay is found, estimates do.
    fn datetime(&mut self, first: u64) -> Option<Timestamp> {
        let estimate = self.clock.at(first)?;
        let datetime = self.last.map_or(estimate, |last| estimate.max(last));
        self.last = datetime.checked_add(SignedDuration::from_nanos(1)).ok();
        Some(datetime)
    }

    async fn queue(&mut self, FramedSamples { first, bytes }: FramedSamples) -> Result<(), Ended> {
        if !is_over(self.squelch, &bytes, self.format.datatype) {
            self.counts.kept_back.fetch_add(1, Relaxed);
            return Ok(());
        }
        let datetime = self.datetime(first);
        let frame = LiveFrame { seq: self.seq, datetime, bytes };
        self.seq += 1;
        match self.frames.try_send(frame) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(frame)) if self.waits && self.pace.can_wait() => {
                self.frames.send(frame).await.map_err(|_| Ended)
            }
            Err(TrySendError::Full(_)) => {
                self.counts.dropped.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use sferic_samples::Datatype;

    use super::*;

    const FORMAT: Format = Format { datatype: Datatype::Cu8, sample_rate: 1e6, frequency: None };

    fn feed(waits: bool) -> (Feed, Arc<FeedCounts>, mpsc::Receiver<LiveFrame>) {
        // 8 frames of 512 KiB would be 4 MiB: the queue takes 16.
        Feed::new(FORMAT, Cut { frame: 1 << 18, hop: 1 << 18 }, Some(-60.0), waits)
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_whole_and_leaves_a_gap_in_seq() {
        let (mut feed, counts, mut frames) = feed(false);
        let loud = vec![0u8; 1 << 19];
        for _ in 0..20 {
            feed.take(&loud[..1000]).await.unwrap();
            feed.take(&loud[1000..]).await.unwrap();
        }
        assert_eq!(counts.dropped.load(Relaxed), 4);
        let first = frames.recv().await.unwrap();
        assert_eq!((first.seq, first.bytes.len()), (0, 1 << 19));
        feed.take(&loud).await.unwrap();
        drop(feed);
        let mut last = first;
        while let Some(frame) = frames.recv().await {
            last = frame;
        }
        assert_eq!(last.seq, 20);
    }

    #[tokio::test]
    async fn a_file_waits_and_is_not_dropped() {
        let (mut feed, counts, mut frames) = feed(true);
        let reading = tokio::spawn(async move {
            let loud = vec![0u8; 1 << 19];
            for _ in 0..40 {
                feed.take(&loud).await.unwrap();
            }
            feed.end().await.unwrap();
        });
        let mut seen = 0;
        while let Some(frame) = frames.recv().await {
            assert_eq!(frame.seq, seen);
            seen += 1;
        }
        reading.await.unwrap();
        assert_eq!((seen, counts.dropped.load(Relaxed)), (40, 0));
    }

    #[tokio::test]
    async fn quiet_frames_are_kept_back_and_leave_no_gap() {
        let (mut feed, counts, mut frames) = feed(false);
        // One step from the middle: -48 dB; with -40 it is quiet.
        feed.squelch = Some(-40.0);
        for (byte, times) in [(0, 1), (127, 3), (255, 1)] {
            for _ in 0..times {
                feed.take(&vec![byte; 1 << 19]).await.unwrap();
            }
        }
        feed.take(&[0; 7]).await.unwrap();
        feed.stopped();
        feed.end().await.unwrap();
        let seqs: Vec<u64> = std::iter::from_fn(|| frames.try_recv().ok()).map(|frame| frame.seq).collect();
        assert_eq!(seqs, [0, 1]);
        let counted = [&counts.kept_back, &counts.stops, &counts.cut_off].map(|count| count.load(Relaxed));
        assert_eq!(counted, [3, 1, 3]);
    }

    #[tokio::test]
    async fn less_than_a_frame_goes_as_one() {
        let (mut feed, counts, mut frames) = feed(true);
        feed.take(&[0; 33]).await.unwrap();
        feed.end().await.unwrap();
        let frame = frames.recv().await.unwrap();
        assert_eq!((frame.bytes.len(), frame.seq, counts.cut_off.load(Relaxed)), (32, 0, 0));
        assert!(frame.datetime.is_some());
    }
}
