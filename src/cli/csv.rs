//! Outcomes as CSV (RFC 4180), one line each under a header.

use rmpv::Value;

use super::outcome::Outcome;
use crate::msgpack_json::Json;

/// The columns: a key of the outcome, or a path of keys with points between them.
const COLUMNS: [&str; 25] = [
    "timestamp",
    "source",
    "seq",
    "frame_id",
    "session_id",
    "datetime",
    "frequency",
    "kind",
    "code",
    "position.latitude",
    "position.longitude",
    "uncertainty.sigma_x",
    "uncertainty.sigma_y",
    "uncertainty.theta",
    "uncertainty.confidence_interval",
    "ellipse.semi_major",
    "ellipse.semi_minor",
    "ellipse.rotation",
    "confidence",
    "label",
    "score",
    "model",
    "model_version",
    "inference_time_ms",
    "message",
];

/// The first line.
pub fn header() -> String {
    COLUMNS.map(|column| column.replace('.', "_")).join(",")
}

/// An outcome's line; what it does not have is empty. `label` and `score` are those of the best label.
pub fn line(outcome: &Outcome) -> String {
    COLUMNS.map(|column| cell(outcome, column).map_or_else(String::new, |text| quoted(&text))).join(",")
}

fn cell(outcome: &Outcome, column: &str) -> Option<String> {
    match outcome.at(column)? {
        Value::Nil => None,
        Value::String(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        value => Some(Json(value).to_string()),
    }
}

/// A cell in quotes where it needs them. Text that a spreadsheet would take for a formula gets an apostrophe
/// before it, since senders choose sources, ids and labels; numbers stay.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let apostrophe = if is_formula { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{LOCALIZATION, outcome};
    use super::*;

    fn cells(json: &str) -> Vec<(&'static str, String)> {
        let line = line(&outcome(json));
        let cells: Vec<_> = COLUMNS.into_iter().zip(line.split(',').map(str::to_owned)).collect();
        cells.into_iter().filter(|(_, cell)| !cell.is_empty()).collect()
    }

    #[test]
    fn a_line_has_the_values_under_their_names() {
        assert!(header().starts_with("timestamp,source,seq,frame_id,"));
        assert_eq!(header().split(',').count(), line(&outcome(LOCALIZATION)).split(',').count());
        let expected = [
            ("source", "north.rx2"),
            ("seq", "12"),
            ("frame_id", "a1"),
            ("frequency", "868300000.0"),
            ("kind", "localization"),
            ("position.latitude", "45.01"),
            ("position.longitude", "7.62"),
            ("uncertainty.sigma_x", "100.0"),
            ("uncertainty.sigma_y", "60.0"),
            ("uncertainty.theta", "0.0"),
            ("uncertainty.confidence_interval", "0.68"),
            ("ellipse.semi_major", "151.0"),
            ("ellipse.semi_minor", "90.6"),
            ("ellipse.rotation", "0.0"),
            ("model", "localization"),
            ("model_version", "1"),
            ("inference_time_ms", "3.25"),
        ];
        assert_eq!(cells(LOCALIZATION), expected.map(|(key, cell)| (key, cell.to_owned())));
        let labels = r#"{"kind":"classification","labels":[{"label":"ook","score":0.93},{"label":"am"}]}"#;
        let expected = [("kind", "classification"), ("label", "ook"), ("score", "0.93")];
        assert_eq!(cells(labels), expected.map(|(key, cell)| (key, cell.to_owned())));
    }

    #[test]
    fn what_senders_choose_stays_one_cell_and_no_formula() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=cmd()", "'=cmd()"),
            ("-1,5", "\"'-1,5\""),
            ("-1.5", "-1.5"),
        ] {
            assert_eq!(quoted(text), cell);
        }
    }
}
