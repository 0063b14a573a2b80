//! Outcomes as annotations of SigMF, without the samples they are about.
//!
//! Each source has a metadata file, and a new one after many annotations or where an outcome is older than
//! what was written. Its one capture states the time of the first outcome, and `core:sample_rate` is a
//! million, so that `core:sample_start` counts microseconds from then. The file is complete after every
//! annotation.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use lru::LruCache;
use serde_json::{Value, json};
use sferic_recording::ring::Name;

use super::super::outcome::Outcome;

/// Annotations of a file.
const MOST: usize = 50_000;

/// Outcomes that are put into order.
const PENDING: usize = 256;

/// How long an outcome waits for older ones.
const ORDERED_WITHIN: Duration = Duration::from_secs(2);

/// Sources whose files are known; one that comes again after so many others begins a new file.
const KNOWN: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

/// What a file ends with.
const END: &str = "\n]}\n";

/// Writes annotations into a folder.
pub struct Annotations {
    folder: PathBuf,
    sources: LruCache<String, Source>,
    /// Counts the files.
    files: u64,
    written: u64,
    arrived: u64,
}

/// A source's outcomes that are to be written, by their time, and its file.
#[derive(Default)]
struct Source {
    pending: BTreeMap<(Timestamp, u64), (Instant, Value)>,
    file: Option<Annotated>,
}

struct Annotated {
    path: PathBuf,
    start: Timestamp,
    last: Timestamp,
    annotations: usize,
    /// Where the end begins.
    end: u64,
}

impl Annotations {
    /// Opens the folder, which is made where there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("--sigmf: cannot make {}", folder.display()))?;
        let sources = LruCache::new(KNOWN);
        Ok(Self { folder: folder.to_owned(), sources, files: 0, written: 0, arrived: 0 })
    }

    /// Adds an outcome, which came now.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, outcome: &Outcome, now: Instant) -> anyhow::Result<()> {
        let text = |key: &str| outcome.get(key).and_then(|value| value.as_str());
        let time = |key: &str| text(key)?.parse::<Timestamp>().ok();
        let at = time("datetime").or_else(|| time("timestamp")).unwrap_or_else(Timestamp::now);
        let source = text("source").unwrap_or_default().to_owned();
        if !self.sources.contains(&source) {
            // The one that was quiet for longest makes room.
            let pushed = self.sources.push(source.clone(), Source::default());
            if let Some((name, mut old)) = pushed.filter(|(name, _)| *name != source) {
                self.written += old.write(&self.folder, &name, &mut self.files, |_, _| true)?;
            }
        }
        let of = self.sources.get_mut(&source).context("a source that was just added is not there")?;
        self.arrived += 1;
        of.pending.insert((at, self.arrived), (now, annotation(outcome)));
        let is_due = |_, waiting| waiting > PENDING;
        self.written += of.write(&self.folder, &source, &mut self.files, is_due)?;
        Ok(())
    }

    /// Writes what has waited for long enough.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_due(&mut self, now: Instant) -> anyhow::Result<()> {
        for (name, source) in &mut self.sources {
            let is_due = |came: Instant, _| now.saturating_duration_since(came) >= ORDERED_WITHIN;
            self.written += source.write(&self.folder, name, &mut self.files, is_due)?;
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(mut self) -> anyhow::Result<String> {
        for (name, source) in &mut self.sources {
            self.written += source.write(&self.folder, name, &mut self.files, |_, _| true)?;
        }
        let folder = self.folder.display();
        Ok(format!("{} annotations in {} files of {folder}", self.written, self.files))
    }
}

impl Source {
    /// Writes the oldest outcomes for as long as they are due, by when they came and how many wait; how many.
    fn write(
        &mut self,
        folder: &Path,
        source: &str,
        files: &mut u64,
        is_due: impl Fn(Instant, usize) -> bool,
    ) -> anyhow::Result<u64> {
        let mut written = 0;
        while let Some(((at, number), (came, annotation))) = self.pending.pop_first() {
            if !is_due(came, self.pending.len() + 1) {
                self.pending.insert((at, number), (came, annotation));
                break;
            }
            let open = self.file.take().filter(|open| open.annotations < MOST && at >= open.last);
            let mut open = match open {
                Some(open) => open,
                None => {
                    *files += 1;
                    Annotated::create(folder, source, at, *files)?
                }
            };
            open.add(at, annotation)?;
            self.file = Some(open);
            written += 1;
        }
        Ok(written)
    }
}

