//! A picture of shapes and text on white.

use anyhow::Context;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use tiny_skia::{
    Color, FillRule, Paint, Path, PathBuilder, Pixmap, PremultipliedColorU8, Rect, Stroke, StrokeDash,
    Transform,
};

use super::layout::{Pixel, Square};

/// Red, green and blue.
pub type Rgb = [u8; 3];

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub struct Font {
    weight: FontWeight,
    height: RasterHeight,
}

/// For titles.
pub const TITLE: Font = Font { weight: FontWeight::Bold, height: RasterHeight::Size32 };
/// For headings.
pub const BOLD: Font = Font { weight: FontWeight::Bold, height: RasterHeight::Size24 };
/// For all else.
pub const PLAIN: Font = Font { weight: FontWeight::Regular, height: RasterHeight::Size24 };

impl Font {
    /// Pixels that a text is wide.
    pub fn width(self, text: &str) -> f32 {
        (get_raster_width(self.weight, self.height) * text.chars().count()) as f32
    }
}

/// What is drawn on.
pub struct Canvas(Pixmap);

impl Canvas {
    /// A white picture.
    ///
    /// # Errors
    /// A side is zero, or it does not fit into memory.
    pub fn new(width: u32, height: u32) -> anyhow::Result<Self> {
        let mut pixels = Pixmap::new(width, height).context("no picture of this size can be made")?;
        pixels.fill(Color::WHITE);
        Ok(Self(pixels))
    }

    /// The PNG file.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn png(&self) -> anyhow::Result<Vec<u8>> {
        self.0.encode_png().context("the picture cannot be encoded")
    }

    /// Writes a text, given the left end of its upper edge. Characters that the font lacks stay blank.
    pub fn text(&mut self, at: Pixel, font: Font, colour: Rgb, text: &str) {
        let (left, top) = (at.x.round() as usize, at.y.round() as usize);
        let (width, height) = (self.0.width() as usize, self.0.height() as usize);
        let pixels = self.0.pixels_mut();
        for (n, glyph) in text.chars().map(|c| get_raster(c, font.weight, font.height)).enumerate() {
            let Some(glyph) = glyph else { continue };
            for (row, line) in glyph.rows().enumerate() {
                for (column, ink) in line.iter().enumerate() {
                    let (x, y) = (left + n * glyph.width() + column, top + row);
                    if x < width && y < height {
                        let pixel = &mut pixels[y * width + x];
                        *pixel = mix(*pixel, colour, *ink);
                    }
                }
            }
        }
    }

    /// Fills a rectangle.
    pub fn rectangle(&mut self, left: f32, top: f32, width: f32, height: f32, colour: Rgb) {
        if let Some(rectangle) = Rect::from_xywh(left, top, width, height) {
            self.0.fill_rect(rectangle, &paint(colour, 255), Transform::identity(), None);
        }
    }

    /// Fills a square of the layout.
    pub fn square(&mut self, square: &Square, colour: Rgb) {
        self.rectangle(square.left, square.top, square.side, square.side, colour);
    }

    /// Draws a straight line.
    pub fn line(&mut self, from: Pixel, to: Pixel, colour: Rgb, width: f32) {
        let mut path = PathBuilder::new();
        path.move_to(from.x, from.y);
        path.line_to(to.x, to.y);
        self.stroke(path.finish(), Transform::identity(), colour, width, None);
    }

    /// Draws an ellipse, turned counter-clockwise by degrees: its outline, inside it a tint of this opacity.
    pub fn ellipse(
        &mut self,
        middle: Pixel,
        radii: (f32, f32),
        rotation_deg: f64,
        colour: Rgb,
        look: Outline,
    ) {
        // The vertical axis of the picture points down, so counter-clockwise is negative.
        let turn = Transform::from_rotate_at(-rotation_deg as f32, middle.x, middle.y);
        let oval =
            Rect::from_ltrb(middle.x - radii.0, middle.y - radii.1, middle.x + radii.0, middle.y + radii.1);
        let path = oval.and_then(PathBuilder::from_oval);
        self.fill(path.clone(), turn, colour, look.tint);
        self.stroke(path, turn, colour, look.width, look.dash);
    }

    /// Draws a disc.
    pub fn disc(&mut self, middle: Pixel, radius: f32, colour: Rgb) {
        self.fill(PathBuilder::from_circle(middle.x, middle.y, radius), Transform::identity(), colour, 255);
    }

    /// Draws an equilateral triangle that points up.
    pub fn triangle(&mut self, middle: Pixel, radius: f32, colour: Rgb) {
        let mut path = PathBuilder::new();
        path.move_to(middle.x, middle.y - radius);
        path.line_to(middle.x + 0.866 * radius, middle.y + radius / 2.0);
        path.line_to(middle.x - 0.866 * radius, middle.y + radius / 2.0);
        path.close();
        self.fill(path.finish(), Transform::identity(), colour, 255);
    }

    /// Draws an upright cross.
    pub fn cross(&mut self, middle: Pixel, radius: f32, colour: Rgb, width: f32) {
        let Pixel { x, y } = middle;
        self.line(Pixel { x: x - radius, y }, Pixel { x: x + radius, y }, colour, width);
        self.line(Pixel { x, y: y - radius }, Pixel { x, y: y + radius }, colour, width);
    }

    fn fill(&mut self, path: Option<Path>, turn: Transform, colour: Rgb, opacity: u8) {
        if let Some(path) = path {
            self.0.fill_path(&path, &paint(colour, opacity), FillRule::Winding, turn, None);
        }
    }

    fn stroke(&mut self, path: Option<Path>, turn: Transform, colour: Rgb, width: f32, dash: Option<f32>) {
        let dash = dash.and_then(|dash| StrokeDash::new(vec![dash, dash], 0.0));
        if let Some(path) = path {
            let stroke = Stroke { width, dash, ..Stroke::default() };
            self.0.stroke_path(&path, &paint(colour, 255), &stroke, turn, None);
        }
    }
}

/// How an ellipse is outlined and filled.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// Width of the line, pixels.
    pub width: f32,
    /// Length of the dashes and of what is between them, pixels; absent: a whole line.
    pub dash: Option<f32>,
    /// Opacity of the inside, of 255.
    pub tint: u8,
}

fn paint(colour: Rgb, opacity: u8) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(colour[0], colour[1], colour[2], opacity);
    paint
}

/// An opaque pixel with this much ink on it, of 255.
fn mix(under: PremultipliedColorU8, colour: Rgb, ink: u8) -> PremultipliedColorU8 {
    let blend = |under: u8, over: u8| {
        ((u16::from(under) * u16::from(255 - ink) + u16::from(over) * u16::from(ink) + 127) / 255) as u8
    };
    let [red, green, blue] =
        [blend(under.red(), colour[0]), blend(under.green(), colour[1]), blend(under.blue(), colour[2])];
    PremultipliedColorU8::from_rgba(red, green, blue, 255).unwrap_or(under)
}
