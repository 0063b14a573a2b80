//! The demo as a picture: maps of the first scenes, and all truths as seen from their ellipses.

mod canvas;
mod layout;
mod mark;

use sferic_scene::scene::AREA_HALF_M;
use sferic_scene::{Offset, RECEIVERS};

use super::accuracy::Accuracy;
use canvas::{BOLD, Canvas, Outline, PLAIN, Rgb, TITLE};
use layout::{Pixel, Square, bar_length, grid, half_side_m};
pub use mark::Mark;
use mark::in_ellipses;

/// Width of the picture, pixels: one and a half times that of a page's text, so that it is sharp there.
pub const WIDTH: u32 = 1350;
/// Height of the picture, pixels.
pub const HEIGHT: u32 = 825;

/// How many scenes have a map of their own.
const MAPS: usize = 6;
/// Maps in a row.
const COLUMNS: usize = 3;
/// The probability of the ellipse that is drawn beside the stated one.
const OUTER: f64 = 0.95;
/// Truths are shown up to this many radii of the stated ellipse.
const EXTENT: f64 = 2.4;
/// Where the text starts, pixels.
const LEFT: f32 = 30.0;

// Blue and vermilion of Okabe and Ito's palette, which the colour-blind can tell apart. Shapes differ too.
const PREDICTED: Rgb = [0, 114, 178];
const TRUTH: Rgb = [213, 94, 0];
const INK: Rgb = [32, 32, 36];
const GREY: Rgb = [96, 98, 104];
const GROUND: Rgb = [226, 229, 233];
const AREA: Rgb = [246, 247, 249];

/// Draws the picture; the PNG file.
///
/// # Errors
/// There is no mark to draw, or the picture cannot be encoded.
pub fn png(marks: &[Mark], accuracy: &Accuracy, trilateration_m: f64) -> anyhow::Result<Vec<u8>> {
    let Some(first) = marks.first() else { anyhow::bail!("there is no prediction to draw") };
    let mut canvas = Canvas::new(WIDTH, HEIGHT)?;
    canvas.text(
        Pixel { x: LEFT, y: 24.0 },
        TITLE,
        INK,
        "sferic demo: where is the emitter, and how sure is that?",
    );
    canvas.text(
        Pixel { x: LEFT, y: 66.0 },
        PLAIN,
        GREY,
        "Simulated: three receivers hear one emitter of unknown power, through 4 to 8 dB of shadowing.",
    );

    let shown = &marks[..marks.len().min(MAPS)];
    let first_map = Square { left: LEFT, top: 146.0, side: 256.0, half: half_side_m(shown, &RECEIVERS) };
    heading(
        &mut canvas,
        &first_map,
        &format!("The first {} of {} scenes, north up", shown.len(), marks.len()),
    );
    for (square, mark) in grid(first_map, COLUMNS, 18.0, 28.0).zip(shown) {
        map(&mut canvas, &square, mark);
    }
    legend(&mut canvas, &first_map, first.probability);

    let all = Square { left: 880.0, top: 146.0, side: 440.0, half: EXTENT };
    heading(&mut canvas, &all, "All truths, each ellipse as a circle");
    let beyond = from_ellipses(&mut canvas, &all, marks, first.probability);
    let below = Pixel { x: all.left, y: all.top + all.side + 14.0 };
    counts(&mut canvas, below, marks, first.probability);
    let mut lines = vec![
        format!("error: median {:.0} m, 90 % below {:.0} m", accuracy.median_error_m, accuracy.p90_error_m),
        format!("trilateration: median {trilateration_m:.0} m"),
    ];
    if beyond > 0 {
        lines.push(format!("drawn on the edge, but farther out: {beyond}"));
    }
    for (n, line) in lines.iter().enumerate() {
        canvas.text(Pixel { x: below.x, y: below.y + 68.0 + 30.0 * n as f32 }, PLAIN, INK, line);
    }
    canvas.png()
}

fn heading(canvas: &mut Canvas, above: &Square, text: &str) {
    canvas.text(Pixel { x: above.left, y: above.top - 32.0 }, BOLD, INK, text);
}

