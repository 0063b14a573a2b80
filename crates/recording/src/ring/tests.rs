use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sferic_samples::{Datatype, Geolocation};
use tempfile::TempDir;

use super::*;
use crate::{Cut, Overrides};

const FORMAT: FrameFormat =
    FrameFormat { datatype: Datatype::Cu8, num_channels: 1, sample_rate: Some(1000.0), frequency: Some(1e8) };

fn start() -> Timestamp {
    "2026-11-28T18:30:00Z".parse().unwrap()
}

/// The `n`-th frame of a source: `instants` samples of value `n`, a frame's length after the one before.
fn record<'a>(source: &'a str, n: u64, samples: &'a [u8], format: FrameFormat) -> FrameRecord<'a> {
    let time = start() + SignedDuration::from_millis(n as i64 * samples.len() as i64 / 2);
    FrameRecord {
        source,
        format,
        samples,
        datetime: Some(time),
        geolocation: Some(Geolocation::point(7.5, 45.0)),
        received_at: time,
        frame: json!({"frame_id": format!("{source}-{n}"), "seq": n}).as_object().unwrap().clone(),
        outcome: json!({"kind": "classification", "labels": [{"label": "am", "score": 0.1 + n as f64}]}),
    }
}

#[test]
fn frames_are_read_back_and_are_sigmf() {
    let folder = TempDir::new().unwrap();
    let mut ring = RecordRing::open(folder.path(), 1 << 30).unwrap();
    let samples: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 20]).collect();
    for n in 0..5u64 {
        let format = if n < 3 { FORMAT } else { FrameFormat { frequency: Some(2e8), ..FORMAT } };
        assert!(ring.add(&record("north.rx2", n, &samples[n as usize], format)).unwrap());
        assert!(ring.add(&record("south", n, &samples[n as usize], FORMAT)).unwrap());
    }
    ring.flush().unwrap();
    let hashed = || {
        let files = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let metadata = files.filter(|path| path.extension().unwrap() == "sigmf-meta");
        metadata.filter(|path| std::fs::read_to_string(path).unwrap().contains("core:sha512")).count()
    };
    // Of data that goes on there is no digest.
    assert_eq!(hashed(), 1);
    ring.end_all().unwrap();
    assert_eq!(hashed(), 3);
    let frames = recorded(folder.path()).unwrap();
    assert_eq!(frames.len(), 10);
    for (index, frame) in frames.iter().enumerate() {
        let n = index as u64 / 2;
        assert_eq!((frame.frame["seq"].as_u64(), frame.samples().unwrap()), (Some(n), vec![n as u8; 20]));
        assert_eq!(frame.outcome["labels"][0]["score"].as_f64(), Some(0.1 + n as f64));
        assert_eq!(frame.received_at, start() + SignedDuration::from_millis(10 * n as i64));
    }
    let mut sources: Vec<_> = frames.iter().map(|frame| frame.source.as_str()).collect();
    sources.sort_unstable();
    assert_eq!(sources[4..6], ["north.rx2", "south"]);

    // As any reader sees them.
    let mut recordings: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() == "sigmf-meta")
        .map(|path| crate::open(&path, &Overrides::default()).unwrap().remove(0))
        .collect();
    recordings.sort_by_key(|recording| recording.name.clone());
    let shapes: Vec<_> =
        recordings.iter().map(|recording| (recording.streams[0].frequency, recording.len())).collect();
    assert_eq!(shapes, [(Some(1e8), 30), (Some(2e8), 20), (Some(1e8), 50)]);
    for recording in &recordings {
        assert_eq!((recording.warnings.len(), recording.digest_mismatch().unwrap()), (0, None));
        assert_eq!(recording.streams.len(), 1);
    }
    let last = recordings[2].frames(Cut { frame: 10, hop: 10 }).unwrap().last().unwrap().unwrap();
    assert_eq!(last.datetime, Some(start() + SignedDuration::from_millis(40)));
    assert_eq!(last.geolocation, Some(Geolocation::point(7.5, 45.0)));
}

