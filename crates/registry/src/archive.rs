//! A bundle as one tar file, always the same bytes for the same files.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};

use super::RegistryError;
use super::files::{Links, MAX_FILES, SIGNATURE, SOURCE, check_inside, list, too_large};

/// What is left out: the mark of an installation, and what Model Signing does not sign by default.
const LEFT_OUT: [&str; 5] = [SOURCE, ".git", ".gitattributes", ".github", ".gitignore"];

/// Bytes of a tar beside those of its files: for each a header and padding, and folders.
const OVERHEAD: u64 = 4 * 512 * MAX_FILES as u64;

/// Writes the files of a bundle, sorted and without times or owners, to `archive`. `signature` replaces the
/// `model.sig` in the folder.
///
/// # Errors
/// A file cannot be read, or they have more than `max_bytes` together; in words.
pub(crate) fn pack(
    folder: &Path,
    signature: Option<&[u8]>,
    max_bytes: u64,
    archive: impl Write,
) -> Result<(), String> {
    let mut archive = Builder::new(archive);
    let mut append = |name: &str, bytes: u64, from: &mut dyn Read| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, from).map_err(|error| format!("can't pack {name}: {error}"))
    };
    for file in list(folder, Links::Followed, max_bytes)? {
        let top = file.name.split('/').next().unwrap_or_default();
        if LEFT_OUT.contains(&top) || signature.is_some() && file.name == SIGNATURE {
            continue;
        }
        let mut from =
            File::open(&file.path).map_err(|error| format!("can't read {}: {error}", file.path.display()))?;
        append(&file.name, file.bytes, &mut from)?;
    }
    if let Some(mut signature) = signature {
        append(SIGNATURE, signature.len() as u64, &mut signature)?;
    }
    archive
        .into_inner()
        .and_then(|mut archive| archive.flush())
        .map_err(|error| format!("can't pack: {error}"))
}

/// The most bytes of an archive whose files have `max_bytes`.
pub(crate) fn max_archive(max_bytes: u64) -> u64 {
    max_bytes.saturating_add(OVERHEAD)
}

/// Writes the files of an archive into an empty folder.
///
/// # Errors
/// [`RegistryError::Refused`] where it holds anything but regular files and folders, a path that leaves the
/// folder or is there twice, too many files or bytes; [`RegistryError::Unreachable`] where a file cannot be
/// written.
pub(crate) fn unpack(mut archive: File, folder: &Path, max_bytes: u64) -> Result<(), RegistryError> {
    let refused = |error: io::Error| RegistryError::Refused(format!("it is no tar file: {error}"));
    archive.rewind().map_err(refused)?;
    let mut archive = Archive::new(archive);
    let (mut files, mut bytes) = (0, 0_u64);
    // Raw: a long name as an entry of its own would be read into memory, however long it is.
    for entry in archive.entries().map_err(refused)?.raw(true) {
        let mut entry = entry.map_err(refused)?;
        let name = entry.path().map_err(refused)?.into_owned();
        check_inside(&name).map_err(RegistryError::Refused)?;
        match entry.header().entry_type() {
            EntryType::Directory => continue,
            EntryType::Regular => {}
            other => {
                let name = name.display();
                return Err(RegistryError::Refused(format!("{name} is no regular file, but {other:?}")));
            }
        }
        (files, bytes) = (files + 1, bytes.saturating_add(entry.size()));
        if files > MAX_FILES {
            return Err(RegistryError::Refused(format!("it has more than {MAX_FILES} files")));
        }
        if bytes > max_bytes {
            return Err(RegistryError::Refused(too_large(bytes, max_bytes)));
        }
        let path = folder.join(&name);
        write(&mut entry, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                RegistryError::Refused(format!("{} is there twice", name.display()))
            }
            io::ErrorKind::UnexpectedEof => refused(error),
            _ => RegistryError::Unreachable(format!("can't write {}: {error}", path.display())),
        })?;
    }
    Ok(())
}

fn write(entry: &mut tar::Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let size = entry.size();
    let written = io::copy(entry, &mut File::create_new(path)?)?;
    // The library does not object to an archive that ends within a file.
    if written == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1000;

    fn packed(folder: &Path, signature: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(folder, signature, MAX, &mut bytes).unwrap();
        bytes
    }

    fn unpacked(archive: &[u8]) -> Result<tempfile::TempDir, String> {
        let (mut file, folder) = (tempfile::tempfile().unwrap(), tempfile::tempdir().unwrap());
        file.write_all(archive).unwrap();
        unpack(file, folder.path(), MAX).map(|()| folder).map_err(|error| error.to_string())
    }

    /// An archive of entries as they are, whatever they are.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (kind, name, text) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn the_same_files_are_the_same_archive() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let long = format!("data/{0}/{0}", "long".repeat(20));
        for (n, folder) in folders.iter().enumerate() {
            fs::create_dir_all(folder.path().join(&long).parent().unwrap()).unwrap();
            let mut names = ["model.onnx", "model.toml", &long, SIGNATURE];
            names.rotate_left(n);
            names.iter().for_each(|name| fs::write(folder.path().join(name), &name[..4]).unwrap());
            fs::write(folder.path().join([SOURCE, ".gitignore"][n]), "").unwrap();
        }
        let first = packed(folders[0].path(), None);
        assert_eq!(first, packed(folders[1].path(), None));
        let back = unpacked(&first).unwrap();
        assert_eq!(list(back.path(), Links::Refused, MAX).unwrap().len(), 4);
        assert_eq!(fs::read(back.path().join(&long)).unwrap(), b"data");
        assert_eq!(packed(back.path(), None), first);
        let signed = unpacked(&packed(folders[0].path(), Some(b"other"))).unwrap();
        assert_eq!(fs::read(signed.path().join(SIGNATURE)).unwrap(), b"other");
    }

    #[test]
    fn only_regular_files_inside_are_unpacked() {
        use EntryType::{Fifo, GNULongName, Link, Regular, Symlink};
        assert!(unpacked(&archive(&[(Regular, "a/b", "x"), (EntryType::Directory, "c", "")])).is_ok());
        let large = "x".repeat(600);
        for (entries, part) in [
            (&[(Regular, "../a", "x")][..], "`../a` is no path"),
            (&[(Regular, "/a", "x")], "`/a` is no path"),
            (&[(Regular, "a/../../b", "x")], "is no path"),
            (&[(Symlink, "a", "")], "no regular file, but Symlink"),
            (&[(Link, "a", "")], "no regular file, but Link"),
            (&[(Fifo, "a", "")], "no regular file, but Fifo"),
            (&[(GNULongName, "a", "name")], "no regular file, but GNULongName"),
            (&[(Regular, "a", "x"), (Regular, "a", "y")], "a is there twice"),
            (&[(Regular, "a", "x"), (Regular, "a/b", "y")], "a/b is there twice"),
            (&[(Regular, "a", &large), (Regular, "b", &large)], "1200 bytes together"),
        ] {
            let error = unpacked(&archive(entries)).unwrap_err();
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(unpacked(b"<html>").unwrap_err().contains("no tar"));
        let whole = archive(&[(Regular, "a", &large)]);
        assert!(unpacked(&whole[..800]).unwrap_err().contains("no tar"));
    }
}
