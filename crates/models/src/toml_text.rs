//! Reads TOML; what is wrong with it in one line.

use serde::de::DeserializeOwned;

/// Parses TOML; an error is one line with the position, the line in the file, what is wrong with it, and the
/// nearest valid key.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let message = nearest(error.message()).unwrap_or_else(|| error.message().trim().replace('\n', ", "));
        match error.span().and_then(|span| text.get(..span.start)) {
            Some(before) => {
                let number = before.matches('\n').count();
                let line = text.lines().nth(number).unwrap_or_default().trim();
                format!("line {}, `{line}`: {message}", number + 1)
            }
            None => message,
        }
    })
}

/// Shortens serde's ``unknown field `x`, expected one of `y`, `z` `` to the nearest of them.
fn nearest(message: &str) -> Option<String> {
    let what = ["unknown field", "unknown variant"].into_iter().find(|what| message.starts_with(what))?;
    let mut names = message.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    let (name, likeness) = names
        .map(|name| (name, strsim::jaro_winkler(wrong, name)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let what = if what == "unknown field" { "unknown key" } else { "unknown value" };
    (likeness > 0.7).then(|| format!("{what} `{wrong}`, the nearest right one is `{name}`"))
}