#[test]
fn the_oldest_goes_and_the_folder_keeps_its_bound() {
    let folder = TempDir::new().unwrap();
    let size = || -> u64 {
        folder.path().read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let max = 200_000;
    let mut ring = RecordRing::open(folder.path(), max).unwrap();
    let samples = vec![1; 2000];
    for n in 0..500 {
        assert!(ring.add(&record(if n % 3 == 0 { "a" } else { "b" }, n, &samples, FORMAT)).unwrap());
        if n % 10 == 0 {
            ring.flush().unwrap();
            assert!(size() <= ring.bytes() && ring.bytes() <= max, "{n}: {} {}", size(), ring.bytes());
        }
    }
    ring.flush().unwrap();
    assert!(ring.removed() > 0);
    let kept = recorded(folder.path()).unwrap();
    let seqs: Vec<u64> = kept.iter().map(|frame| frame.frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs.last(), Some(&499));
    assert!(seqs.len() > 50 && seqs[0] > 300, "{} from {}", seqs.len(), seqs[0]);

    // Another one goes on with what is there, and leaves what is not a ring's.
    std::fs::write(folder.path().join("mine.sigmf-data"), vec![0; 1000]).unwrap();
    let mut ring = RecordRing::open(folder.path(), 60_000).unwrap();
    for n in 500..520 {
        assert!(ring.add(&record("a", n, &samples, FORMAT)).unwrap());
    }
    ring.flush().unwrap();
    assert!(size() <= 61_000, "{}", size());
    assert!(folder.path().join("mine.sigmf-data").exists());
    assert!(!ring.add(&record("a", 0, &vec![0; 60_000], FORMAT)).unwrap(), "larger than the folder");
}

#[test]
fn many_sources_take_few_files_at_once() {
    let folder = TempDir::new().unwrap();
    let mut ring = RecordRing::open(folder.path(), 1 << 30).unwrap();
    for n in 0..200 {
        ring.add(&record(&format!("s{n}"), n, &[1; 20], FORMAT)).unwrap();
    }
    assert_eq!(ring.open.len(), MAX_OPEN);
    ring.flush().unwrap();
    assert_eq!(recorded(folder.path()).unwrap().len(), 200);
}

#[test]
fn frames_of_tensors_alone_and_gaps_are_kept() {
    let folder = TempDir::new().unwrap();
    let mut ring = RecordRing::open(folder.path(), 1 << 30).unwrap();
    ring.add(&record("t", 0, &[], FORMAT)).unwrap();
    ring.add(&record("t", 0, &[], FORMAT)).unwrap();
    let mut late = record("t", 1, &[7; 20], FORMAT);
    late.datetime = Some(start() + SignedDuration::from_secs(60));
    late.outcome = Value::Null;
    ring.add(&late).unwrap();
    ring.flush().unwrap();
    let frames = recorded(folder.path()).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.samples().unwrap().len()).collect::<Vec<_>>(), [0, 0, 20]);
    assert!(frames[2].outcome.is_null());
    let text = std::fs::read_to_string(&frames[0].path).unwrap();
    let metadata: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["captures"].as_array().unwrap().len(), 1);
    assert_eq!(metadata["captures"][0]["core:datetime"], "2026-11-28T18:31:00Z");
    assert_eq!(metadata["annotations"][2]["core:label"], "no outcome");
}

#[test]
fn what_is_no_record_is_refused() {
    let folder = TempDir::new().unwrap();
    let refused = |path: &Path| recorded(path).unwrap_err().to_string();
    assert!(refused(folder.path()).contains("holds no frame with its outcome"));
    let path = folder.path().join("x.sigmf-meta");
    std::fs::write(path.with_extension("sigmf-data"), [0; 10]).unwrap();
    let frame = r#"{"core:sample_start": 4, "core:sample_count": 2, "sferic:received": "2026-11-28T18:30:00Z",
        "sferic:frame": {}}"#;
    std::fs::write(&path, format!(r#"{{"global": {{"core:datatype": "cu8"}}, "annotations": [{frame}]}}"#))
        .unwrap();
    assert!(refused(&path).contains("samples 4 to 4 + 2, the data has 5"), "{}", refused(&path));
    std::fs::write(&path, "{").unwrap();
    assert!(refused(folder.path()).contains("not SigMF metadata"));
}

#[test]
fn what_there_is_room_for_is_salvaged() {
    let folder = TempDir::new().unwrap();
    let mut ring = RecordRing::open(folder.path(), 1 << 30).unwrap();
    for n in 0..8 {
        ring.add(&record("t", n, &[n as u8; 20], FORMAT)).unwrap();
    }
    assert_eq!(ring.salvage(), 2);
    let frames = recorded(folder.path()).unwrap();
    assert_eq!(frames.len(), 6);
    assert_eq!(frames[5].samples().unwrap(), [5; 20]);
    assert_eq!(std::fs::metadata(frames[0].path.with_extension("sigmf-data")).unwrap().len(), 120);
    // A folder that is gone has room for nothing.
    let below = folder.path().join("below");
    let mut ring = RecordRing::open(&below, 1 << 30).unwrap();
    ring.add(&record("t", 0, &[1; 20], FORMAT)).unwrap();
    std::fs::remove_dir_all(&below).unwrap();
    assert_eq!(ring.salvage(), 1);
}
