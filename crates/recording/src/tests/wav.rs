//! WAV files, whatever they are called.

use super::*;

fn chunk(id: &[u8], body: &[u8]) -> Vec<u8> {
    let padding = if body.len() % 2 == 1 { [0].as_slice() } else { &[] };
    [id, &(body.len() as u32).to_le_bytes(), body, padding].concat()
}

fn format(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut format = [tag, channels].map(u16::to_le_bytes).concat();
    format.extend([rate, rate * u32::from(frame)].map(u32::to_le_bytes).concat());
    format.extend([frame, bits].map(u16::to_le_bytes).concat());
    chunk(b"fmt ", &format)
}

/// The chunk with another number of bytes of a sample.
fn with_block(mut format: Vec<u8>, block: u16) -> Vec<u8> {
    format[20..22].copy_from_slice(&block.to_le_bytes());
    format
}

/// The chunk with another rate, and the bytes a second of the first.
fn with_rate(mut format: Vec<u8>, rate: u32) -> Vec<u8> {
    format[12..16].copy_from_slice(&rate.to_le_bytes());
    format
}

fn kiwi(seconds: u32, nanoseconds: u32) -> Vec<u8> {
    chunk(b"kiwi", &[vec![0, 0], [seconds, nanoseconds].map(u32::to_le_bytes).concat()].concat())
}

fn auxi(start: [u16; 8], centre: u32) -> Vec<u8> {
    let mut auxi = [start, start].concat().into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    auxi.extend([centre, 0, 0, 0, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
    chunk(b"auxi", &auxi)
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"RIFF", &[b"WAVE".to_vec(), chunks.concat()].concat())
}

fn opened(name: &str, bytes: &[u8], overrides: &Overrides) -> Result<Recording, RecordingError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let recording = open(&path, overrides)?.remove(0);
    // Only samples are read: they begin with byte 0.
    let frames = read(&recording, Cut { frame: 1, hop: 1 });
    let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.bytes).collect();
    assert_eq!(bytes, counting((recording.len() * recording.bytes_per_instant()) as usize));
    Ok(recording)
}

#[test]
fn the_header_says_datatype_and_rate() {
    let extensible = {
        let guid = [3u16, 0, 0, 0x10, 0x80, 0, 0xaa, 0x38].map(u16::to_le_bytes).concat();
        let format = format(0xfffe, 2, 96_000, 32)[8..].to_vec();
        chunk(b"fmt ", &[format, vec![22, 0, 32, 0, 3, 0, 0, 0], guid].concat())
    };
    for (format, datatype) in [
        (format(1, 2, 96_000, 16), Datatype::Ci16Le),
        (format(3, 2, 96_000, 32), Datatype::Cf32Le),
        (format(1, 2, 96_000, 8), Datatype::Cu8),
        (format(1, 2, 96_000, 32), Datatype::Ci32Le),
        (format(3, 2, 96_000, 64), Datatype::Cf64Le),
        (extensible, Datatype::Cf32Le),
    ] {
        let bytes =
            riff(&[chunk(b"LIST", b"odd"), format, chunk(b"data", &counting(80)), chunk(b"LIST", b"more")]);
        let rate = Overrides { sample_rate: Some(5.0), ..Overrides::default() };
        for name in ["a_433.92M_250k.wav", "a.cu8", "a.bin"] {
            let recording = opened(name, &bytes, &Overrides::default()).unwrap();
            assert_eq!((recording.datatype, recording.sample_rate), (datatype, Some(96e3)));
            assert_eq!(recording.len() * recording.bytes_per_instant(), 80);
            assert_eq!(
                (recording.streams[0].frequency, recording.warnings.len(), recording.notes.len()),
                (None, 0, 0)
            );
            assert_eq!(opened(name, &bytes, &rate).unwrap().sample_rate, Some(5.0));
            // The flag is wrong unless it says the same.
            let flag = Overrides { datatype: Some(Datatype::Ci16Le), ..Overrides::default() };
            let recording = opened(name, &bytes, &flag).unwrap();
            assert_eq!(recording.datatype, datatype);
            assert_eq!(
                recording.warnings.iter().any(|warning| warning.contains("--datatype")),
                datatype != Datatype::Ci16Le
            );
        }
    }
}

