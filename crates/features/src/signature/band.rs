//! Which part of a spectrum is occupied.

/// Bins in a cell: as many as give about 128 cells, within these limits.
const CELL_LIMITS: (usize, usize) = (4, 16);
const CELLS: usize = 128;

/// Keeps what transforms leave of no noise at all from being a signal.
const TINY: f32 = 1e-9;

/// A cell holds a signal where it is above this many noise floors, and this part of the mean power.
const ABOVE_FLOOR: f32 = 2.0;
const ABOVE_NOTHING: f32 = 1e-6;

/// What all cells together add to what is above the floor, in noise floors of one cell. Chance peaks are less
/// than fifty times that, so that of noise alone the whole band is occupied.
const CHANCE: f32 = 0.05;

/// Share of what is above the floor that the occupied band has.
const OCCUPIED: f64 = 0.98;

/// A band of more than this part of the cells is the whole.
const WHOLE: f64 = 0.95;

/// A band that is louder by less than this part is no better than another one.
const BETTER: f64 = 1.0 + 1e-6;

/// The occupied band of a spectrum.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Band {
    /// Its middle, a bin.
    pub centre: usize,
    /// Its width, bins.
    pub occupied: usize,
    /// Bins of the whole spectrum.
    pub size: usize,
    /// Signal over noise within it, powers.
    pub snr: f32,
    /// The largest mean power of a cell over the mean power.
    pub peak: f32,
}

/// Scratch: values of cells of neighbouring bins.
pub(super) struct Cells {
    /// Bins in a cell.
    pub width: usize,
    /// Mean powers.
    pub powers: Vec<f32>,
    /// What is left of the amplitude where a cell is near the noise floor: 0 to 1.
    pub gains: Vec<f32>,
    /// Powers averaged with those of the two neighbours.
    near: Vec<f32>,
    sorted: Vec<f32>,
    excess: Vec<f32>,
}

impl Cells {
    pub(super) fn new(bins: usize) -> Self {
        let cells = || Vec::with_capacity(bins / CELL_LIMITS.0);
        Self { width: 1, powers: cells(), gains: cells(), near: cells(), sorted: cells(), excess: cells() }
    }

    /// Finds the occupied band of the powers of bins, of mean 1, from 0 Hz on round to 0 Hz.
    pub(super) fn find(&mut self, bins: &[f32]) -> Band {
        let size = bins.len();
        self.width = (size / CELLS).clamp(CELL_LIMITS.0, CELL_LIMITS.1);
        self.powers.clear();
        self.powers.extend(bins.chunks_exact(self.width).map(|cell| {
            let mut sums = [0.0; CELL_LIMITS.0];
            for group in cell.as_chunks::<{ CELL_LIMITS.0 }>().0 {
                sums.iter_mut().zip(group).for_each(|(sum, x)| *sum += x);
            }
            sums.iter().sum::<f32>() / self.width as f32
        }));
        let (powers, cells) = (&self.powers, self.powers.len());
        let next = powers[1..].iter().chain(&powers[..1]);
        let before = powers[cells - 1..].iter().chain(powers);
        self.near.clear();
        self.near.extend(before.zip(powers).zip(next).map(|((a, b), c)| 0.25 * (a + c) + 0.5 * b));
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.near);
        let (_, &mut floor, _) = self.sorted.select_nth_unstable_by(cells / 5, f32::total_cmp);
        self.gains.clear();
        self.gains.extend(self.near.iter().map(|near| (near / (near + 2.0 * floor + TINY)).powi(2)));
        self.excess.clear();
        let threshold = ABOVE_FLOOR * floor + ABOVE_NOTHING;
        let chance = CHANCE / cells as f32;
        self.excess
            .extend(self.near.iter().map(|near| (near - threshold).max(0.0) + chance * near.min(floor)));
        let (start, length) = shortest_arc(&self.excess).unwrap_or((cells - cells / 2, cells));
        let inside = self.near.iter().cycle().skip(start).take(length).sum::<f32>() / length as f32;
        Band {
            centre: (start * self.width + length * self.width / 2) % size,
            occupied: length * self.width,
            size,
            snr: ((inside - floor) / (floor + ABOVE_NOTHING)).max(0.0),
            peak: powers.iter().copied().fold(0.0, f32::max),
        }
    }
}

/// Start and length of the shortest arc of a circle that holds most of it; of arcs of one length the one that
/// holds most; `None` where there is nothing, or all of it is needed.
fn shortest_arc(circle: &[f32]) -> Option<(usize, usize)> {
    let cells = circle.len();
    let total: f64 = circle.iter().map(|&x| f64::from(x)).sum();
    if total <= 0.0 {
        return None;
    }
    let target = OCCUPIED * total;
    let (mut best, mut most) = ((0, cells), 0.0);
    let (mut end, mut sum) = (0, 0.0);
    for (start, &first) in circle.iter().enumerate() {
        while sum < target && end < start + cells {
            sum += f64::from(circle[if end < cells { end } else { end - cells }]);
            end += 1;
        }
        let length = end - start;
        if length < best.1 || (length == best.1 && sum > BETTER * most) {
            (best, most) = ((start, length), sum);
        }
        sum -= f64::from(first);
    }
    (best.1 as f64 <= WHOLE * cells as f64).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spectrum(size: usize, noise: f32, band: std::ops::Range<isize>) -> Vec<f32> {
        let mut bins = vec![noise; size];
        for bin in band {
            bins[bin.rem_euclid(size as isize) as usize] += 1.0;
        }
        let mean = bins.iter().sum::<f32>() / size as f32;
        bins.iter().map(|x| x / mean).collect()
    }

    #[test]
    fn the_band_is_found_also_across_the_ends() {
        let mut cells = Cells::new(8192);
        for (first, last) in [(1600, 2400), (-320, 480), (3840, 4480)] {
            let band = cells.find(&spectrum(8192, 0.01, first..last));
            let middle = ((first + last) / 2).rem_euclid(8192) as usize;
            assert!(band.centre.abs_diff(middle) <= 16, "{band:?}");
            assert!(band.occupied.abs_diff((last - first) as usize) <= 32, "{band:?}");
            assert!((band.snr / 100.0 - 1.0).abs() < 0.1, "{band:?}");
        }
    }

    #[test]
    fn where_all_is_alike_the_whole_band_is_occupied() {
        for size in [64, 512, 8192] {
            let band = Cells::new(size).find(&vec![1.0; size]);
            assert_eq!((band.centre, band.occupied), (0, size));
        }
    }

    #[test]
    fn the_shortest_arc() {
        assert_eq!(shortest_arc(&[0.0; 8]), None);
        assert_eq!(shortest_arc(&[0.0, 0.0, 3.0, 0.0]), Some((2, 1)));
        assert_eq!(shortest_arc(&[3.0, 0.0, 0.0, 3.0]), Some((3, 2)));
        assert_eq!(shortest_arc(&[1.0; 4]), None);
        assert_eq!(shortest_arc(&[100.0, 1.0, 0.0, 50.0, 0.0]), Some((3, 3)));
    }
}
