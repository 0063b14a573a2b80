//! Why a bundle is refused.

use std::path::PathBuf;

/// Why a bundle can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file can't be read.
    #[error("can't read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: std::io::Error,
    },
    /// A file is a pointer of Git LFS.
    #[error("{} is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`", .0.display())]
    LfsPointer(PathBuf),
    /// The ONNX file can't be parsed.
    #[error("can't load model.onnx: it is no ONNX file ({0})")]
    NoOnnx(String),
    /// A file outside the bundle.
    #[error("{what} `{location}`, {}, outside the bundle's folder: put it beside model.onnx", path.display())]
    Outside {
        /// Where it is named.
        what: &'static str,
        /// Its location, relative to the folder.
        location: String,
        /// The path it resolves to.
        path: PathBuf,
    },
    /// What is not a regular file.
    #[error("{what} {}, which is not a file", path.display())]
    NoFile {
        /// Where it is named.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// More bytes than a bundle may have.
    #[error("the bundle's files up to {} have {bytes} bytes, over models.max_bytes, {most}", path.display())]
    TooLarge {
        /// The file with which they are too many.
        path: PathBuf,
        /// All of them up to this one.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A file of golden cases that can't be used.
    #[error("golden cases in {}: {error}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// In words.
        error: String,
    },
    /// `model.toml` is wrong.
    #[error("model.toml: {0}")]
    Config(String),
    /// The ONNX file is not the one `model.toml` was written for.
    #[error(
        "model.onnx{} sha256 {got}, model.toml states {stated}",
        if *external { " with its external data has" } else { " has" }
    )]
    Digest {
        /// See [`OnnxFile::digest`](crate::OnnxFile::digest).
        got: String,
        /// The digest stated in the bundle.
        stated: String,
        /// Whether there is external data.
        external: bool,
    },
}
