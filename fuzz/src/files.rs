//! Recordings on disk, which `sferic publish` opens.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sferic_recording::{Cut, Overrides, open};

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("sferic-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("no temporary folder");
    folder
});

/// Opens a file as `publish` does and reads the first of its frames.
fn read(path: &Path) {
    let recordings = match open(path, &Overrides::default()) {
        Ok(recordings) => recordings,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for recording in recordings {
        assert!(!recording.is_empty() && !recording.streams.is_empty() && recording.num_channels > 0);
        let cut = Cut { frame: 64, hop: 48 };
        assert!(recording.tail(cut) <= recording.len());
        let _ = recording.digest_mismatch();
        let Ok(frames) = recording.frames(cut) else { continue };
        for frame in frames.take(16) {
            let Ok(frame) = frame else { break };
            assert!(frame.bytes.len() as u64 <= 64 * recording.bytes_per_instant());
            assert!(frame.position < recording.len());
        }
    }
}

/// The metadata of a SigMF recording, with 4096 bytes of samples beside it.
pub fn metadata(data: &[u8]) {
    let path = FOLDER.join("x.sigmf-meta");
    let samples = path.with_extension("sigmf-data");
    if !samples.exists() {
        fs::write(&samples, [64; 4096]).expect("cannot write");
    }
    fs::write(&path, data).expect("cannot write");
    read(&path);
}

/// A SigMF archive, which is a tar file.
pub fn archives(data: &[u8]) {
    let path = FOLDER.join("x.sigmf");
    fs::write(&path, data).expect("cannot write");
    read(&path);
}

/// The name of a raw file, which may say datatype, rate and centre.
pub fn hints(data: &[u8]) {
    let is_name = !data.iter().any(|byte| matches!(byte, 0 | b'/')) && !matches!(data, b"." | b"..");
    if data.is_empty() || data.len() > 255 || !is_name {
        return;
    }
    let path = FOLDER.join(OsStr::from_bytes(data));
    fs::write(&path, [64; 256]).expect("cannot write");
    read(&path);
    fs::remove_file(&path).expect("cannot remove");
}
