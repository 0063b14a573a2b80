//! Model bundles.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use sferic_models::{Bundle, OnnxFile};

/// A folder of this process, with a file of external data.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("sferic-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("no temporary folder");
    fs::write(folder.join("weights.bin"), [1; 64]).expect("cannot write");
    folder
});

/// `model.toml`, a zero byte, and the ONNX file.
pub fn bundles(data: &[u8]) {
    let middle = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, onnx) = (&data[..middle], data.get(middle + 1..).unwrap_or_default());
    fs::write(FOLDER.join("model.onnx"), onnx).expect("cannot write");
    match OnnxFile::read(&FOLDER) {
        Ok(file) => {
            assert_eq!(file.graph, onnx);
            assert!(file.external.iter().all(|external| !external.location.contains("..")));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Bundle::new(text, OnnxFile::new(onnx.to_vec())) {
        Ok(bundle) => assert!(bundle.inputs.iter().all(|input| input.validate().is_ok())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
