//! How often each amplitude and each phase step occur together.

use super::layout::COLUMNS;
use super::sequences::Sequences;

/// Bins of phase steps, and of amplitudes.
const STEPS: usize = 32;
const AMPLITUDES: usize = COLUMNS / STEPS;

/// Amplitude bins for one unit: unit amplitude is in the middle of a bin.
const PER_UNIT: f32 = 6.5;

/// Counts that are kept apart: a count that rises with every sample would wait for itself.
const TABLES: usize = 4;

/// Samples whose bins are computed before they are counted.
const GROUP: usize = 64;

/// Tangents of the angles between the first five of 32 directions.
const EDGES: [f32; 4] = [0.098_491_4, 0.303_346_7, 0.534_511_14, 0.820_678_8];

/// 2²³: a float32 that is larger has no fraction, and its last bits are the integer that was added.
const WHOLE: f32 = 8_388_608.0;

/// Counts of a histogram.
pub(super) struct Histogram {
    counts: [[u32; COLUMNS]; TABLES],
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: [[0; COLUMNS]; TABLES] }
    }

    /// The square root of the share of samples in each of 16 amplitudes times 32 phase steps; the mean step
    /// is step 16.
    pub(super) fn fill(&mut self, z: &Sequences, row: &mut [f32]) {
        self.counts.iter_mut().for_each(|table| table.fill(0));
        let amplitudes = z.amplitude.chunks(GROUP);
        let steps = z.cosine.chunks(GROUP).zip(z.sine.chunks(GROUP));
        let mut bins = [0u32; GROUP];
        for (amplitudes, (cosines, sines)) in amplitudes.zip(steps) {
            for (((bin, a), x), y) in bins.iter_mut().zip(amplitudes).zip(cosines).zip(sines) {
                *bin = STEPS as u32 * amplitude_bin(*a) + direction(*x, *y);
            }
            for bins in bins[..amplitudes.len()].chunks(TABLES) {
                for (table, &bin) in self.counts.iter_mut().zip(bins) {
                    table[bin as usize % COLUMNS] += 1;
                }
            }
        }
        let scale = 1.0 / z.len().max(1) as f32;
        let [a, b, c, d] = &self.counts;
        for (((out, a), b), (c, d)) in row.iter_mut().zip(a).zip(b).zip(c.iter().zip(d)) {
            *out = ((a + b + c + d) as f32 * scale).sqrt();
        }
    }
}

/// The bin of an amplitude; the last is open.
#[inline(always)]
fn amplitude_bin(amplitude: f32) -> u32 {
    let most = (AMPLITUDES - 1) as f32;
    let scaled = amplitude * PER_UNIT - 0.5;
    let scaled = if scaled > 0.0 { scaled } else { 0.0 };
    let scaled = if scaled < most { scaled } else { most };
    (scaled + WHOLE).to_bits() & (AMPLITUDES as u32 - 1)
}

/// The direction of a vector among 32; that of (1, 0) is 16.
#[inline(always)]
fn direction(x: f32, y: f32) -> u32 {
    let (ax, ay) = (x.abs(), y.abs());
    let steep = ay > ax;
    let (long, short) = if steep { (ay, ax) } else { (ax, ay) };
    let octant: i32 = EDGES.iter().map(|edge| i32::from(short > edge * long)).sum();
    let quadrant = if steep { 8 - octant } else { octant };
    let half = if x < 0.0 { 16 - quadrant } else { quadrant };
    let whole = if y < 0.0 { -half } else { half };
    (whole + 16) as u32 & (STEPS as u32 - 1)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    #[test]
    fn every_direction_has_its_bin() {
        for step in 0..STEPS {
            for offset in [-0.49, 0.0, 0.49] {
                let angle = (step as f32 - 16.0 + offset) * TAU / STEPS as f32;
                assert_eq!(direction(angle.cos(), angle.sin()), step as u32, "{step} {offset}");
            }
        }
        assert_eq!(direction(0.0, 0.0), 16);
    }

    #[test]
    fn every_amplitude_has_its_bin() {
        for bin in 0..AMPLITUDES {
            let middle = (bin as f32 + 0.5) / PER_UNIT;
            for offset in [-0.49, 0.0, 0.49] {
                assert_eq!(amplitude_bin(middle + offset / PER_UNIT), bin as u32);
            }
        }
        assert_eq!((amplitude_bin(0.0), amplitude_bin(1e30)), (0, 15));
    }
}
