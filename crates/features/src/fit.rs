//! Fits a frame's columns to the number that the model takes, by centre crop or reflection.

/// Which columns are computed and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    /// First column taken from the frame.
    pub first: usize,
    /// How many are taken.
    pub count: usize,
    /// Column of the output that the first of them becomes.
    pub left: usize,
    /// Columns of the output.
    pub total: usize,
}

impl Fit {
    /// Fits `available` columns (at least one) to `wanted`, or keeps all. Of an odd surplus or lack, the
    /// smaller part is on the left.
    pub(crate) fn new(available: usize, wanted: Option<usize>) -> Self {
        let total = wanted.unwrap_or(available);
        if total <= available {
            Self { first: (available - total) / 2, count: total, left: 0, total }
        } else {
            Self { first: 0, count: available, left: (total - available) / 2, total }
        }
    }

    /// Fills a row's columns outside `left..left + count` by reflection about the ends.
    pub(crate) fn reflect(&self, row: &mut [f32]) {
        for at in (0..self.left).chain(self.left + self.count..self.total) {
            row[at] = row[self.left + mirrored(at as isize - self.left as isize, self.count)];
        }
    }
}

/// Index into `0..length` of position `at` on the line that reflects at both ends without repeating them.
pub(crate) fn mirrored(at: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length - 1);
    let at = at.rem_euclid(period as isize) as usize;
    at.min(period - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(values: &[f32], total: usize) -> Vec<f32> {
        let fit = Fit::new(values.len(), Some(total));
        let mut row = vec![f32::NAN; total];
        row[fit.left..fit.left + fit.count].copy_from_slice(&values[fit.first..fit.first + fit.count]);
        fit.reflect(&mut row);
        row
    }

    #[test]
    fn crops_the_middle_and_drops_one_more_on_the_right() {
        assert_eq!(fitted(&[0., 1., 2., 3., 4.], 2), [1., 2.]);
        assert_eq!(fitted(&[0., 1., 2., 3.], 4), [0., 1., 2., 3.]);
    }

    #[test]
    fn reflects_repeatedly_and_one_column_repeats() {
        assert_eq!(fitted(&[0., 1., 2.], 6), [1., 0., 1., 2., 1., 0.]);
        assert_eq!(fitted(&[0., 1.], 9), [1., 0., 1., 0., 1., 0., 1., 0., 1.]);
        assert_eq!(fitted(&[7.], 3), [7., 7., 7.]);
    }
}
