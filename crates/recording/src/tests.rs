mod captures;
mod metadata;
mod names;
mod wav;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sferic_samples::{Datatype, Geolocation};
use tempfile::TempDir;

use super::*;

const FRAME: Cut = Cut { frame: 8, hop: 8 };

/// Writes a recording of `cu8` bytes 0, 1, 2, … with these captures, and opens it.
fn sigmf(folder: &Path, global: Value, captures: Value, bytes: usize) -> Result<Recording, RecordingError> {
    let mut all = json!({"core:datatype": "cu8", "core:version": "1.2.5", "core:sample_rate": 1000.0});
    all.as_object_mut().unwrap().extend(global.as_object().unwrap().clone());
    fs::write(folder.join("x.sigmf-data"), counting(bytes)).unwrap();
    fs::write(folder.join("x.sigmf-meta"), json!({"global": all, "captures": captures}).to_string()).unwrap();
    open(&folder.join("x.sigmf-meta"), &Overrides::default()).map(|mut recordings| recordings.remove(0))
}

fn counting(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| n as u8).collect()
}

fn read(recording: &Recording, cut: Cut) -> Vec<RecordedFrame> {
    recording.frames(cut).unwrap().map(Result::unwrap).collect()
}

fn message(result: Result<impl Sized, RecordingError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn segments_of_one_frequency_are_one_stream() {
    let folder = TempDir::new().unwrap();
    let captures = json!([
        {"core:sample_start": 0, "core:frequency": 1e6, "core:datetime": "2024-01-01T00:00:00Z"},
        {"core:sample_start": 5, "core:frequency": 1e6},
        {"core:sample_start": 10, "core:frequency": 2e6, "core:datetime": "2024-01-01T01:00:00"},
        {"core:sample_start": 26, "core:frequency": 1e6},
    ]);
    let recording = sigmf(folder.path(), json!({}), captures, 60).unwrap();
    let streams: Vec<_> = recording.streams.iter().map(|stream| (stream.frequency, stream.len())).collect();
    assert_eq!(streams, [(Some(1e6), 10), (Some(2e6), 16), (Some(1e6), 4)]);

    let frames = read(&recording, FRAME);
    let seen: Vec<_> = frames
        .iter()
        .map(|frame| (frame.position, frame.bytes.len(), frame.bytes[0], frame.frequency))
        .collect();
    assert_eq!(
        seen,
        [
            (0, 16, 0, Some(1e6)),
            (10, 16, 20, Some(2e6)),
            (18, 16, 36, Some(2e6)),
            // Shorter than a frame, so it goes whole.
            (26, 8, 52, Some(1e6)),
        ]
    );
    let times: Vec<_> = frames.iter().map(|frame| frame.datetime.map(|time| time.to_string())).collect();
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(
        times,
        [at("2024-01-01T00:00:00Z"), at("2024-01-01T01:00:00Z"), at("2024-01-01T01:00:00.008Z"), None]
    );
    assert_eq!((recording.count(FRAME), recording.tail(FRAME), recording.longest_frame(FRAME)), (4, 2, 16));
}

#[test]
fn missing_samples_end_a_stream() {
    let folder = TempDir::new().unwrap();
    let captures = json!([
        {"core:sample_start": 0, "core:global_index": 100},
        {"core:sample_start": 10, "core:global_index": 110},
        {"core:sample_start": 20, "core:global_index": 500},
    ]);
    let recording = sigmf(folder.path(), json!({}), captures, 60).unwrap();
    assert_eq!(recording.streams.iter().map(Stream::len).collect::<Vec<_>>(), [20, 10]);
}

#[test]
fn headers_and_trailers_are_skipped() {
    let folder = TempDir::new().unwrap();
    // 3 header bytes, 4 samples, 5 header bytes, 6 samples, 7 trailing bytes; the indices start at 100.
    let captures = json!([
        {"core:sample_start": 100, "core:header_bytes": 3},
        {"core:sample_start": 104, "core:header_bytes": 5},
    ]);
    let global = json!({"core:offset": 100, "core:trailing_bytes": 7});
    let recording = sigmf(folder.path(), global, captures, 3 + 8 + 5 + 12 + 7).unwrap();
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    let frames = read(&recording, Cut { frame: 10, hop: 10 });
    let expected: Vec<u8> = (3..11).chain(16..28).collect();
    assert_eq!(frames.into_iter().map(|frame| frame.bytes).collect::<Vec<_>>(), [expected]);
}

#[test]
fn places_rates_and_channels_are_read() {
    let folder = TempDir::new().unwrap();
    let captures = json!([
        {"core:sample_start": 0},
        {"core:sample_start": 8, "core:geolocation": {"type": "Point", "coordinates": [8.5, 46.5, 400.0]}},
        {"core:sample_start": 16, "core:geolocation": {"type": "Point", "coordinates": [99.0]}},
    ]);
    let global = json!({
        "core:datatype": "ci16", "core:num_channels": 3,
        "core:geolocation": {"type": "Point", "coordinates": [7.5, 45.0]},
    });
    let recording = sigmf(folder.path(), global, captures, 24 * 12).unwrap();
    assert_eq!(
        (recording.datatype, recording.num_channels, recording.bytes_per_instant()),
        (Datatype::Ci16Le, 3, 12)
    );
    assert_eq!(recording.sample_rate, Some(1000.0));
    let places: Vec<_> = read(&recording, FRAME).into_iter().map(|frame| frame.geolocation).collect();
    let moved = Some(Geolocation::Point { coordinates: vec![8.5, 46.5, 400.0] });
    // The last capture has a place of its own, which nobody can read.
    assert_eq!(places, [Some(Geolocation::point(7.5, 45.0)), moved, None]);
    assert!(recording.warnings.iter().any(|warning| warning.contains("[99.0]")), "{:?}", recording.warnings);
    assert_eq!(
        serde_json::to_value(Geolocation::point(7.5, 45.0)).unwrap(),
        json!({"type": "Point", "coordinates": [7.5, 45.0]})
    );
}

#[test]
fn each_fault_is_named() {
    let folder = TempDir::new().unwrap();
    for (global, bytes, named) in [
        (json!({"core:datatype": "ri16_le"}), 60, vec!["\"ri16_le\"", "cf32_le", "cu8"]),
        (json!({"core:datatype": "ci32_be"}), 60, vec!["\"ci32_be\"", "ci32_le"]),
        (json!({"core:sample_rate": -1.0}), 60, vec!["core:sample_rate is -1"]),
        (json!({"core:num_channels": 0}), 60, vec!["core:num_channels is 0"]),
        (json!({"core:dataset": "../secret"}), 60, vec!["../secret", "same folder"]),
        (json!({"core:dataset": "gone.cu8"}), 60, vec!["gone.cu8"]),
        (json!({"core:trailing_bytes": 99}), 60, vec!["x.sigmf-data holds no samples"]),
        (json!({}), 1, vec!["holds no samples"]),
    ] {
        let message = message(sigmf(folder.path(), global, json!([]), bytes));
        for name in named {
            assert!(message.contains(name), "{message}");
        }
    }
    let broken = folder.path().join("broken.sigmf-meta");
    fs::write(&broken, "{\"captures\": []}").unwrap();
    assert!(message(open(&broken, &Overrides::default())).contains("global"));
}

#[test]
fn a_short_or_truncated_dataset_is_reported() {
    let folder = TempDir::new().unwrap();
    let captures = json!([{"core:sample_start": 0}, {"core:sample_start": 100}]);
    let recording = sigmf(folder.path(), json!({}), captures, 21).unwrap();
    assert_eq!(recording.len(), 10);
    assert!(
        recording.warnings.iter().any(|warning| warning.contains("1 of the captures")),
        "{:?}",
        recording.warnings
    );
    let recording = sigmf(folder.path(), json!({}), json!([]), 21).unwrap();
    assert!(
        recording.warnings.iter().any(|warning| warning.contains("last 1 bytes")),
        "{:?}",
        recording.warnings
    );
}

#[test]
fn the_digest_is_compared() {
    let folder = TempDir::new().unwrap();
    let recording = sigmf(folder.path(), json!({"core:sha512": "00ff"}), json!([]), 20).unwrap();
    assert!(recording.digest_mismatch().unwrap().unwrap().contains("00ff"));
    let right = recording.data.sha512().unwrap().to_uppercase();
    let recording = sigmf(folder.path(), json!({"core:sha512": right}), json!([]), 20).unwrap();
    assert_eq!(recording.digest_mismatch().unwrap(), None);
}

#[test]
fn raw_files_are_read_by_name_or_by_override() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x_433.92M_250k.cu8");
    fs::write(&path, counting(33)).unwrap();
    let recording = &open(&path, &Overrides::default()).unwrap()[0];
    assert_eq!(
        (recording.datatype, recording.sample_rate, recording.len()),
        (Datatype::Cu8, Some(250e3), 16)
    );
    assert_eq!(recording.streams[0].frequency, Some(433.92e6));
    assert!(recording.warnings[0].contains("last 1 bytes"));
    assert_eq!(read(recording, FRAME)[1].bytes, counting(32)[16..]);

    let overrides =
        Overrides { datatype: Some(Datatype::Ci16Be), sample_rate: Some(1e6), ..Overrides::default() };
    let recording = &open(&path, &overrides).unwrap()[0];
    assert_eq!(
        (recording.datatype, recording.sample_rate, recording.len()),
        (Datatype::Ci16Be, Some(1e6), 8)
    );
}

