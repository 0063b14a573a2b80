//! Line plots as inline SVG.

const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 44.0;

/// One plot; both axes are linear and begin at 0.
pub(crate) struct Plot<'a> {
    /// What it shows, for those who do not see it.
    pub(crate) title: &'a str,
    /// The label of the axis to the right.
    pub(crate) x_label: &'a str,
    /// The label of the axis upwards.
    pub(crate) y_label: &'a str,
    /// Where the axis to the right is marked and with what; round numbers where there is none.
    pub(crate) x_ticks: Vec<(f64, String)>,
    /// The lines, at most two.
    pub(crate) series: Vec<Series<'a>>,
}

/// One line of a plot.
pub(crate) struct Series<'a> {
    /// Its name in the legend.
    pub(crate) name: &'a str,
    /// Its points, from left to right.
    pub(crate) points: Vec<Point>,
}

/// One point of a line.
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Whether it is drawn as a ring: `None` for no mark, `Some(true)` for a filled one.
    pub(crate) mark: Option<bool>,
}

impl Point {
    /// A point without a mark.
    pub(crate) fn new(x: f64, y: f64) -> Self {
        Self { x, y, mark: None }
    }
}

/// Draws a plot. Its texts are drawn as they are: they are ours, and nothing of a report is among them.
pub(crate) fn svg(plot: &Plot<'_>) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x_max = points().map(|point| point.x).fold(0.0, f64::max);
    let y_max = points().map(|point| point.y).fold(0.0, f64::max) * 1.05;
    let (x_max, y_max) = (positive(x_max), positive(y_max));
    let x_of = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", plot.title);
    for (y, label) in round_ticks(y_max) {
        let y = y_of(y);
        svg += &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        svg += &text(LEFT - 6.0, y + 4.0, "end", &label);
    }
    let x_ticks = if plot.x_ticks.is_empty() { round_ticks(x_max) } else { plot.x_ticks.clone() };
    for (x, label) in x_ticks.into_iter().filter(|&(x, _)| x <= x_max) {
        let x = x_of(x);
        svg += &format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        svg += &text(x, bottom + 16.0, "middle", &label);
    }
    svg += &text((LEFT + right) / 2.0, HEIGHT - 6.0, "middle", plot.x_label);
    let middle = (TOP + bottom) / 2.0;
    svg += &format!("<text transform=\"translate(14 {middle}) rotate(-90)\" text-anchor=\"middle\">");
    svg += &format!("{}</text>", plot.y_label);
    for (index, series) in plot.series.iter().enumerate() {
        let places = series.points.iter().map(|point| format!("{:.1},{:.1}", x_of(point.x), y_of(point.y)));
        let places = places.collect::<Vec<_>>().join(" ");
        svg += &format!("<polyline class=\"line s{index}\" points=\"{places}\"/>");
        for point in &series.points {
            let Some(is_filled) = point.mark else { continue };
            let fill = if is_filled { "filled" } else { "hollow" };
            let (x, y) = (x_of(point.x), y_of(point.y));
            svg += &format!("<circle class=\"line s{index} {fill}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        }
        let (x, y) = (LEFT + 220.0 * index as f64, 16.0);
        if plot.series.len() > 1 {
            svg += &format!("<path class=\"line s{index}\" d=\"M{x} {}h18\"/>", y - 4.0);
            svg += &text(x + 24.0, y, "start", series.name);
        }
    }
    svg + "</svg>"
}

fn text(x: f64, y: f64, anchor: &str, label: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{label}</text>")
}

/// An axis without extent ends at 1.
fn positive(max: f64) -> f64 {
    if max > 0.0 { max } else { 1.0 }
}

/// Four to ten round numbers (1, 2 or 5 times a power of ten apart) from 0 to `max`.
fn round_ticks(max: f64) -> Vec<(f64, String)> {
    let power = 10_f64.powf((max / 4.0).log10().floor());
    let step = [5.0, 2.0, 1.0].map(|factor| factor * power).into_iter().find(|step| step * 4.0 <= max);
    let step = step.unwrap_or(power);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let count = (max / step).floor() as u32;
    (0..=count).map(|n| f64::from(n) * step).map(|tick| (tick, format!("{tick:.digits$}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |max| round_ticks(max).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(100.0), "0 20 40 60 80 100");
        assert_eq!(labels(0.37), "0.00 0.05 0.10 0.15 0.20 0.25 0.30 0.35");
        assert_eq!(labels(6900.0), "0 1000 2000 3000 4000 5000 6000");
        for max in [1e-3, 0.7, 1.0, 9.99, 12_345.0] {
            let count = round_ticks(max).len();
            assert!((5..=11).contains(&count), "{count} for {max}");
        }
    }

    #[test]
    fn points_are_drawn_where_they_are() {
        let points = vec![Point::new(0.0, 0.0), Point { x: 10.0, y: 100.0, mark: Some(false) }];
        let series = vec![Series { name: "one", points }];
        let plot = Plot { title: "a", x_label: "b", y_label: "c", x_ticks: vec![], series };
        let svg = svg(&plot);
        assert!(svg.contains("points=\"62.0,216.0 666.0,37.0\""), "{svg}");
        assert!(svg.contains("class=\"line s0 hollow\" cx=\"666.0\" cy=\"37.0\""), "{svg}");
    }

    #[test]
    fn a_plot_of_nothing_is_drawn() {
        let series = vec![Series { name: "none", points: vec![] }];
        let svg = svg(&Plot { title: "a", x_label: "b", y_label: "c", x_ticks: vec![], series });
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
