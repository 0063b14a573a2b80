//! ONNX Runtime itself: finding the shared library and the one environment of the process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

/// The library's file name on this platform.
const FILE: &str = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

/// The loaded ONNX Runtime. There is one per process; clones share it.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
}

/// Why ONNX Runtime can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// It was not found.
    #[error(
        "no ONNX Runtime library: looked for {}; run ops/setup, or set onnx.library or ORT_DYLIB_PATH",
        list(tried)
    )]
    Missing {
        /// The paths tried.
        tried: Vec<PathBuf>,
    },
    /// The library cannot be loaded.
    #[error(
        "can't use the ONNX Runtime library {}: {error}; run ops/setup for one that fits",
        library.display()
    )]
    Unusable {
        /// The file.
        library: PathBuf,
        /// The error of the loader.
        error: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Runtime {
    /// Loads the library from `configured`, else `ORT_DYLIB_PATH`, else from the
    /// [places](crate::tools::places) of what `ops/setup` fetches, else from the system's search path. A path
    /// that is configured has no fallback. The first call in a process decides.
    ///
    /// # Errors
    /// [`LibraryError`], which says what to do.
    pub fn open(configured: Option<&Path>) -> Result<Self, LibraryError> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        // Two concurrent calls would both build an environment, and the second is an error.
        static OPENING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime.clone());
        }
        let library = find(configured)?;
        let unusable = |error: String| LibraryError::Unusable { library: library.clone(), error };
        let environment = ort::init_from(&library)
            .map_err(|error| unusable(error.to_string()))?
            .with_name("sferic")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        // Errors are returned to the caller, who logs them; a lower level would log them twice.
        environment.set_log_level(LogLevel::Fatal);
        Ok(RUNTIME.get_or_init(|| Self { environment, library: library.clone() }).clone())
    }

    /// The loaded file; a bare name where the system found it.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Its version, such as `1.32`; `None` where it is not known.
    pub fn version(&self) -> Option<String> {
        ort::util::probe(&self.library).map(|minor| format!("1.{minor}"))
    }

    /// Commit and flags of the library's build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// The environment of all sessions.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn find(configured: Option<&Path>) -> Result<PathBuf, LibraryError> {
    let from_environment =
        std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) =
        configured.filter(|path| !path.as_os_str().is_empty()).map(Path::to_path_buf).or(from_environment)
    {
        // The loader would resolve a relative path beside the executable.
        let path = std::path::absolute(&path).unwrap_or(path);
        return if path.is_file() { Ok(path) } else { Err(LibraryError::Missing { tried: vec![path] }) };
    }
    let mut tried: Vec<PathBuf> = sferic_tools::places(&format!("lib/{FILE}")).collect();
    if let Some(library) = tried.iter().find(|library| library.is_file()) {
        return Ok(library.clone());
    }
    // Probed first, because the loader reports a missing library without saying what to do.
    if ort::util::probe(FILE).is_some() {
        return Ok(FILE.into());
    }
    tried.truncate(2);
    tried.push(FILE.into());
    Err(LibraryError::Missing { tried })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_library_has_no_fallback() {
        let error = find(Some(Path::new("no/such/library.so"))).expect_err("found").to_string();
        for part in ["no/such/library.so", "ops/setup", "onnx.library", "ORT_DYLIB_PATH"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(!error.contains(".tools"), "{error}");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(find(Some(&manifest)).expect("it is a file"), manifest);
    }
}