#[test]
fn files_that_are_not_recordings_are_refused_with_what_is_supported() {
    let folder = TempDir::new().unwrap();
    for (name, named) in [
        ("x.vita49", [".vita49", "VITA 49", ".sigmf-meta"]),
        ("x.wav", [".wav", "audio", "cu8"]),
        ("x.iq", ["extension .iq", "--datatype", "ci16_le"]),
        ("x", ["without extension", "--datatype", "cfile"]),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, counting(32)).unwrap();
        let error = open(&path, &Overrides::default()).unwrap_err();
        assert!(error.is_usage());
        for part in named {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    let error = open(folder.path(), &Overrides::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("is a folder"), "{error}");
    let error = open(&folder.path().join("gone.cu8"), &Overrides::default()).unwrap_err();
    assert!(!error.is_usage() && error.to_string().contains("gone.cu8"), "{error}");
    let raw = Overrides { datatype: Some(Datatype::Cu8), ..Overrides::default() };
    assert_eq!(open(&folder.path().join("x.iq"), &raw).unwrap()[0].len(), 16);
}

/// Metadata of a recording in an archive.
fn member() -> Vec<u8> {
    let global = json!({"core:datatype": "ci8", "core:version": "1.2.5"});
    let metadata = json!({"global": global, "captures": [{"core:sample_start": 0}]});
    metadata.to_string().into_bytes()
}

fn archive(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

#[test]
fn unreadable_members_of_an_archive_are_left_out() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.sigmf");
    let metadata = member();
    let notes = ("x/._a.sigmf-meta", b"\0\x05\x16\x07notes of an archiver".as_slice());
    archive(
        &path,
        &[
            notes,
            ("x/._lost.sigmf-data", b"notes"),
            ("x/nothing.sigmf-meta", &metadata),
            ("x/broken.sigmf-meta", b"{"),
            ("x/broken.sigmf-data", b"abcd"),
            ("x/a.SIGMF-META", &metadata),
            ("x/a.sigmf-data", b"abcde"),
            ("x/orphan.sigmf-data", b"abcd"),
        ],
    );
    let recordings = open(&path, &Overrides::default()).unwrap();
    assert_eq!(
        recordings.iter().map(|recording| (recording.name.to_str(), recording.len())).collect::<Vec<_>>(),
        [(Some("a"), 2)]
    );
    let warnings = &recordings[0].warnings;
    for (warning, named) in
        warnings.iter().zip(["x/a.sigmf-data: the last 1 bytes", "x/broken", "x/nothing", "x/orphan"])
    {
        assert!(warning.contains(named), "{warning}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:?}");

    archive(&path, &[notes, ("x/nothing.sigmf-meta", &metadata)]);
    assert!(message(open(&path, &Overrides::default())).contains("x/nothing"));
    archive(&path, &[notes]);
    assert!(message(open(&path, &Overrides::default())).contains("without a recording"));
}

#[test]
fn archives_are_read_in_place() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("two.sigmf");
    let (metadata, first, second) = (member(), &counting(20)[4..], &counting(40));
    archive(
        &path,
        &[
            ("two/b.sigmf-data", second),
            ("two/a.sigmf-meta", &metadata),
            ("two/a.sigmf-data", first),
            ("two/README", b"hello"),
            ("two/b.sigmf-meta", &metadata),
        ],
    );
    let recordings = open(&path, &Overrides::default()).unwrap();
    let seen: Vec<_> =
        recordings.iter().map(|recording| (recording.name.to_str().unwrap(), recording.len())).collect();
    assert_eq!(seen, [("a", 8), ("b", 20)]);
    assert_eq!(read(&recordings[0], FRAME)[0].bytes, counting(20)[4..]);
    assert_eq!(read(&recordings[1], FRAME)[1].bytes, counting(40)[16..32]);

    fs::File::options().append(true).open(&path).unwrap().flush().unwrap();
    fs::write(&path, "not a tar file at all").unwrap();
    assert!(message(open(&path, &Overrides::default())).contains("not a SigMF archive"));
}

#[test]
fn written_recordings_can_be_read() {
    let folder = TempDir::new().unwrap();
    let more = |key: &str, value: Value| Map::from_iter([(key.to_owned(), value)]);
    let writer = SigmfWriter {
        datatype: Datatype::Cf32Le,
        sample_rate: 192e3,
        num_channels: 2,
        frequency: 868e6,
        description: "two receivers".to_owned(),
        extension: ("sferic", "1.0.0"),
        global: more("sferic:seed", json!(7)),
    };
    let annotation = Annotation {
        sample_start: 0,
        sample_count: 4,
        label: "psk".to_owned(),
        more: more("sferic:snr_db", json!([1.5, 2.5])),
    };
    let path = writer.write(folder.path(), "scene", &counting(64), &[annotation]).unwrap();
    let recording = &open(&path, &Overrides::default()).unwrap()[0];
    assert_eq!((recording.datatype, recording.num_channels, recording.len()), (Datatype::Cf32Le, 2, 4));
    assert_eq!((recording.sample_rate, recording.streams[0].frequency), (Some(192e3), Some(868e6)));
    assert_eq!(recording.digest_mismatch().unwrap(), None);
    assert!(recording.sha512.is_some());
    let metadata: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(metadata["annotations"][0]["sferic:snr_db"], json!([1.5, 2.5]));
    assert_eq!(metadata["annotations"][0]["core:label"], "psk");
    assert_eq!(metadata["global"]["sferic:seed"], 7);
}

/// The real captures that lie beside a checkout, where they do.
#[test]
fn real_captures_are_read_whole() {
    let shared = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/iq");
    let Ok(folders) = shared.read_dir() else {
        sferic_tools::not_run("there are no captures in ../shared/iq");
        return;
    };
    let files = folders
        .flat_map(|folder| folder.unwrap().path().read_dir().into_iter().flatten())
        .map(|file| file.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "sigmf-meta")) {
        let recording = &open(&path, &Overrides::default()).unwrap()[0];
        assert_eq!(recording.warnings, [""; 0], "{}", path.display());
        assert_eq!(recording.digest_mismatch().unwrap(), None);
        assert_eq!(recording.streams.len(), 1, "{}", path.display());
        assert_eq!(recording.len() * recording.bytes_per_instant(), recording.data.len);
        let cut = Cut { frame: 8192, hop: 8192 };
        let frames = read(recording, cut);
        assert_eq!(frames.len() as u64, recording.count(cut));
        let bytes: u64 = frames.iter().map(|frame| frame.bytes.len() as u64).sum();
        assert_eq!(bytes + recording.tail(cut) * recording.bytes_per_instant(), recording.data.len);
        if path.to_string_lossy().contains("HB9ODP") {
            // Stamped from sample 1024 on.
            assert_eq!(frames[0].datetime.unwrap().to_string(), "2020-08-13T06:52:20.184109639Z");
            assert_eq!(frames[0].geolocation, Some(Geolocation::point(8.798828, 46.499351)));
        }
    }
}

#[test]
fn what_the_user_knows_better_holds_for_every_stream() {
    let folder = TempDir::new().unwrap();
    let captures = json!([
        {"core:sample_start": 0, "core:frequency": 1e6},
        {"core:sample_start": 8, "core:frequency": 2e6,
         "core:geolocation": {"type": "Point", "coordinates": [9.0, 47.0]}},
    ]);
    sigmf(folder.path(), json!({}), captures, 32).unwrap();
    let place = Geolocation::point(8.0, 46.0);
    let overrides =
        Overrides { frequency: Some(5e6), geolocation: Some(place.clone()), ..Overrides::default() };
    let recording = open(&folder.path().join("x.sigmf-meta"), &overrides).unwrap().remove(0);
    let frames = read(&recording, FRAME);
    let seen: Vec<_> = frames.into_iter().map(|frame| (frame.frequency, frame.geolocation)).collect();
    assert_eq!(seen, vec![(Some(5e6), Some(place)); 2]);
}
