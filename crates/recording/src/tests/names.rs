//! Files by their names: companions, and what a raw file's name says.

use super::*;

const METADATA: &str = r#"{"global": {"core:datatype": "cu8"}, "captures": []}"#;

#[test]
fn companions_are_found_in_either_case() {
    for (metadata, data) in [
        ("R.SIGMF-META", "R.SIGMF-DATA"),
        ("r.sigmf-meta", "r.Sigmf-Data"),
        ("R.Sigmf-Meta", "R.sigmf-data"),
        ("r.sigmf-META", "r.SigMF-data"),
    ] {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(metadata), METADATA).unwrap();
        fs::write(folder.path().join(data), counting(20)).unwrap();
        for given in [metadata, data] {
            let recording = &open(&folder.path().join(given), &Overrides::default()).unwrap()[0];
            assert_eq!((recording.len(), &recording.data.path), (10, &folder.path().join(data)), "{given}");
        }
    }
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("r.sigmf-meta"),
        METADATA.replace("\"cu8\"", "\"cu8\", \"core:dataset\": \"r.bin\""),
    )
    .unwrap();
    fs::write(folder.path().join("r.BIN"), counting(20)).unwrap();
    assert_eq!(open(&folder.path().join("r.sigmf-meta"), &Overrides::default()).unwrap()[0].len(), 10);
}

#[test]
fn data_without_metadata_is_raw_where_its_datatype_is_given() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lost_433.92M_250k.sigmf-data");
    fs::write(&path, counting(20)).unwrap();
    let overrides = Overrides { datatype: Some(Datatype::Cu8), ..Overrides::default() };
    let recording = &open(&path, &overrides).unwrap()[0];
    assert_eq!((recording.len(), recording.sample_rate), (10, Some(250e3)));
    assert!(recording.warnings[0].contains("lost_433.92M_250k.sigmf-meta"), "{:?}", recording.warnings);
    assert!(message(open(&path, &Overrides::default())).contains("sigmf-meta"));
    fs::write(folder.path().join("lost_433.92M_250k.sigmf-meta"), METADATA).unwrap();
    let recording = &open(&path, &overrides).unwrap()[0];
    assert_eq!((recording.sample_rate, recording.warnings.len()), (None, 0));
}

#[test]
fn what_is_read_from_a_name_is_reported() {
    let folder = TempDir::new().unwrap();
    let opened = |name: &str, overrides: &Overrides| {
        let path = folder.path().join(name);
        fs::write(&path, counting(32)).unwrap();
        open(&path, overrides).unwrap().remove(0)
    };
    let recording = opened("r_868.3M_1M.cs8", &Overrides::default());
    assert!(
        recording.notes[0].contains("sample rate 1000000 Hz, centre frequency 868300000 Hz"),
        "{:?}",
        recording.notes
    );
    let rate = Overrides { sample_rate: Some(2e6), ..Overrides::default() };
    let recording = opened("r_868.3M_1M.cs8", &rate);
    assert_eq!(recording.sample_rate, Some(2e6));
    assert!(!recording.notes[0].contains("rate"), "{:?}", recording.notes);

    let recording = opened("dvbt_8M.cs8", &Overrides::default());
    assert_eq!((recording.sample_rate, recording.streams[0].frequency), (None, None));
    assert!(
        recording.notes[0].contains("may be a rate, a frequency or a bandwidth"),
        "{:?}",
        recording.notes
    );
    assert_eq!(opened("plain.cs8", &Overrides::default()).notes, [""; 0]);
    assert_eq!(opened("dvbt_8M.cs8", &rate).notes, [""; 0]);
}

#[test]
fn names_of_gqrx_are_read_with_and_without_a_datatype() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gqrx_20230607_080910_145500000_1800000_fc.raw");
    fs::write(&path, counting(32)).unwrap();
    for (datatype, expected) in [(None, Datatype::Cf32Le), (Some(Datatype::Cu8), Datatype::Cu8)] {
        let recording = &open(&path, &Overrides { datatype, ..Overrides::default() }).unwrap()[0];
        assert_eq!((recording.datatype, recording.sample_rate), (expected, Some(1.8e6)));
        assert_eq!((recording.streams[0].frequency, recording.notes.len()), (Some(145.5e6), 1));
    }
}
