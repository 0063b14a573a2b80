//! The section of a bundle.

use std::fmt::Write;

use super::measure::Report;

const HEADER: &str = "[output.calibration]";

/// `[output.calibration]` as it was measured; `source` says on what.
pub fn section(report: &Report, source: &str) -> String {
    let list = |of: fn(&super::measure::Level) -> f64| {
        let values: Vec<_> = report.levels.iter().map(|level| format!("{:.6}", of(level))).collect();
        values.join(", ")
    };
    let levels: Vec<_> = report.levels.iter().map(|level| level.level.to_string()).collect();
    let mut text = format!("{HEADER}\nlevels = [{}]\n", levels.join(", "));
    let source = toml::Value::from(source);
    // Writing to a string cannot fail.
    _ = writeln!(text, "radius_squared = [{}]", list(|level| level.radius_squared));
    _ = writeln!(text, "source = {source}\nn = {}", report.n);
    text
}

/// A `model.toml` with this section for the one it had, at its end.
pub fn with_section(bundle: &str, section: &str) -> String {
    let mut kept = String::new();
    let mut is_old = false;
    for line in bundle.lines() {
        let start = line.trim_start();
        if start.starts_with('[') {
            is_old = start.split(']').next() == HEADER.split(']').next();
        }
        if !is_old {
            kept += line;
            kept.push('\n');
        }
    }
    format!("{}\n\n{section}", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_one_before_and_leaves_the_rest() {
        let bundle =
            "# mine\n[features]\nkind = \"iq\"\n\n[output.calibration] # old\nn = 1\n\n[output]\na = 1\n";
        let written = with_section(bundle, "[output.calibration]\nn = 2\n");
        assert_eq!(
            written,
            "# mine\n[features]\nkind = \"iq\"\n\n[output]\na = 1\n\n[output.calibration]\nn = 2\n"
        );
        assert_eq!(with_section(&written, "[output.calibration]\nn = 2\n"), written);
    }
}
