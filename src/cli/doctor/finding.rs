//! What a check has found.

use std::io;

use serde_json::{Value, json};

use crate::cli::output::Output;

/// Result of one check.
pub struct Finding {
    /// What was checked.
    pub what: String,
    /// What was found, or what is wrong and what to do.
    pub result: Result<String, String>,
    /// Details for programs.
    pub details: Value,
}

impl Finding {
    /// Without details.
    pub fn new(what: impl Into<String>, result: Result<String, String>) -> Self {
        Self { what: what.into(), result, details: json!({}) }
    }

    /// A line of it.
    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let (mark, text) = match &self.result {
            Ok(text) => ("ok", text),
            Err(text) => ("missing", text),
        };
        if as_json {
            let mut line = json!({"check": self.what, "ok": self.result.is_ok(), "message": text});
            if let (Some(line), Some(details)) = (line.as_object_mut(), self.details.as_object()) {
                line.extend(details.clone());
            }
            Output::plain().line(line)
        } else {
            Output::plain().line(format_args!("{mark:<8} {:<24} {text}", self.what))
        }
    }
}
