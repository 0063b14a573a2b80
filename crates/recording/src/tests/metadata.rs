//! How metadata may be written.

use super::*;

/// Opens a recording of 10 `cu8` samples whose metadata is this text.
fn text(metadata: impl AsRef<[u8]>) -> Result<Recording, RecordingError> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("x.sigmf-data"), counting(20)).unwrap();
    fs::write(folder.path().join("x.sigmf-meta"), metadata).unwrap();
    open(&folder.path().join("x.sigmf-meta"), &Overrides::default())
        .map(|mut recordings| recordings.remove(0))
}

#[test]
fn a_float_without_a_fraction_is_a_whole_number() {
    let folder = TempDir::new().unwrap();
    // 2 channels, 2 bytes of header, 5 of 7 instants from 3 on, 4 bytes of trailer.
    let global = json!({"core:num_channels": 2.0, "core:offset": 1e1, "core:trailing_bytes": 4.0});
    let captures = json!([{"core:sample_start": 13.0, "core:header_bytes": 2.0, "core:global_index": 1.5e1}]);
    let recording = sigmf(folder.path(), global, captures, 2 + 4 * 8 + 4).unwrap();
    assert_eq!(
        (recording.num_channels, recording.streams[0].spans.clone()),
        (2, vec![ByteSpan { byte: 14, len: 5 }])
    );
    for (global, captures, named) in [
        (json!({}), json!([{"core:sample_start": 3.5}]), "3.5 is no whole number"),
        (json!({}), json!([{"core:sample_start": -2.0}]), "-2.0 is no whole number"),
        (json!({}), json!([{"core:sample_start": 1e30}]), "1e+30 is no whole number"),
        (json!({}), json!([{"core:sample_start": "3"}]), "expected a JSON number"),
        (json!({}), json!([{}]), "core:sample_start"),
        (json!({"core:num_channels": 1.5}), json!([]), "1.5 is no whole number"),
        (json!({"core:num_channels": 4294967296u64}), json!([]), "core:num_channels is 4294967296"),
        (json!({"core:num_channels": 0.0}), json!([]), "core:num_channels is 0"),
    ] {
        let message = message(sigmf(folder.path(), global, captures, 40));
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn numbers_outside_json_are_reported_with_their_position() {
    for (word, expected) in [
        ("NaN", "NaN is no number in JSON, at line 3 column 11"),
        ("-NaN", "-NaN is"),
        ("nan", "nan is"),
        ("Infinity", "Infinity is"),
        ("-Infinity", "-Infinity is"),
        ("inf", "inf is"),
        ("Nanometre", "expected value at line 3"),
        ("\"NaN\"", "invalid type: string \"NaN\""),
        ("[1, 2", "line 3"),
    ] {
        for key in ["x:gain", "core:sample_rate"] {
            let metadata = format!(
                "{{\"global\": {{\n  \"core:datatype\": \"cu8\",\n\"{key}\": {word}}}, \"captures\": []}}"
            );
            if word == "\"NaN\"" && key == "x:gain" {
                text(metadata).unwrap();
                continue;
            }
            let message = message(text(metadata));
            let expected = if key == "x:gain" { expected.to_owned() } else { expected.replace("11", "21") };
            assert!(message.contains(&expected), "{message}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let metadata = r#"{"global": {"core:datatype": "cu8"}, "captures": []}"#;
    assert_eq!(text(format!("\u{feff}{metadata}")).unwrap().len(), 10);
    message(text(format!("\u{feff}\u{feff}{metadata}")));
}

#[test]
fn a_required_extension_is_named() {
    let folder = TempDir::new().unwrap();
    for (extensions, named) in [
        (json!([{"name": "scrambler", "version": "2.0.0", "optional": false}]), Some("\"scrambler\"")),
        (
            json!([{"name": "a", "optional": true}, {"name": "b\u{1b}", "optional": false}]),
            Some("\"b\\u001b\""),
        ),
        (json!([{"name": "antenna", "version": "1.0.0", "optional": true}]), None),
        (json!([{"name": "antenna"}]), None),
        (json!({"antenna": "v0.9.0"}), None),
        (json!(null), None),
    ] {
        let recording = sigmf(folder.path(), json!({"core:extensions": extensions}), json!([]), 20).unwrap();
        match named {
            Some(named) => assert!(recording.warnings[0].contains(named), "{:?}", recording.warnings),
            None => assert!(recording.warnings.is_empty(), "{:?}", recording.warnings),
        }
    }
}

#[test]
fn times_may_be_finer_than_nanoseconds_and_leap() {
    let folder = TempDir::new().unwrap();
    for (text, expected) in [
        ("2021-05-05T10:00:00.98765432109876Z", Some("2021-05-05T10:00:00.987654321Z")),
        ("2021-05-05T10:00:00.98765432109876", Some("2021-05-05T10:00:00.987654321Z")),
        ("2012-06-30T23:59:60.25Z", Some("2012-07-01T00:00:00.25Z")),
        ("1620208800", None),
    ] {
        let captures = json!([{"core:sample_start": 0, "core:datetime": text}]);
        let recording = sigmf(folder.path(), json!({}), captures, 20).unwrap();
        let time = read(&recording, FRAME)[0].datetime.map(|time| time.to_string());
        assert_eq!(
            (time.as_deref(), recording.warnings.len()),
            (expected, usize::from(expected.is_none())),
            "{text}"
        );
    }
}

#[test]
fn data_overrides_metadata_only() {
    let folder = TempDir::new().unwrap();
    let global = json!({"core:metadata_only": true});
    assert_eq!(sigmf(folder.path(), global, json!([]), 20).unwrap().len(), 10);
    let global = json!({"core:metadata_only": true, "core:dataset": "iq.bin"});
    let message = message(sigmf(folder.path(), global.clone(), json!([]), 20));
    assert!(message.contains("core:metadata_only"), "{message}");
    fs::write(folder.path().join("iq.bin"), counting(12)).unwrap();
    assert_eq!(sigmf(folder.path(), global, json!([]), 20).unwrap().len(), 6);
}

#[test]
fn trailing_bytes_are_reported_of_the_data_file() {
    let folder = TempDir::new().unwrap();
    let recording = sigmf(folder.path(), json!({}), json!([]), 21).unwrap();
    assert!(recording.warnings[0].contains("x.sigmf-data: the last 1 bytes"), "{:?}", recording.warnings);
}
