//! A bar for each side, as SVG that is light or dark as its reader prefers.

use std::fmt::Write;

use crate::measurement::{Load, Run, Spread, Turn};
use crate::report::{sides, values};
use crate::side::{Part, Side};

const WIDTH: f64 = 800.0;
/// Where bars begin, and where the longest ends; the figure stands behind it.
const LEFT: f64 = 350.0;
const RIGHT: f64 = 650.0;
const TOP: f64 = 44.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e;font-size:12px}\
.ours{fill:#0969da}.peer{fill:#8c959f}.limit{fill:#d1d9e0}.range{stroke:#1f2328;stroke-width:1.5;fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.ours{fill:#4493f8}\
.peer{fill:#656c76}.limit{fill:#3d444d}.range{stroke:#e6edf3}}";

/// Answers a second with the most users, medians with their range; sides by rising rate within their part.
pub fn svg(run: &Run, turns: &[Turn]) -> String {
    let most = run.concurrency.iter().max().copied().unwrap_or_default();
    let rate = |side: Side| {
        let load = if side.is_loop() { Load::Loop } else { Load::Users(most) };
        Some((side, Spread::of(values(turns, side, load, |measured| measured.rate))?))
    };
    let mut bars: Vec<(Side, Spread)> = sides(turns).into_iter().filter_map(rate).collect();
    let order = |part| match part {
        Part::Limit => 0,
        Part::Ours => 1,
        Part::Peer => 2,
    };
    bars.sort_by(|(a, x), (b, y)| {
        order(a.part()).cmp(&order(b.part())).then(y.median.total_cmp(&x.median)).then(a.cmp(b))
    });
    // The echo does no work: its bar would leave no room for the others.
    let longest = |(side, spread): &(Side, Spread)| if *side == Side::Echo { 0.0 } else { spread.high };
    let longest = bars.iter().map(longest).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let x = |rate: f64| LEFT + (RIGHT - LEFT) * (rate / longest).min(1.0);
    let height = TOP + ROW * bars.len() as f64 + 30.0;
    let title = format!("Answers a second, {most} at a time: model {}", escaped(&run.model));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<text x=\"12\" y=\"24\">{title}</text>\n"
    );
    for (row, (side, Spread { median, low, high })) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (class, middle) = (class(*side), y + BAR / 2.0);
        let name = side.title(run.workers).replace("**", "");
        let cut = if *median > longest { ", beyond the scale" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <path class=\"range\" d=\"M{:.1} {middle:.1}H{:.1}\"/>\
             <text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\">{median:.0}{cut}</text>",
            LEFT - 8.0,
            middle + 4.5,
            escaped(&name),
            x(*median) - LEFT,
            x(*low),
            x(*high),
            x(*high) + 8.0,
            middle + 4.0,
        );
    }
    let machine = |name: &str| escaped(run.machine.get(name).map_or("", String::as_str));
    let _ = writeln!(
        svg,
        "<text class=\"quiet\" x=\"12\" y=\"{:.1}\">{} cores of {}, {}; medians, with the range over the \
         rounds</text>\n</svg>",
        height - 10.0,
        machine("cores"),
        machine("processor"),
        escaped(&run.date),
    );
    svg
}

fn class(side: Side) -> &'static str {
    match side.part() {
        Part::Ours => "ours",
        Part::Peer => "peer",
        Part::Limit => "limit",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, turn};

    #[test]
    fn bars_are_as_long_as_their_rates_and_the_echo_is_cut() {
        let turns = [
            turn(1, Side::Echo, Load::Users(32), 9000.0),
            turn(1, Side::Sferic, Load::Users(32), 1000.0),
            turn(1, Side::Mosec, Load::Users(32), 500.0),
            turn(1, Side::Mosec, Load::Users(1), 300.0),
        ];
        let svg = svg(&run(), &turns);
        assert!(svg.contains("class=\"limit\" x=\"350\" y=\"44.0\" width=\"300.0\""), "{svg}");
        assert!(svg.contains("class=\"ours\" x=\"350\" y=\"70.0\" width=\"300.0\""), "{svg}");
        assert!(svg.contains("class=\"peer\" x=\"350\" y=\"96.0\" width=\"150.0\""), "{svg}");
        assert!(
            svg.contains("9000, beyond the scale") && !svg.contains("NaN") && !svg.contains("**"),
            "{svg}"
        );
    }
}
