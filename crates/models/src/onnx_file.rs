//! `model.onnx` with its external data, read as a whole and hashed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::BundleError;
use super::files::{Size, inside, own, read, real};
use super::proto;

/// The file's name in a bundle.
const NAME: &str = "model.onnx";
/// Where errors say that external data is named.
const EXTERNAL: &str = "model.onnx has external data in";

/// An ONNX file read from disk: all that a session needs.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    /// The graph, with embedded weights.
    pub graph: Vec<u8>,
    /// Files of external data, sorted by name.
    pub external: Vec<ExternalFile>,
    /// SHA-256 of the ONNX file where it is alone. With external data, of the text that `sha256sum model.onnx
    /// FILE…` prints, the files in the order of the bytes of their names.
    pub digest: [u8; 32],
    /// Folder of the external data; `None` without.
    pub folder: Option<PathBuf>,
}

/// A file of external data.
#[derive(Debug, Clone)]
pub struct ExternalFile {
    /// Its location in the ONNX file.
    pub location: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

impl OnnxFile {
    /// An ONNX file without external data.
    pub fn new(graph: Vec<u8>) -> Self {
        let digest = Sha256::digest(&graph).into();
        Self { graph, external: Vec::new(), digest, folder: None }
    }

    /// Number of nodes of its graph, without those of graphs within nodes.
    pub fn nodes(&self) -> usize {
        proto::nodes(&self.graph)
    }

    /// The versions it states, of the format and of its operators, in words.
    pub fn versions(&self) -> String {
        proto::versions(&self.graph)
    }

    /// Reads `model.onnx` in `folder` and the files that it names.
    ///
    /// # Errors
    /// [`BundleError`]: a file that can't be read, that is a Git LFS pointer, or that lies outside `folder`;
    /// no ONNX file.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        Self::read_within(&real(folder)?, &mut Size::within(u64::MAX))
    }

    /// Reads what is within this size. `folder` is an absolute path without links.
    pub(crate) fn read_within(folder: &Path, size: &mut Size) -> Result<Self, BundleError> {
        let path = own(folder, NAME)?;
        size.add(&path)?;
        let graph = read(&path)?;
        let locations =
            proto::external_locations(&graph).map_err(|error| BundleError::NoOnnx(error.to_string()))?;
        if locations.is_empty() {
            return Ok(Self::new(graph));
        }
        Self::with_external(graph, folder, locations, size)
    }

    fn with_external(
        graph: Vec<u8>,
        folder: &Path,
        locations: BTreeSet<String>,
        size: &mut Size,
    ) -> Result<Self, BundleError> {
        let mut sums = Sha256::new();
        let mut sum = |name: &str, bytes: &[u8]| {
            sums.update(format!("{}  {name}\n", hexadecimal(&Sha256::digest(bytes))))
        };
        sum(NAME, &graph);
        let mut external = Vec::with_capacity(locations.len());
        let mut paths = Vec::with_capacity(locations.len());
        for location in &locations {
            let path = inside(folder, location, EXTERNAL)?;
            size.add(&path)?;
            paths.push(path);
        }
        for (location, path) in locations.into_iter().zip(paths) {
            let bytes = read(&path)?;
            sum(&location, &bytes);
            external.push(ExternalFile { location, bytes: bytes.into() });
        }
        Ok(Self { graph, external, digest: sums.finalize().into(), folder: Some(folder.into()) })
    }
}

/// Lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// `model.onnx` with an initialiser in each of the files named: the fields of `ModelProto` and below, by
    /// hand.
    fn graph(locations: &[&str]) -> Vec<u8> {
        // A length below 2^14, in two bytes.
        let field = |number: u8, content: &[u8]| {
            let [low, high] =
                [content.len() & 0x7f, content.len() >> 7].map(|bits| u8::try_from(bits).unwrap());
            [&[number << 3 | 2, low | 0x80, high], content].concat()
        };
        let entry = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let tensor = |location: &&str| {
            let data_location = [14 << 3, 1];
            field(5, &[entry("location", location), entry("offset", "0"), data_location.into()].concat())
        };
        field(7, &locations.iter().flat_map(tensor).collect::<Vec<u8>>())
    }

    fn bundle(locations: &[&str], files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), graph(locations)).unwrap();
        for (name, bytes) in files {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[track_caller]
    fn refused(folder: &tempfile::TempDir, parts: &[&str]) {
        let error = OnnxFile::read(folder.path()).expect_err("accepted").to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn external_data_is_read_in_the_order_of_names_and_the_digest_is_of_what_sha256sum_prints() {
        let folder = bundle(
            &["b.bin", "./a.bin", "c/d.bin", "b.bin"],
            &[("a.bin", b"A"), ("b.bin", b"B"), ("c/d.bin", b"CD")],
        );
        let file = OnnxFile::read(folder.path()).unwrap();
        let read: Vec<_> = file.external.iter().map(|file| (file.location.as_str(), &*file.bytes)).collect();
        assert_eq!(read, [("./a.bin", &b"A"[..]), ("b.bin", b"B"), ("c/d.bin", b"CD")]);
        assert_eq!(file.folder, folder.path().canonicalize().ok());
        let printed = std::process::Command::new("sh")
            .args(["-c", "sha256sum model.onnx ./a.bin b.bin c/d.bin | sha256sum"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        match String::from_utf8(printed.stdout).unwrap().split_once(' ') {
            Some((printed, _)) if printed.len() == 64 => assert_eq!(hexadecimal(&file.digest), printed),
            _ => eprintln!("not compared: no sha256sum"),
        }
        fs::write(folder.path().join("c/d.bin"), "other").unwrap();
        assert_ne!(
            OnnxFile::read(folder.path()).unwrap().digest,
            file.digest,
            "the digest covers every file"
        );
    }

    #[test]
    fn without_external_data_the_digest_is_that_of_the_file() {
        let folder = bundle(&[], &[("weights.bin", b"nobody names it")]);
        let file = OnnxFile::read(folder.path()).unwrap();
        assert_eq!(file.digest, <[u8; 32]>::from(Sha256::digest(graph(&[]))));
        assert!(file.external.is_empty() && file.folder.is_none());
    }

    #[test]
    fn external_data_outside_the_folder_is_refused() {
        let elsewhere = tempfile::tempdir().unwrap();
        let secret = elsewhere.path().join("w.bin");
        fs::write(&secret, "secret").unwrap();
        for location in ["../w.bin", "sub/../../w.bin", "/w.bin", secret.to_str().unwrap()] {
            refused(
                &bundle(&[location], &[]),
                &["model.onnx", &format!("`{location}`"), "outside the bundle's folder"],
            );
        }
        let linked = bundle(&["w.bin"], &[]);
        symlink(&secret, linked.path().join("w.bin")).unwrap();
        refused(&linked, &["`w.bin`", "outside", secret.canonicalize().unwrap().to_str().unwrap()]);
        let linked = bundle(&["sub/w.bin"], &[]);
        symlink(elsewhere.path(), linked.path().join("sub")).unwrap();
        refused(&linked, &["`sub/w.bin`", "outside"]);

        let within = bundle(&["w.bin"], &[("data/w.bin", b"W")]);
        symlink("data/w.bin", within.path().join("w.bin")).unwrap();
        assert_eq!(
            &*OnnxFile::read(within.path()).unwrap().external[0].bytes,
            b"W",
            "a link within the folder is none out of it"
        );
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let folder = bundle(&["a.bin", "b.bin"], &[("a.bin", b"AAAA"), ("b.bin", b"")]);
        // A file of holes, larger than any memory.
        fs::File::options().write(true).open(folder.path().join("b.bin")).unwrap().set_len(1 << 42).unwrap();
        let total = fs::metadata(folder.path().join(NAME)).unwrap().len() + 4 + (1 << 42);
        let read =
            |most| OnnxFile::read_within(folder.path(), &mut Size::within(most)).unwrap_err().to_string();
        let error = read(1 << 20);
        for part in ["b.bin", &total.to_string(), "models.max_bytes, 1048576"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(read(10).contains("model.onnx") && !error.contains('\n'));
    }

    #[test]
    fn missing_files_and_non_files_are_named() {
        refused(&bundle(&["gone.bin"], &[]), &["can't read", "gone.bin"]);
        refused(&bundle(&["sub"], &[("sub/w.bin", b"W")]), &["sub", "not a file"]);
        refused(&bundle(&[""], &[]), &["not a file"]);
    }

    #[test]
    fn a_git_lfs_pointer_is_distinguished_from_a_model() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 7\n";
        let parts = ["Git LFS", "git lfs pull"];
        refused(&bundle(&[], &[(NAME, pointer)]), &[&parts[..], &[NAME]].concat());
        refused(&bundle(&["w.bin"], &[("w.bin", pointer)]), &[&parts[..], &["w.bin"]].concat());
    }

    #[test]
    fn a_file_that_is_not_onnx_is_reported() {
        for bytes in [&b"<!DOCTYPE html>"[..], b"not a model", &graph(&["w.bin"])[..20]] {
            refused(&bundle(&[], &[(NAME, bytes)]), &["can't load model.onnx", "no ONNX file"]);
        }
    }
}
