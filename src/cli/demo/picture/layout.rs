//! Where things are in the picture, in pixels; nothing is drawn here.

use sferic_scene::Offset;

use super::mark::Mark;

/// A point of the picture, pixels from its top left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pixel {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

/// A square of the picture that shows a square of something, centred, with the second axis upwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Square {
    /// Its left edge, pixels.
    pub left: f32,
    /// Its upper edge, pixels.
    pub top: f32,
    /// Its side, pixels.
    pub side: f32,
    /// What the middle is away from the edges, in the units of what is shown.
    pub half: f64,
}

impl Square {
    /// Pixels of a length.
    pub fn length(&self, length: f64) -> f32 {
        (length / (2.0 * self.half) * f64::from(self.side)) as f32
    }

    /// The pixel of a point, `x` to the right of the middle and `y` above it.
    pub fn pixel(&self, x: f64, y: f64) -> Pixel {
        let middle = self.side / 2.0;
        Pixel { x: self.left + middle + self.length(x), y: self.top + middle - self.length(y) }
    }

    /// The pixel of a place.
    pub fn place(&self, place: Offset) -> Pixel {
        self.pixel(place.east_m, place.north_m)
    }
}

/// Half the side of the smallest square around the origin, in whole hundreds of metres, that holds these
/// places and all of each mark: its truth and its ellipse, with a margin of a twentieth.
pub fn half_side_m(marks: &[Mark], places: &[Offset]) -> f64 {
    let farthest = |point: Offset| point.east_m.abs().max(point.north_m.abs());
    let ends = |mark: &Mark| {
        let (sin, cos) = mark.rotation_deg.to_radians().sin_cos();
        let (major, minor) = (mark.semi_major_m, mark.semi_minor_m);
        // Half the sides of the ellipse's bounding box.
        let (east, north) = ((major * cos).hypot(minor * sin), (major * sin).hypot(minor * cos));
        let ellipse = (mark.predicted.east_m.abs() + east).max(mark.predicted.north_m.abs() + north);
        ellipse.max(farthest(mark.truth))
    };
    let half = places.iter().copied().map(farthest).chain(marks.iter().map(ends)).fold(100.0, f64::max);
    (half * 1.05 / 100.0).ceil() * 100.0
}

/// The length of a scale bar: the longest 1, 2 or 5 times a power of ten that is at most this long.
pub fn bar_length(at_most: f64) -> f64 {
    let power = 10f64.powf(at_most.log10().floor());
    [5.0, 2.0].map(|step| step * power).into_iter().find(|length| *length <= at_most).unwrap_or(power)
}

/// The squares of a grid, row by row, with this many in a row and this much between and below them.
pub fn grid(first: Square, columns: usize, gap: f32, caption: f32) -> impl Iterator<Item = Square> {
    (0..).map(move |index: usize| Square {
        left: first.left + (index % columns) as f32 * (first.side + gap),
        top: first.top + (index / columns) as f32 * (first.side + caption + gap),
        ..first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: Square = Square { left: 10.0, top: 20.0, side: 100.0, half: 500.0 };

    #[test]
    fn north_is_up_and_east_is_right() {
        assert_eq!(SQUARE.pixel(0.0, 0.0), Pixel { x: 60.0, y: 70.0 });
        assert_eq!(SQUARE.place(Offset { east_m: 500.0, north_m: 500.0 }), Pixel { x: 110.0, y: 20.0 });
        assert_eq!(SQUARE.place(Offset { east_m: -500.0, north_m: -250.0 }), Pixel { x: 10.0, y: 95.0 });
        assert_eq!(SQUARE.length(100.0), 10.0);
    }

    #[test]
    fn the_extent_holds_turned_ellipses_truths_and_receivers() {
        let mark = |rotation_deg, truth| Mark {
            truth,
            predicted: Offset { east_m: 1000.0, north_m: 0.0 },
            semi_major_m: 2000.0,
            semi_minor_m: 500.0,
            rotation_deg,
            sends: "am",
            probability: 0.68,
            error_m: 1000.0,
            within: 0.5,
        };
        let here = Offset { east_m: 0.0, north_m: 0.0 };
        // 3000 m east with the major axis along it, 2000 m north with it across; 5 % more, rounded up.
        assert_eq!(half_side_m(&[mark(0.0, here)], &[]), 3200.0);
        assert_eq!(half_side_m(&[mark(90.0, here)], &[]), 2100.0);
        let far = Offset { east_m: 0.0, north_m: -4000.0 };
        assert_eq!(half_side_m(&[mark(0.0, far)], &[]), 4200.0);
        assert_eq!(half_side_m(&[mark(0.0, here)], &[Offset { east_m: -8000.0, north_m: 0.0 }]), 8400.0);
    }

    #[test]
    fn scale_bars_are_round() {
        for (at_most, length) in
            [(2999.0, 2000.0), (5000.0, 5000.0), (1999.0, 1000.0), (0.7, 0.5), (10.0, 10.0)]
        {
            assert!((bar_length(at_most) - length).abs() < 1e-9, "{at_most}: {}", bar_length(at_most));
        }
    }

    #[test]
    fn a_grid_goes_row_by_row() {
        let squares: Vec<_> =
            grid(SQUARE, 2, 5.0, 30.0).take(3).map(|square| (square.left, square.top)).collect();
        assert_eq!(squares, [(10.0, 20.0), (115.0, 20.0), (10.0, 155.0)]);
    }
}
