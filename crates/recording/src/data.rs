//! The bytes of a recording: a file, or a part of an archive.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha512};

use super::RecordingError;

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// Its name within the file, where that is an archive.
    pub member: Option<PathBuf>,
    /// Where in it the data begins, bytes.
    pub offset: u64,
    /// How much it is, bytes.
    pub len: u64,
}

/// The file's path, and the member's within an archive.
impl fmt::Display for DataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => self.path.join(member).display().fmt(f),
            None => self.path.display().fmt(f),
        }
    }
}

impl DataFile {
    /// All of a file.
    ///
    /// # Errors
    /// The file is not there or cannot be asked for its size.
    pub fn whole(path: &Path) -> Result<Self, RecordingError> {
        let len = path.metadata().map_err(RecordingError::reading(path))?.len();
        Ok(Self { path: path.to_owned(), member: None, offset: 0, len })
    }

    /// Reads the data from its beginning.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn reader(&self) -> Result<BufReader<File>, RecordingError> {
        let open = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            Ok(BufReader::new(file))
        };
        open().map_err(RecordingError::reading(&self.path))
    }

    /// The SHA-512 of the data, hexadecimal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sha512(&self) -> Result<String, RecordingError> {
        let mut data = self.reader()?.take(self.len);
        let mut hasher = Sha512::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match data.read(&mut block).map_err(RecordingError::reading(&self.path))? {
                0 => return Ok(hex(&hasher.finalize())),
                read => hasher.update(&block[..read]),
            }
        }
    }

    /// Says that its last bytes make no whole sample.
    pub(super) fn partial_sample(&self, bytes: u64) -> String {
        format!("{self}: the last {bytes} bytes make no whole sample and are left out")
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
