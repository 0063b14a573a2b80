//! Why a recording cannot be read, each with what would be accepted.

use std::io;
use std::path::{Path, PathBuf};

use super::name::{datatype_list, extension_list};

/// A recording that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder where a file is needed.
    #[error(
        "{} is a folder, give the files themselves, such as {}/*.sigmf-meta",
        path.display(),
        path.display()
    )]
    Folder {
        /// What was given.
        path: PathBuf,
    },
    /// A pipe or device where a file is needed.
    #[error(
        "{} is a pipe or device, read it as standard input: sferic publish - < {}",
        path.display(),
        path.display()
    )]
    Pipe {
        /// What was given.
        path: PathBuf,
    },
    /// A file whose format its name does not say.
    #[error(
        "{}: cannot tell the datatype from {}; supported are SigMF (.sigmf-meta, .sigmf-data, .sigmf), \
         WAV and raw IQ ({}); any other raw IQ file needs --datatype ({})",
        path.display(), extension_of(path), extension_list(), datatype_list()
    )]
    UnknownExtension {
        /// The file.
        path: PathBuf,
    },
    /// A format that is known, and not raw IQ.
    #[error(
        "{}: {format} files (.{}) are not supported; supported are SigMF (.sigmf-meta, .sigmf-data, .sigmf), \
         WAV and raw \
         IQ ({})",
        path.display(), path.extension().unwrap_or_default().to_string_lossy(), extension_list()
    )]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format's name.
        format: &'static str,
    },
    /// A datatype that no frame can have.
    #[error("{}: unsupported datatype {name:?}, supported: {}", path.display(), datatype_list())]
    UnsupportedDatatype {
        /// The metadata file.
        path: PathBuf,
        /// What `core:datatype` says.
        name: String,
    },
    /// What describes the samples cannot be used: SigMF metadata, an archive or a header.
    #[error("{}: {reason}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No whole sample in it.
    #[error("{data} holds no samples")]
    Empty {
        /// Where they should be.
        data: String,
    },
}

impl RecordingError {
    /// Whether the command line was wrong, rather than the recording.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Folder { .. }
                | Self::Pipe { .. }
                | Self::UnknownExtension { .. }
                | Self::UnsupportedFormat { .. }
        )
    }

    /// The message with what the operating system said.
    pub(super) fn with_cause(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }

    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: "read", path: path.to_owned(), source }
    }

    pub(super) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: "write", path: path.to_owned(), source }
    }

    pub(super) fn metadata(path: &Path, reason: impl ToString) -> Self {
        Self::Metadata { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The extension as messages name it: `.xyz`, or that there is none.
fn extension_of(path: &Path) -> String {
    path.extension().map_or_else(
        || "a name without extension".to_owned(),
        |extension| format!("the extension .{}", extension.to_string_lossy()),
    )
}
