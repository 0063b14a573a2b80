//! Where captures begin, what a gap is, and how far a value reaches.

use super::*;

/// First sample, instants, centre frequency in MHz and time of each stream. A sample's first byte is twice
/// its index.
fn streams(recording: &Recording) -> Vec<(u64, u64, Option<f64>, Option<String>)> {
    let rate = recording.sample_rate;
    let time = |stream: &Stream| stream.datetime_at(0, rate).map(|time| time.to_string());
    let streams = recording.streams.iter();
    streams
        .map(|stream| {
            (stream.spans[0].byte / 2, stream.len(), stream.frequency.map(|hz| hz / 1e6), time(stream))
        })
        .collect()
}

fn at(time: &str) -> Option<String> {
    Some(format!("2021-05-05T{time}Z"))
}

#[test]
fn indices_below_the_offset_count_from_the_files_start() {
    let folder = TempDir::new().unwrap();
    for (offset, first, warns) in
        [(400, 400, false), (400, 0, true), (7, 0, true), (400, 399, true), (0, 0, false)]
    {
        let captures = json!([
            {"core:sample_start": first, "core:frequency": 1e6},
            {"core:sample_start": first + 12, "core:frequency": 2e6},
        ]);
        let recording = sigmf(folder.path(), json!({"core:offset": offset}), captures, 2 * 440).unwrap();
        // No sample is read twice, whatever the indices.
        let expected = if first == 399 { [(399, 12), (411, 29)] } else { [(0, 12), (12, 428)] };
        assert_eq!(
            streams(&recording).iter().map(|stream| (stream.0, stream.1)).collect::<Vec<_>>(),
            expected
        );
        assert_eq!(
            recording.warnings.iter().any(|warning| warning.contains("core:offset")),
            warns,
            "{offset} {first}"
        );
    }
}

#[test]
fn an_omitted_global_index_is_the_captures_start() {
    let folder = TempDir::new().unwrap();
    for (first, second, expected) in [
        (
            json!(null),
            json!(2030),
            [(0, 30, None, at("10:00:00")), (30, 30, None, at("10:00:02.03"))].to_vec(),
        ),
        (json!(0), json!(2030), [(0, 30, None, at("10:00:00")), (30, 30, None, at("10:00:02.03"))].to_vec()),
        (json!(null), json!(30.0), [(0, 60, None, at("10:00:00"))].to_vec()),
        // Indices that go back say that something is missing, not when.
        (json!(500), json!(null), [(0, 30, None, at("10:00:00")), (30, 30, None, None)].to_vec()),
        (json!(500), json!(100), [(0, 30, None, at("10:00:00")), (30, 30, None, None)].to_vec()),
    ] {
        let captures = json!([
            {"core:sample_start": 0, "core:global_index": first, "core:datetime": "2021-05-05T10:00:00Z"},
            {"core:sample_start": 30, "core:global_index": second},
        ]);
        let recording = sigmf(folder.path(), json!({}), captures, 120).unwrap();
        assert_eq!(streams(&recording), expected, "{first} {second}");
    }
}

#[test]
fn time_counts_on_over_missing_samples() {
    let folder = TempDir::new().unwrap();
    let captures = json!([
        {"core:sample_start": 0, "core:datetime": "2021-05-05T10:00:00Z", "core:frequency": 1e6},
        {"core:sample_start": 20, "core:global_index": 1020, "core:frequency": 1e6},
        // No sample is missing here, but the receiver was tuned.
        {"core:sample_start": 40, "core:global_index": 1040, "core:frequency": 2e6},
        {
            "core:sample_start": 60, "core:global_index": 9060, "core:frequency": 2e6,
            "core:datetime": "2021-05-05T11:00:00Z",
        },
        {"core:sample_start": 80, "core:frequency": 3e6},
    ]);
    let recording = sigmf(folder.path(), json!({}), captures, 200).unwrap();
    assert_eq!(
        streams(&recording),
        [
            (0, 20, Some(1.0), at("10:00:00")),
            (20, 20, Some(1.0), at("10:00:01.02")),
            (40, 20, Some(2.0), at("10:00:01.04")),
            (60, 20, Some(2.0), at("11:00:00")),
            (80, 20, Some(3.0), None),
        ]
    );
}

#[test]
fn a_time_over_a_second_off_begins_a_stream() {
    let folder = TempDir::new().unwrap();
    // By the count, the second capture begins at 10:00:00.030.
    for (time, splits) in [
        ("10:00:00.030", false),
        ("10:00:00.031", false),
        ("10:00:01.030", false),
        ("10:00:01.0300001", true),
        ("09:59:59.030", false),
        ("09:59:59.029", true),
        ("23:00:00", true),
        ("not a time", false),
    ] {
        let captures = json!([
            {"core:sample_start": 0, "core:datetime": "2021-05-05T10:00:00Z"},
            {"core:sample_start": 30, "core:datetime": format!("2021-05-05T{time}Z")},
        ]);
        let recording = sigmf(folder.path(), json!({}), captures.clone(), 120).unwrap();
        assert_eq!(recording.streams.len(), if splits { 2 } else { 1 }, "{time}");
        // Without a rate nothing says where the time should be.
        let recording = sigmf(folder.path(), json!({"core:sample_rate": null}), captures, 120).unwrap();
        assert_eq!(recording.streams.len(), 1, "{time}");
    }
    // Each time is measured from the one before, so a clock that drifts is no gap.
    let captures: Vec<_> = (0..9)
        .map(|n| json!({"core:sample_start": 10 * n, "core:datetime": format!("2021-05-05T10:00:0{n}Z")}))
        .collect();
    let recording = sigmf(folder.path(), json!({}), json!(captures), 180).unwrap();
    assert_eq!(recording.streams.len(), 1);
}

#[test]
fn each_capture_has_its_own_position() {
    let folder = TempDir::new().unwrap();
    let point = |longitude: f64| json!({"type": "Point", "coordinates": [longitude, 50.0]});
    for tuned in [1e6, 2e6] {
        let captures = json!([
            {"core:sample_start": 0, "core:frequency": 1e6},
            {"core:sample_start": 8, "core:frequency": 1e6, "core:geolocation": point(11.0)},
            {"core:sample_start": 16, "core:frequency": tuned},
            {"core:sample_start": 24, "core:frequency": tuned, "core:geolocation": point(12.0)},
        ]);
        let (nowhere, nothing) = (json!({"core:geolocation": point(-181.0)}), json!({}));
        let recording = sigmf(folder.path(), nowhere, captures.clone(), 64).unwrap();
        assert_eq!(recording.streams[0].geolocation_at(0), None);
        assert!(
            recording.warnings.iter().any(|warning| warning.contains("[-181.0,50.0]")),
            "{:?}",
            recording.warnings
        );
        for (global, elsewhere) in [
            (json!({"core:geolocation": point(10.0)}), Some(Geolocation::point(10.0, 50.0))),
            (nothing, None),
        ] {
            let recording = sigmf(folder.path(), global, captures.clone(), 64).unwrap();
            let places: Vec<_> = read(&recording, FRAME).into_iter().map(|frame| frame.geolocation).collect();
            let [first, second] = [11.0, 12.0].map(|longitude| Some(Geolocation::point(longitude, 50.0)));
            assert_eq!(places, [elsewhere.clone(), first, elsewhere, second]);
        }
    }
}
