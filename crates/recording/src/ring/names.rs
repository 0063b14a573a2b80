//! Names of the recordings of a ring.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Longest part of a name that is the source's; file systems take 255 bytes.
const MAX_SOURCE: usize = 160;

/// `<source>_<start>_<number>`, as `north.rx2_20261128T183000.250Z_12`. In order of their starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    start: String,
    /// Counts a ring's recordings.
    pub number: u64,
    source: String,
}

impl Name {
    /// The name of a source's recording that begins then.
    pub fn new(source: &str, start: Timestamp, number: u64) -> Self {
        let mut token = String::new();
        for byte in source.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => token.push(char::from(byte)),
                // Writing to a string cannot fail.
                _ => _ = write!(token, "={byte:02X}"),
            }
        }
        token.truncate(MAX_SOURCE);
        // A file that begins with a point is hidden.
        if token.starts_with('.') {
            token.replace_range(..1, "=2E");
        }
        Self { start: start.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(), number, source: token }
    }

    /// The name of which a file is the data or the metadata; `None` for a file that is no ring's.
    pub fn of_file(path: &Path) -> Option<Self> {
        let stem = match path.extension()?.to_str()? {
            "sigmf-data" | "sigmf-meta" => path.file_stem()?.to_str()?,
            _ => return None,
        };
        let (rest, number) = stem.rsplit_once('_')?;
        let (source, start) = rest.rsplit_once('_')?;
        let is_start = start.len() == "20261128T183000.250Z".len()
            && start.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'.',
                19 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        let number = number.parse().ok().filter(|_| is_start)?;
        Some(Self { start: start.to_owned(), number, source: source.to_owned() })
    }

    /// Where its samples are.
    pub fn data(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}_{}_{}.sigmf-data", self.source, self.start, self.number))
    }

    /// Where what is known of them is.
    pub fn metadata(&self, folder: &Path) -> PathBuf {
        self.data(folder).with_extension("sigmf-meta")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_left_alone() {
        let start = "2026-11-28T18:30:00.25Z".parse().unwrap();
        for source in ["north.rx2", "a_b_1", "t.a/b>c", ".hidden", &"x".repeat(1000)] {
            let name = Name::new(source, start, 12);
            let data = name.data(Path::new("d"));
            assert_eq!(Name::of_file(&data), Some(name.clone()), "{source}");
            assert_eq!(Name::of_file(&name.metadata(Path::new("d"))), Some(name));
            assert!(data.file_name().unwrap().len() < 255 && data.parent() == Some(Path::new("d")));
        }
        assert_eq!(
            Name::new("north.rx2", start, 12).data(Path::new("")),
            Path::new("north.rx2_20261128T183000.250Z_12.sigmf-data")
        );
        for other in [
            "mine.sigmf-meta",
            "north_20261128T183000Z_12.sigmf-data",
            "north_20261128T183000.250Z_x.sigmf-data",
            "north_20261128T183000.250Z_12.cu8",
            "20261128T183000.250Z_12.sigmf-data",
        ] {
            assert_eq!(Name::of_file(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn older_recordings_come_first() {
        let at = |text: &str, number| Name::new("z", text.parse().unwrap(), number);
        let mut names =
            [at("2026-11-28T18:30:01Z", 3), at("2026-11-28T18:30:00Z", 10), at("2026-11-28T18:30:00Z", 9)];
        names.sort();
        assert_eq!(names.map(|name| name.number), [9, 10, 3]);
    }
}
