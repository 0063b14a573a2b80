//! Writes NumPy array files front to back, and reads them (format 1.0, `numpy.lib.format`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use sferic_scene::Complex32;

/// An array in C order; complex numbers are two values each.
pub struct Array {
    /// Its axes.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

impl Array {
    /// A row of complex numbers.
    pub fn complex(&self, row: usize) -> Vec<Complex32> {
        let len = 2 * self.shape[1];
        let (pairs, _) = self.values[row * len..][..len].as_chunks::<2>();
        pairs.iter().map(|&[re, im]| Complex32::new(re, im)).collect()
    }
}

/// Reads an array of little-endian float32 or complex64 in C order, of two axes.
pub fn read(path: &Path) -> anyhow::Result<Array> {
    let at = || format!("read {}", path.display());
    let bytes = std::fs::read(path).with_context(at)?;
    ensure!(bytes.len() > 10 && bytes.starts_with(b"\x93NUMPY\x01"), "{} is no .npy 1.0", path.display());
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) =
        bytes[10..].split_at_checked(length).context("it ends in its header").with_context(at)?;
    let header = String::from_utf8_lossy(header);
    let axes = header.split(['(', ')']).nth(1).context("it has no shape").with_context(at)?;
    let shape = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty()).map(str::parse);
    let shape: Vec<usize> = shape.collect::<Result<_, _>>().with_context(at)?;
    let width = if header.contains("'<c8'") { 2 } else { 1 };
    ensure!(
        (width == 2 || header.contains("'<f4'")) && header.contains("'fortran_order': False"),
        "{} is neither float32 nor complex64 in C order: {header}",
        path.display()
    );
    let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let expected = width * shape.iter().product::<usize>();
    ensure!(shape.len() == 2 && values.len() == expected, "{} has {} values", path.display(), values.len());
    Ok(Array { shape, values })
}

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