#[test]
fn centre_and_start_are_from_auxi_else_from_the_name() {
    let with = |auxi: Vec<u8>| riff(&[format(1, 2, 96_000, 16), auxi, chunk(b"data", &counting(80))]);
    let start = [2023, 6, 3, 7, 8, 9, 10, 250];
    let (name, named) = ("r_20230607_080910Z_14100kHz_RF.wav", Some("2023-06-07T08:09:10Z"));
    for (bytes, centre, time, said, warnings) in [
        (with(auxi(start, 3_573_000)), Some(3_573e3), Some("2023-06-07T08:09:10.25Z"), 0, 0),
        (with(auxi(start, 0)), Some(14.1e6), Some("2023-06-07T08:09:10.25Z"), 1, 0),
        (with(auxi([0; 8], 3_573_000)), Some(3_573e3), named, 1, 0),
        (with(chunk(b"auxi", "<\0?\0x\0m\0l\0".repeat(16).as_bytes())), Some(14.1e6), named, 1, 1),
        (with(auxi([2023, 6, 3, 7, 8, 9, 10, 32_767], 1)), Some(14.1e6), named, 1, 1),
        (with(chunk(b"auxi", b"short")), Some(14.1e6), named, 1, 1),
        (with(Vec::new()), Some(14.1e6), named, 1, 0),
    ] {
        let recording = opened(name, &bytes, &Overrides::default()).unwrap();
        let stream = &recording.streams[0];
        let start = stream.datetime_at(0, None).map(|time| time.to_string());
        assert_eq!((stream.frequency, start.as_deref()), (centre, time));
        assert_eq!(
            (recording.notes.len(), recording.warnings.len()),
            (said, warnings),
            "{:?}",
            recording.warnings
        );
    }
}

#[test]
fn sizes_that_were_never_written_or_are_wide_are_read() {
    let plain = riff(&[format(1, 2, 96_000, 16), chunk(b"data", &counting(80))]);
    let with = |at: usize, size: u32| {
        let mut bytes = plain.clone();
        bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        bytes
    };
    let data = plain.len() - 84;
    let unfinished = |size: u32| {
        let mut bytes = with(data, size);
        bytes[4..8].copy_from_slice(&36u32.to_le_bytes());
        bytes
    };
    for (bytes, len, warnings) in [
        (with(data, u32::MAX), 20, 1),
        (with(data, 4000), 20, 1),
        (with(data, 40), 10, 0),
        (unfinished(0), 20, 1),
        (plain[..plain.len() - 6].to_vec(), 18, 2),
    ] {
        let recording = opened("a.wav", &bytes, &Overrides::default()).unwrap();
        assert_eq!((recording.len(), recording.warnings.len()), (len, warnings), "{:?}", recording.warnings);
    }
    let sizes = [0u64, 80, 20].map(u64::to_le_bytes).concat();
    for form in [b"RF64", b"BW64"] {
        let mut bytes = riff(&[
            chunk(b"ds64", &sizes),
            format(1, 2, 96_000, 16),
            chunk(b"data", &counting(80)),
            chunk(b"LIST", &[7; 9]),
        ]);
        let at = bytes.len() - 18 - 84;
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes[..4].copy_from_slice(form);
        let recording = opened("a.rf64", &bytes, &Overrides::default()).unwrap();
        assert_eq!((recording.len(), recording.warnings.len()), (20, 0), "{:?}", recording.warnings);
    }
}

#[test]
fn unread_parts_are_reported() {
    let data = chunk(b"data", &counting(80));
    for (bytes, named) in [
        (riff(&[format(1, 2, 96_000, 12), data.clone()]), "12-bit integers, read are"),
        (riff(&[with_block(format(1, 2, 96_000, 16), 6), data.clone()]), "says 6 bytes for 2 channels of 16"),
        (riff(&[format(1, 2, 0, 16), data.clone()]), "says 0 samples per second"),
        (
            riff(&[with_rate(format(1, 2, 96_000, 16), 12_345), data.clone()]),
            "12345 samples of 4 bytes, which are 49380",
        ),
        (riff(&[format(3, 2, 96_000, 16), data.clone()]), "16-bit floats, read are"),
        (riff(&[format(6, 2, 8000, 8), data.clone()]), "format 6"),
        (riff(&[format(1, 1, 96_000, 16), data.clone()]), "1 channels, IQ has 2"),
        (riff(std::slice::from_ref(&data)), "without a whole fmt chunk"),
        (riff(&[format(1, 2, 96_000, 16)]), "without a data chunk"),
        (riff(&[format(1, 2, 96_000, 16), chunk(b"data", &[])]), "no samples"),
        (chunk(b"RIFF", b"AVI LIST"), "\"AVI \", only WAVE"),
        (b"RIFF\x04\0\0\0".to_vec(), "only WAVE"),
    ] {
        let flag = Overrides { datatype: Some(Datatype::Ci16Le), ..Overrides::default() };
        for overrides in [Overrides::default(), flag] {
            let message = message(opened("a.wav", &bytes, &overrides));
            assert!(message.contains(named), "{message}");
        }
    }
    // Any bytes after the header are an error or samples, never a crash.
    for cut in 0..60 {
        let whole = riff(&[auxi([2023; 8], 1), format(1, 2, 96_000, 16), data.clone()]);
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("a.wav"), &whole[..cut]).unwrap();
        open(&folder.path().join("a.wav"), &Overrides::default()).unwrap_err();
    }
}

