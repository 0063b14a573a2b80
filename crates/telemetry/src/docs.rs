//! Keeps the tables of `ops/docs/telemetry.md` equal to the code.

use std::path::PathBuf;

use super::metrics::catalogue;
use super::traces::{SPANS, attributes};

/// If set, the tables are written into the page instead of compared with it.
const WRITE: &str = "SFERIC_WRITE_DOCS";

fn metrics() -> String {
    let mut table = String::from(
        "| Prometheus | OTLP, with its unit | kind | labels | |\n| --- | --- | --- | --- | --- |\n",
    );
    for metric in catalogue::ALL {
        let unit = if metric.unit.is_empty() { String::new() } else { format!(", `{}`", metric.unit) };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let (name, labels) = (metric.prometheus_name(), labels.join(", "));
        table += &format!("| `{name}` | `{}`{unit} | {kind} | {labels} | {} |\n", metric.name, metric.help);
    }
    table
}

fn spans() -> String {
    let row = |(name, kind, parent, covers): &(&str, &str, &str, &str)| {
        format!("| `{name}` | {kind} | {parent} | {covers} |\n")
    };
    let rows: String = SPANS.iter().map(row).collect();
    format!("| span | kind | under | covers |\n| --- | --- | --- | --- |\n{rows}")
}

fn attributes() -> String {
    let row = |(name, on, meaning): &(&str, &str, &str)| format!("| `{name}` | {on} | {meaning} |\n");
    let rows: String = attributes::ALL.iter().map(row).collect();
    format!("| attribute | on | meaning |\n| --- | --- | --- |\n{rows}")
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ops/docs/telemetry.md")
}

/// The page with what stands between the marks of `part` replaced by `table`.
fn with_part(page: &str, part: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {part}: written by a test -->\n"), format!("<!-- end of {part} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{begin:?} is not in the page"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end:?} is not in the page"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

#[test]
fn the_page_equals_the_code() {
    let found = std::fs::read_to_string(page()).unwrap();
    let parts = [("metrics", metrics()), ("spans", spans()), ("attributes", attributes())];
    let right = parts.iter().fold(found.clone(), |page, (part, table)| with_part(&page, part, table));
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(page(), right).unwrap();
    } else {
        assert!(
            found == right,
            "ops/docs/telemetry.md is not what the code says; {WRITE}=1 on this test writes it anew"
        );
    }
}
