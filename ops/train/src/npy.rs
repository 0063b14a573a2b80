//! Writes NumPy array files front to back (format 1.0, `numpy.lib.format`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, ensure};

/// A `.npy` file of little-endian float32 in C order, with its first axis filled piece by piece.
pub struct NpyWriter {
    file: BufWriter<File>,
    missing: usize,
}

impl NpyWriter {
    /// Creates `path` for an array of `shape`.
    pub fn create(path: &Path, shape: &[usize]) -> anyhow::Result<Self> {
        let dims: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
        // Magic, version and length take 10 bytes; the data begins at a multiple of 64, after a line feed.
        let padding = 63 - (10 + header.len()) % 64;
        header.extend(std::iter::repeat_n(' ', padding));
        header.push('\n');
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let mut file = BufWriter::new(file);
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&u16::try_from(header.len())?.to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        Ok(Self { file, missing: shape.iter().product() })
    }

    /// Appends values.
    pub fn write(&mut self, values: &[f32]) -> anyhow::Result<()> {
        ensure!(values.len() <= self.missing, "more values than the array's shape holds");
        self.missing -= values.len();
        for value in values {
            self.file.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Values are missing, or the file cannot be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        ensure!(self.missing == 0, "{} values are missing from the array", self.missing);
        self.file.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_numpy_reads() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.npy");
        let mut npy = NpyWriter::create(&path, &[2, 3])?;
        npy.write(&[1.0, 2.0, 3.0])?;
        npy.write(&[4.0, 5.0, 6.0])?;
        npy.finish()?;
        let bytes = std::fs::read(&path)?;
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + header) % 64, 0);
        assert!(bytes[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, ), }"));
        assert_eq!(bytes.len(), 10 + header + 24);
        assert_eq!(bytes[10 + header..][..4], 1f32.to_le_bytes());
        Ok(())
    }

    #[test]
    fn refuses_too_few_and_too_many() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut npy = NpyWriter::create(&folder.path().join("a.npy"), &[2])?;
        assert!(npy.write(&[0.0; 3]).is_err());
        npy.write(&[0.0])?;
        assert!(npy.finish().is_err());
        Ok(())
    }
}
