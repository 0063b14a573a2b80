//! The plan of a `sferic publish` call, made before anything is sent.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

use sferic_recording::{self as recording, Cut, Overrides, Recording, RecordingError};

use super::args::PublishArgs;
use crate::cli::Usage;
use crate::cli::output::Output;
use crate::cli::sending::Rate;

/// A recording and the source it is published as.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The recording.
    pub recording: Recording,
    /// The subject's tokens after `<prefix>.frames.`.
    pub source: String,
    /// Time of its first sample, seconds after the first one of all; 0 where rates are unknown.
    pub starts_at: f64,
}

/// All recordings, in the order of the command line.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The recordings.
    pub recordings: Vec<Planned>,
    /// Length and distance of the frames.
    pub cut: Cut,
}

impl Plan {
    /// Opens every recording and prints its warnings.
    ///
    /// # Errors
    /// A recording that cannot be read; [`Usage`] where it cannot be what was asked for.
    pub fn open(args: &PublishArgs, output: &Output) -> anyhow::Result<Self> {
        let cut = args.cut();
        let overrides = Overrides {
            datatype: args.datatype,
            sample_rate: args.sample_rate,
            frequency: args.frequency,
            geolocation: args.position.clone(),
        };
        let mut opened = Vec::new();
        for path in args.inputs.iter().map(Path::new) {
            opened.extend(
                recording::open(path, &overrides)
                    .map_err(usage)?
                    .into_iter()
                    .map(|recording| (path, recording)),
            );
        }
        let mut recordings = Vec::new();
        let mut starts_at = 0.0;
        for recording in without_companions(opened) {
            let data = &recording.data;
            if args.rate == Some(Rate::Realtime) && recording.sample_rate.is_none() {
                return Err(Usage(format!(
                    "{data}: --rate realtime needs the sample rate, give --sample-rate"
                ))
                .into());
            }
            for note in &recording.notes {
                output.say(note);
            }
            for warning in recording.warnings.iter().chain(recording.digest_mismatch()?.iter()) {
                output.say(format!("warning: {warning}"));
            }
            let tail = recording.tail(cut);
            if tail > 0 {
                output.say(format!("{data}: {tail} samples at the end make no whole frame and are not sent"));
            }
            let seconds = recording.sample_rate.map_or(0.0, |rate| recording.len() as f64 / rate);
            let source = args.source.clone().unwrap_or_else(|| source_of(&recording.name));
            recordings.push(Planned { recording, source, starts_at });
            // Recordings of one emission begin together.
            if args.session.is_none() {
                starts_at += seconds;
            }
        }
        Ok(Self { recordings, cut })
    }

    /// Number of frames.
    pub fn count(&self) -> u64 {
        self.recordings.iter().map(|planned| planned.recording.count(self.cut)).sum()
    }

    /// Checks the size of the frames against the maximum payload of the server.
    ///
    /// # Errors
    /// Both sizes, and what to do.
    pub fn check_size(&self, max_payload: usize) -> anyhow::Result<()> {
        for Planned { recording, .. } in &self.recordings {
            let bytes = recording.longest_frame(self.cut);
            check_size(&recording.data, recording.bytes_per_instant(), bytes, max_payload)?;
        }
        Ok(())
    }
}

/// Checks one message of `source` against the maximum payload of the server.
///
/// # Errors
/// Both sizes, and what to do.
pub fn check_size(
    source: &impl Display,
    bytes_per_instant: u64,
    bytes: u64,
    max_payload: usize,
) -> anyhow::Result<()> {
    // The other keys of a frame take less than this.
    let most = (max_payload as u64).saturating_sub(1024) / bytes_per_instant;
    anyhow::ensure!(
        bytes <= max_payload as u64,
        "{source}: a frame is {bytes} bytes, the server's max_payload is {max_payload}: use --frame-samples \
         {most} or less, or raise it",
    );
    Ok(())
}

fn usage(error: RecordingError) -> anyhow::Error {
    if error.is_usage() { Usage(error.to_string()).into() } else { error.into() }
}

/// Removes data files whose metadata file is listed too, as the `*` of a shell does; the metadata says more.
fn without_companions(opened: Vec<(&Path, Recording)>) -> impl Iterator<Item = Recording> {
    let is_metadata =
        |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sigmf-meta"));
    // One file may be named in several ways.
    let data = |recording: &Recording| {
        recording.data.path.canonicalize().unwrap_or_else(|_| recording.data.path.clone())
    };
    let stated: HashSet<PathBuf> =
        opened.iter().filter(|(path, _)| is_metadata(path)).map(|(_, recording)| data(recording)).collect();
    let kept = opened
        .into_iter()
        .filter(move |(path, recording)| is_metadata(path) || !stated.contains(&data(recording)));
    kept.map(|(_, recording)| recording)
}

/// Encodes a file name as one subject token, unambiguously: letters, digits, `-` and `_` stay, every other
/// byte is `=` and two hexadecimal digits. Subjects allow more characters; keys of NATS and file names do
/// not.
pub fn source_of(name: &OsStr) -> String {
    let mut token = String::new();
    for byte in name.as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(char::from(*byte)),
            // Writing to a string cannot fail.
            _ => _ = write!(token, "={byte:02X}"),
        }
    }
    if token.is_empty() { "=".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_tokens() {
        for (name, token) in [
            ("lte_fdd_1860M_1920k_0-25s", "lte_fdd_1860M_1920k_0-25s"),
            ("0.25s", "0=2E25s"),
            ("a b>*é", "a=20b=3E=2A=C3=A9"),
            ("=20", "=3D20"),
            ("", "="),
        ] {
            assert_eq!(source_of(OsStr::new(name)), token);
        }
    }

    proptest! {
        #[test]
        fn two_names_never_give_one_token(one: String, other: String) {
            let [first, second] = [&one, &other].map(|name| source_of(OsStr::new(name)));
            prop_assert_eq!(one == other, first == second);
            prop_assert_eq!(super::super::args::source(&first), Ok(first.clone()));
            prop_assert!(!first.contains('.'));
            // Undone, it is the name again.
            let mut parts = first.split('=');
            let mut name = parts.next().unwrap_or_default().as_bytes().to_vec();
            for part in parts.filter(|part| !part.is_empty()) {
                name.push(u8::from_str_radix(&part[..2], 16).unwrap());
                name.extend(&part.as_bytes()[2..]);
            }
            prop_assert_eq!(name, one.into_bytes());
        }
    }

    #[test]
    fn a_recording_given_by_both_halves_is_sent_once() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |name: &str, contents: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, contents).unwrap();
            path
        };
        let metadata =
            |dataset: &str| format!(r#"{{"global": {{"core:datatype": "cu8"{dataset}}}, "captures": []}}"#);
        let paths = [
            write("a.sigmf-data", "abcd"),
            write("a.SIGMF-META", &metadata("")),
            folder.path().join("..").join(folder.path().file_name().unwrap()).join("a.sigmf-data"),
            write("b.cu8", "abcd"),
            write("b.sigmf-meta", &metadata(r#", "core:dataset": "b.cu8""#)),
            write("c.cu8", "abcd"),
            folder.path().join("c.cu8"),
        ];
        let opened = paths
            .iter()
            .map(|path| (path.as_path(), recording::open(path, &Overrides::default()).unwrap().remove(0)));
        let kept: Vec<_> = without_companions(opened.collect())
            .map(|recording| recording.name.into_string().unwrap())
            .collect();
        assert_eq!(kept, ["a", "b", "c", "c"]);
    }
}
