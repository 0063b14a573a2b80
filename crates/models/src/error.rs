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
    /// External data outside the bundle.
    #[error("model.onnx has external data in `{location}`, {}, outside the bundle's folder: put it beside \
        model.onnx", path.display())]
    Outside {
        /// Its location in the ONNX file.
        location: String,
        /// The path it resolves to.
        path: PathBuf,
    },
    /// External data that is not a regular file.
    #[error("model.onnx has external data in {}, which is not a file", .0.display())]
    NoFile(PathBuf),
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