/// The map of one scene, and under it what is sent and how far off the prediction is.
fn map(canvas: &mut Canvas, square: &Square, mark: &Mark) {
    canvas.square(square, GROUND);
    let corner = square.place(Offset { east_m: -AREA_HALF_M, north_m: AREA_HALF_M });
    let side = square.length(2.0 * AREA_HALF_M);
    canvas.rectangle(corner.x, corner.y, side, side, AREA);
    let (truth, predicted) = (square.place(mark.truth), square.place(mark.predicted));
    let radii = (square.length(mark.semi_major_m), square.length(mark.semi_minor_m));
    canvas.ellipse(predicted, radii, mark.rotation_deg, PREDICTED, outline(mark.holds()));
    for receiver in RECEIVERS {
        canvas.triangle(square.place(receiver), 8.0, INK);
    }
    canvas.line(predicted, truth, GREY, 1.5);
    canvas.cross(predicted, 9.0, PREDICTED, 3.0);
    canvas.disc(truth, 6.5, TRUTH);
    let under = Pixel { x: square.left, y: square.top + square.side + 3.0 };
    canvas.text(under, PLAIN, INK, &format!("{}: off by {:.1} km", mark.sends, mark.error_m / 1000.0));
}

fn outline(holds: bool) -> Outline {
    Outline { width: 2.5, dash: (!holds).then_some(7.0), tint: 36 }
}

/// What the marks on the maps mean, and the scale of the maps.
fn legend(canvas: &mut Canvas, map: &Square, probability: f64) {
    let y = HEIGHT as f32 - 66.0;
    let mut at = Pixel { x: map.left, y };
    entry(canvas, &mut at, 16.0, "receiver", &|canvas, at| canvas.triangle(at, 8.0, INK));
    entry(canvas, &mut at, 14.0, "truth", &|canvas, at| canvas.disc(at, 6.5, TRUTH));
    entry(canvas, &mut at, 18.0, "prediction", &|canvas, at| canvas.cross(at, 9.0, PREDICTED, 3.0));
    let ellipse = |holds| {
        move |canvas: &mut Canvas, at| canvas.ellipse(at, (19.0, 11.0), 0.0, PREDICTED, outline(holds))
    };
    entry(canvas, &mut at, 38.0, &format!("{} ellipse", percent(probability)), &ellipse(true));
    entry(canvas, &mut at, 38.0, "truth outside", &ellipse(false));

    let length_m = bar_length(0.9 * map.half);
    let length = map.length(length_m);
    let mut at = Pixel { x: map.left, y: y + 34.0 };
    entry(canvas, &mut at, length, &format!("{} km", length_m / 1000.0), &|canvas, at| {
        bar(canvas, at, length)
    });
    entry(canvas, &mut at, 24.0, "the square that emitters are in", &|canvas, at| {
        canvas.rectangle(at.x - 12.0, at.y - 12.0, 24.0, 24.0, GROUND);
        canvas.rectangle(at.x - 8.0, at.y - 8.0, 16.0, 16.0, AREA);
    });
}

/// A sign of this width with its meaning beside it; the next one's place.
fn entry(canvas: &mut Canvas, at: &mut Pixel, width: f32, meaning: &str, sign: &dyn Fn(&mut Canvas, Pixel)) {
    sign(canvas, Pixel { x: at.x + width / 2.0, y: at.y + 13.0 });
    canvas.text(Pixel { x: at.x + width + 10.0, y: at.y }, PLAIN, INK, meaning);
    at.x += width + 10.0 + PLAIN.width(meaning) + 28.0;
}

/// A scale bar.
fn bar(canvas: &mut Canvas, middle: Pixel, length: f32) {
    let ends = [middle.x - length / 2.0, middle.x + length / 2.0];
    canvas.line(Pixel { x: ends[0], ..middle }, Pixel { x: ends[1], ..middle }, INK, 2.5);
    for x in ends {
        canvas.line(Pixel { x, y: middle.y - 6.0 }, Pixel { x, y: middle.y + 6.0 }, INK, 2.5);
    }
}