impl Annotated {
    fn create(folder: &Path, source: &str, start: Timestamp, number: u64) -> anyhow::Result<Self> {
        let path = Name::new(source, start, number).metadata(folder);
        let description = "outcomes of sferic; sample_start counts microseconds from the capture's time";
        let global = json!({
            "core:version": "1.2.0",
            "core:datatype": "cf32_le",
            "core:sample_rate": 1e6,
            "core:metadata_only": true,
            "core:description": description,
            "core:extensions": [{"name": "sferic", "version": "1.0.0", "optional": true}],
            "sferic:source": source,
        });
        let captures = json!([{"core:sample_start": 0, "core:datetime": start.to_string()}]);
        let begin = format!("{{\"global\": {global},\n\"captures\": {captures},\n\"annotations\": [");
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = created.with_context(|| format!("cannot make {}", path.display()))?;
        if let Err(error) = file.write_all(format!("{begin}{END}").as_bytes()) {
            // A part of it would be no file of SigMF.
            _ = fs::remove_file(&path);
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        Ok(Self { path, start, last: start, annotations: 0, end: begin.len() as u64 })
    }

    fn add(&mut self, at: Timestamp, mut annotation: Value) -> anyhow::Result<()> {
        let microseconds = (at.as_nanosecond() - self.start.as_nanosecond()) / 1000;
        annotation["core:sample_start"] = i64::try_from(microseconds).unwrap_or(i64::MAX).into();
        let separator = if self.annotations > 0 { "," } else { "" };
        let text = format!("{separator}\n{annotation}");
        let shown = || format!("cannot write {}", self.path.display());
        let mut file = OpenOptions::new().write(true).open(&self.path).with_context(shown)?;
        let mut write = |text: &str| {
            file.seek(SeekFrom::Start(self.end))?;
            file.write_all(format!("{text}{END}").as_bytes())
        };
        if let Err(error) = write(&text) {
            // The file stays complete without it.
            _ = write("");
            _ = file.set_len(self.end + END.len() as u64);
            return Err(error).with_context(shown);
        }
        self.end += text.len() as u64;
        (self.last, self.annotations) = (at, self.annotations + 1);
        Ok(())
    }
}

fn annotation(outcome: &Outcome) -> Value {
    let outcome: Value = serde_json::from_str(&outcome.json()).unwrap_or_default();
    let label = [&outcome["labels"][0]["label"], &outcome["code"], &outcome["kind"]];
    let label = label.into_iter().find(|label| label.is_string()).cloned().unwrap_or_default();
    let comment = format!("frame {}", outcome["frame_id"].as_str().unwrap_or_default());
    json!({"core:label": label, "core:comment": comment, "sferic:outcome": outcome})
}

#[cfg(test)]
mod tests {
    use super::super::super::outcome::tests::outcome;
    use super::*;

    fn read(folder: &Path) -> Vec<Value> {
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
    }

    fn at(seconds: &str, source: &str) -> Outcome {
        outcome(&format!(
            r#"{{"kind":"classification","frame_id":"{seconds}","source":"{source}",
                "labels":[{{"label":"am"}}],"datetime":"2026-11-28T00:00:{seconds}Z"}}"#
        ))
    }

    #[test]
    fn annotations_are_in_the_order_of_their_times() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut annotations = Annotations::open(folder.path()).unwrap();
        let begin = Instant::now();
        for seconds in ["10", "11.5", "11", "13.25"] {
            annotations.add(&at(seconds, "north.rx2"), begin).unwrap();
        }
        annotations.write_due(begin + ORDERED_WITHIN / 2).unwrap();
        assert!(read(folder.path()).is_empty());
        // What is due is there before the end, in a file that is complete.
        annotations.write_due(begin + ORDERED_WITHIN).unwrap();
        assert_eq!(read(folder.path())[0]["annotations"].as_array().unwrap().len(), 4);
        for seconds in ["20", "12"] {
            annotations.add(&at(seconds, "north.rx2"), begin + ORDERED_WITHIN).unwrap();
        }
        assert!(annotations.close().unwrap().starts_with("6 annotations in 2 files"));
        let files = read(folder.path());
        let starts = |file: &Value| -> Vec<i64> {
            let all = file["annotations"].as_array().unwrap().iter();
            all.map(|each| each["core:sample_start"].as_i64().unwrap()).collect()
        };
        // The one that came too late begins another file.
        assert_eq!(starts(&files[0]), [0, 1_000_000, 1_500_000, 3_250_000]);
        assert_eq!(files[0]["captures"][0]["core:datetime"], "2026-11-28T00:00:10Z");
        assert_eq!(starts(&files[1]), [0, 8_000_000]);
        assert_eq!(files[0]["annotations"][1]["core:label"], "am");
        assert_eq!(files[0]["annotations"][1]["sferic:outcome"]["frame_id"], "11");
        assert_eq!(files[0]["global"]["sferic:source"], "north.rx2");
    }

    #[test]
    fn sources_have_files_of_their_own_however_many_there_are() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut annotations = Annotations::open(folder.path()).unwrap();
        let now = Instant::now();
        for seconds in ["10", "11"] {
            for n in 0..200 {
                annotations.add(&at(seconds, &format!("s{n}")), now).unwrap();
            }
            annotations.write_due(now + ORDERED_WITHIN).unwrap();
        }
        assert!(annotations.close().unwrap().starts_with("400 annotations in 200 files"));
        assert_eq!(read(folder.path()).len(), 200);
    }
}
