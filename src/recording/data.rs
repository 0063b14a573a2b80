//! The bytes of a recording: a file, or a part of an archive.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha512};

use super::RecordingError;

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// Where in it the data begins, bytes.
    pub offset: u64,
    /// How much it is, bytes.
    pub len: u64,
}

impl DataFile {
    /// All of a file.
    ///
    /// # Errors
    /// The file is not there or cannot be asked for its size.
    pub fn whole(path: &Path) -> Result<Self, RecordingError> {
        let len = path.metadata().map_err(RecordingError::reading(path))?.len();
        Ok(Self { path: path.to_owned(), offset: 0, len })
    }

    /// The SHA-512 of the data, hexadecimal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sha512(&self) -> Result<String, RecordingError> {
        let digest = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut data = file.take(self.len);
            let mut hasher = Sha512::new();
            let mut block = vec![0; 1 << 16];
            loop {
                match data.read(&mut block)? {
                    0 => return Ok(hex(&hasher.finalize())),
                    read => hasher.update(&block[..read]),
                }
            }
        };
        digest().map_err(RecordingError::reading(&self.path))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
