//! Optimised graphs kept on disk: a model that was opened before on the same library and processor opens
//! without being optimised again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sferic_models::{OnnxFile, hexadecimal};
use sha2::{Digest, Sha256};

use super::library::Runtime;

/// Graphs that are kept; beyond, those that were not used for the longest time go.
const KEPT: usize = 64;

/// The folder, which is this user's alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GraphCache<'a>(pub &'a Path);

impl GraphCache<'_> {
    /// The optimised graph of a file; `None` where there is none yet.
    pub(crate) fn read(self, runtime: &Runtime, onnx: &OnnxFile) -> Option<OnnxFile> {
        let path = self.path(runtime, onnx);
        let graph = fs::read(&path).ok()?;
        // Used just now, for `sweep`.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(OnnxFile::new(graph))
    }

    /// Keeps the optimised graph that `write` puts into a file. It gets its name only once it is whole.
    pub(crate) fn keep(
        self,
        runtime: &Runtime,
        onnx: &OnnxFile,
        write: impl FnOnce(&Path) -> Result<(), ort::Error>,
    ) -> Result<(), String> {
        let path = self.path(runtime, onnx);
        let words = |error: std::io::Error| format!("{}: {error}", self.0.display());
        private(self.0).map_err(words)?;
        let aside = tempfile::tempdir_in(self.0).map_err(words)?;
        let file = aside.path().join("graph.onnx");
        write(&file).map_err(|error| error.to_string())?;
        fs::rename(&file, &path).map_err(words)?;
        self.sweep();
        Ok(())
    }

    /// Forgets the graph of a file, which cannot be opened.
    pub(crate) fn forget(self, runtime: &Runtime, onnx: &OnnxFile) {
        let _ = fs::remove_file(self.path(runtime, onnx));
    }

    fn path(self, runtime: &Runtime, onnx: &OnnxFile) -> PathBuf {
        let mut key = Sha256::new();
        key.update(onnx.digest);
        for part in [runtime.build_info(), &runtime.version().unwrap_or_default(), &processor()] {
            key.update((part.len() as u64).to_le_bytes());
            key.update(part);
        }
        self.0.join(format!("{}.onnx", hexadecimal(&key.finalize())))
    }

    fn sweep(self) {
        let Ok(entries) = fs::read_dir(self.0) else { return };
        let files =
            entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "onnx"));
        let mut files: Vec<_> =
            files.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(KEPT) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the folder, readable for this user alone: what is in it runs.
fn private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// What the optimisation depends on of the processor: the blocks of its layouts are as wide as its vectors.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let vectors = [
        std::arch::is_x86_feature_detected!("avx2"),
        std::arch::is_x86_feature_detected!("avx512f"),
        std::arch::is_x86_feature_detected!("avx512vnni"),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = [false; 3];
    format!("{} {vectors:?}", std::env::consts::ARCH)
}