/// Every truth in the axes of its own ellipse, and the ellipses of two probabilities. How many truths lie
/// beyond the edge; they are drawn on it.
fn from_ellipses(canvas: &mut Canvas, square: &Square, marks: &[Mark], probability: f64) -> usize {
    const EDGE: f64 = 0.97 * EXTENT;
    let middle = square.pixel(0.0, 0.0);
    canvas.square(square, AREA);
    for (probability, look) in rings(probability) {
        let radius = square.length(in_ellipses(probability, marks[0].probability));
        canvas.ellipse(middle, (radius, radius), 0.0, PREDICTED, look);
    }
    canvas.cross(middle, 9.0, PREDICTED, 3.0);
    let mut beyond = 0;
    for mark in marks {
        let (x, y) = mark.in_its_ellipse();
        beyond += usize::from(x.abs().max(y.abs()) > EDGE);
        let at = square.pixel(x.clamp(-EDGE, EDGE), y.clamp(-EDGE, EDGE));
        if mark.holds() {
            canvas.disc(at, 4.5, TRUTH);
        } else {
            canvas.ellipse(at, (4.0, 4.0), 0.0, TRUTH, Outline { width: 2.0, dash: None, tint: 0 });
        }
    }
    beyond
}

/// How many truths lie in each ring, in two lines.
fn counts(canvas: &mut Canvas, at: Pixel, marks: &[Mark], probability: f64) {
    for ((probability, look), y) in rings(probability).into_iter().zip([0.0, 30.0]) {
        let held = marks.iter().filter(|mark| mark.within <= probability).count();
        let line = format!("{held} of {} in their {} ellipse", marks.len(), percent(probability));
        entry(canvas, &mut Pixel { y: at.y + y, ..at }, 24.0, &line, &|canvas, at| {
            canvas.ellipse(at, (10.0, 10.0), 0.0, PREDICTED, look);
        });
    }
}

/// The stated ellipse and a larger one, and how they look.
fn rings(probability: f64) -> [(f64, Outline); 2] {
    [
        (probability, Outline { width: 3.0, dash: None, tint: 36 }),
        (OUTER, Outline { width: 1.5, dash: None, tint: 0 }),
    ]
}

fn percent(probability: f64) -> String {
    format!("{:.0} %", 100.0 * probability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::accuracy::Miss;

    /// Two kilometres by one, pointing north; the truth this far from the prediction, and within this.
    fn mark(east_m: f64, north_m: f64, within: f64) -> Mark {
        Mark {
            sends: "am",
            truth: Offset { east_m: 500.0 + east_m, north_m },
            predicted: Offset { east_m: 500.0, north_m: 0.0 },
            semi_major_m: 2000.0,
            semi_minor_m: 1000.0,
            rotation_deg: 90.0,
            probability: 0.68,
            error_m: east_m.hypot(north_m),
            within,
        }
    }

    #[test]
    fn truths_are_seen_along_the_axes_of_their_ellipse() {
        for (east_m, north_m, along, across) in [(0.0, 2000.0, 1.0, 0.0), (-1000.0, 0.0, 0.0, 1.0)] {
            let (x, y) = mark(east_m, north_m, 0.68).in_its_ellipse();
            assert!((x - along).abs() < 1e-9 && (y - across).abs() < 1e-9, "{x}, {y}");
        }
        assert_eq!(mark(0.0, 0.0, 0.0).in_its_ellipse(), (0.0, 0.0));
        // On the side of the edge that the count says, also where metres and degrees differ in a last digit.
        let (x, y) = mark(0.0, 2000.1, 0.679).in_its_ellipse();
        assert!(x.hypot(y) < 1.0, "{x}, {y}");
    }

    #[test]
    fn one_scene_makes_a_picture_and_none_makes_an_error() {
        let marks = [mark(0.0, 9000.0, 1.0)];
        let miss = Miss { error_m: 9000.0, within: 1.0 };
        let accuracy = Accuracy::of(&[miss]).unwrap();
        let file = png(&marks, &accuracy, 1000.0).unwrap();
        let pixels = tiny_skia::Pixmap::decode_png(&file).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (WIDTH, HEIGHT));
        assert!(pixels.pixels().iter().all(|pixel| pixel.alpha() == 255), "not opaque");
        png(&[], &accuracy, 1000.0).unwrap_err();
    }
}
