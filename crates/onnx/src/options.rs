//! Options of loading.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sferic_models::CONFIDENCE_INTERVAL;

/// Options of loading.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of session threads.
    pub sessions: usize,
    /// Threads per operator, including the session thread.
    pub intra_threads: usize,
    /// Maximum batch size to measure.
    pub max_batch: usize,
    /// Execution providers in order of preference.
    pub providers: Vec<ExecutionProvider>,
    /// The probability that the ellipse of a position covers.
    pub confidence_interval: f64,
    /// How many versions of a model are loaded at most.
    pub max_versions: usize,
    /// A version, `name@version`, that is loaded before others.
    pub pinned: Option<String>,
    /// The most bytes that the files of a bundle may have together.
    pub max_bytes: u64,
    /// Folder where optimised graphs are kept; `None`: nowhere.
    pub graphs: Option<PathBuf>,
    /// What a bundle's folder has to pass before it is read.
    pub check: Option<FolderCheck>,
}

/// A check of a bundle's folder, as of its signature; an error says in words what is wrong.
#[derive(Clone)]
pub struct FolderCheck(Arc<CheckFolder>);

type CheckFolder = dyn Fn(&Path) -> Result<(), String> + Send + Sync;

impl FolderCheck {
    /// The check that this function does.
    pub fn new(check: impl Fn(&Path) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Checks a folder.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn run(&self, folder: &Path) -> Result<(), String> {
        (self.0)(folder)
    }
}

impl std::fmt::Debug for FolderCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FolderCheck").finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        let providers = vec![ExecutionProvider::Cpu];
        Self {
            sessions: 1,
            intra_threads: 1,
            max_batch: 8,
            providers,
            confidence_interval: CONFIDENCE_INTERVAL,
            max_versions: 5,
            pinned: None,
            max_bytes: 4 << 30,
            graphs: None,
            check: None,
        }
    }
}

/// Execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionProvider {
    /// Any processor.
    Cpu,
    /// Apple's neural engine and GPU.
    Coreml,
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs, compiled for the card.
    Tensorrt,
    /// Intel processors, GPUs and NPUs.
    Openvino,
    /// Processors, with kernels for small models.
    Xnnpack,
}

impl ExecutionProvider {
    /// All providers, the CPU last.
    pub const ALL: [Self; 6] =
        [Self::Coreml, Self::Cuda, Self::Tensorrt, Self::Openvino, Self::Xnnpack, Self::Cpu];

    /// As it is written in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Coreml => "coreml",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
            Self::Xnnpack => "xnnpack",
        }
    }
}

impl std::fmt::Display for ExecutionProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