#[test]
fn a_dataset_in_wav_is_read_without_its_header() {
    let folder = TempDir::new().unwrap();
    let bytes = riff(&[format(1, 2, 96_000, 16), chunk(b"data", &counting(80)), chunk(b"LIST", b"more")]);
    fs::write(folder.path().join("a.wav"), &bytes).unwrap();
    let header = bytes.len() as u64 - 80 - 12;
    for (stated, warns) in [(0, true), (header, false)] {
        let global = json!({"core:datatype": "ci16_le", "core:dataset": "a.wav", "core:trailing_bytes": 12});
        let captures = json!([{"core:sample_start": 0, "core:header_bytes": stated}]);
        let recording = sigmf(folder.path(), global, captures, 0).unwrap();
        assert_eq!(recording.streams[0].spans, [ByteSpan { byte: header, len: 20 }]);
        assert_eq!(recording.warnings.iter().any(|warning| warning.contains("core:header_bytes")), warns);
    }
}

#[test]
fn samples_of_24_bits_are_the_same_share_of_full_scale() {
    let folder = TempDir::new().unwrap();
    let values = [0i32, 1, -1, 0x7f_ffff, -0x80_0000, 0x12_3456];
    let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()[..3].to_vec()).collect();
    let path = folder.path().join("a.wav");
    fs::write(&path, riff(&[format(1, 2, 96_000, 24), chunk(b"data", &packed)])).unwrap();
    let recording = &open(&path, &Overrides::default()).unwrap()[0];
    assert_eq!((recording.datatype, recording.len(), recording.warnings.len()), (Datatype::Ci32Le, 3, 0));
    let frames = read(recording, Cut { frame: 2, hop: 1 });
    let read: Vec<Vec<i32>> = frames
        .iter()
        .map(|frame| frame.bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect())
        .collect();
    let wide = values.map(|value| value << 8);
    assert_eq!(read, [&wide[..4], &wide[2..]]);
    assert_eq!(recording.longest_frame(Cut { frame: 2, hop: 1 }), 16);
}

#[test]
fn pieces_of_kiwisdr_are_read_with_their_times() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("20200813T065220Z_77500_HB9ODP_iq.wav");
    // Thursday, 18 s ahead of UTC; 6 samples a piece at 1 kS/s. The first two stamps are stale, and before
    // the fifth piece two seconds are missing.
    let second = 4 * 86_400 + 6 * 3600 + 52 * 60 + 20 + 18;
    let times = [(7, 0), (8, 0), (second, 512_000_000), (second, 518_000_000), (second + 2, 524_000_000)];
    let bytes = counting(24 * 5);
    let mut chunks = vec![format(1, 2, 1000, 16)];
    for ((seconds, nanoseconds), piece) in times.into_iter().zip(bytes.chunks(24)) {
        chunks.extend([kiwi(seconds, nanoseconds), chunk(b"data", piece)]);
    }
    fs::write(&path, riff(&chunks)).unwrap();
    let recording = &open(&path, &Overrides::default()).unwrap()[0];
    let lens: Vec<_> = recording.streams.iter().map(|stream| (stream.frequency, stream.len())).collect();
    assert_eq!(lens, [(Some(77.5e3), 24), (Some(77.5e3), 6)]);
    assert!(recording.warnings.is_empty(), "{:?}", recording.warnings);
    let frames = read(recording, Cut { frame: 1, hop: 1 });
    assert_eq!(frames.iter().flat_map(|frame| frame.bytes.clone()).collect::<Vec<_>>(), bytes);
    let at = |index: usize| frames[index].datetime.unwrap().to_string();
    assert_eq!(at(0), "2020-08-13T06:52:20.5Z");
    assert_eq!(at(17), "2020-08-13T06:52:20.517Z");
    assert_eq!(at(24), "2020-08-13T06:52:22.524Z");
    // A name without a date: the week is not known.
    let other = folder.path().join("other.wav");
    fs::copy(&path, &other).unwrap();
    let recording = &open(&other, &Overrides::default()).unwrap()[0];
    assert!(recording.warnings[0].contains("GPS times are left out"), "{:?}", recording.warnings);
    assert_eq!((recording.streams.len(), recording.streams[0].datetime_at(0, Some(1e3))), (1, None));
}
