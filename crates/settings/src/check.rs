//! Rules of the sections' `validate()`: each reports the value and the limit.

use std::fmt::{Debug, Display};
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use sferic_samples::Number;

use super::error::Problem;

/// Collects what is wrong, section by section.
#[derive(Default)]
pub(super) struct Check {
    section: String,
    problems: Vec<Problem>,
}

impl Check {
    pub(super) fn section(&mut self, name: impl Into<String>) -> &mut Self {
        self.section = name.into();
        self
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Adds "`section.key` …" unless the rule holds.
    pub(super) fn rule(&mut self, holds: bool, key: &str, fault: impl Display) {
        if !holds {
            let key = format!("{}.{key}", self.section);
            self.problems.push(Problem { message: format!("`{key}` {fault}"), key, origin: None });
        }
    }

    pub(super) fn at_least<T: PartialOrd + Display>(&mut self, key: &str, value: T, least: T) {
        self.rule(value >= least, key, format_args!("is {value}, must be at least {least}"));
    }

    pub(super) fn positive(&mut self, key: &str, value: Duration) {
        let shown = format_duration(value);
        self.rule(!value.is_zero(), key, format_args!("is {shown}, must be longer than 0s"));
    }

    pub(super) fn not_above(&mut self, key: &str, value: Duration, limit_key: &str, limit: Duration) {
        let (shown, shown_limit) = (format_duration(value), format_duration(limit));
        let fault = format!("is {shown}, must be at most `{}.{limit_key}`, {shown_limit}", self.section);
        self.rule(value <= limit, key, fault);
    }

    pub(super) fn at_most(&mut self, key: &str, value: Duration, most: Duration) {
        let (shown, shown_most) = (format_duration(value), format_duration(most));
        self.rule(value <= most, key, format_args!("is {shown}, must be at most {shown_most}"));
    }

    /// A share from 0 to 1, both included.
    pub(super) fn share(&mut self, key: &str, value: f64) {
        self.rule(
            (0.0..=1.0).contains(&value),
            key,
            format_args!("is {}, must be from 0 to 1", Number(value)),
        );
    }

    pub(super) fn above_zero(&mut self, key: &str, value: f64) {
        self.rule(
            value > 0.0 && value.is_finite(),
            key,
            format_args!("is {}, must be a number above 0", Number(value)),
        );
    }

    /// Bytes that a NATS server keeps.
    pub(super) fn stored_bytes(&mut self, key: &str, bytes: u64) {
        let most = i64::MAX;
        self.rule(
            (1..=most as u64).contains(&bytes),
            key,
            format_args!("is {bytes}, must be from 1 to {most}"),
        );
    }

    /// The address of a web server.
    pub(super) fn web(&mut self, key: &str, url: &str, fault: impl Display) {
        let address = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        self.rule(address.is_some_and(|address| !address.is_empty()), key, fault);
    }

    /// A name NATS takes for a stream or a consumer.
    pub(super) fn nats_name(&mut self, key: &str, name: &str) {
        let refused = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
        self.text(key, name, !name.contains(refused), "without spaces or any of . * > / \\");
    }

    /// A name NATS takes for a key-value or an object store bucket.
    pub(super) fn bucket(&mut self, key: &str, name: &str) {
        self.text(key, name, is_bucket(name), "of letters, digits, _ and -");
    }

    /// A name NATS takes for a queue group.
    pub(super) fn queue_group(&mut self, key: &str, name: &str) {
        self.text(key, name, !name.contains(is_blank), "without spaces");
    }

    /// One or more subject tokens.
    pub(super) fn subject(&mut self, key: &str, subject: &str) {
        self.text(
            key,
            subject,
            is_subject(subject),
            "of tokens joined by dots, without spaces, * or >, not starting with $",
        );
    }

    /// Subject tokens that others may follow.
    pub(super) fn open_subject(&mut self, key: &str, subject: &str) {
        let good = subject.strip_suffix(".>").is_some_and(is_subject);
        self.text(
            key,
            subject,
            good,
            "of tokens joined by dots that ends in .>, without spaces or *, not starting with $",
        );
    }

    fn text(&mut self, key: &str, text: &str, good: bool, what: impl Display) {
        self.rule(good && !text.is_empty(), key, format_args!("is {}, must be a text {what}", quoted(&text)));
    }
}

pub(super) fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn is_subject(subject: &str) -> bool {
    let token_is_good =
        |token: &str| !token.is_empty() && !token.contains(|c| is_blank(c) || "*>".contains(c));
    subject.split('.').all(token_is_good) && !subject.starts_with('$')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// A value as it would be written in TOML.
pub(super) fn quoted(value: &impl Debug) -> String {
    format!("{value:?}")
}
