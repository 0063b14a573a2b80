//! What `ops/setup` puts into `.tools/`, and where that folder is looked for.
//!
//! [`places`] takes a file of that folder and gives the paths where it may be; [`skip`] is for tests whose
//! tool is missing. It names no tool.

use std::fmt::Display;
use std::path::PathBuf;

/// The places of a file of `.tools/`, the likeliest first: below the working directory, then beside an
/// ancestor of the executable.
pub fn places(file: &str) -> impl Iterator<Item = PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let ancestors: Vec<_> = executable.ancestors().skip(1).map(PathBuf::from).collect();
    std::env::current_dir().into_iter().chain(ancestors).map(move |folder| folder.join(".tools").join(file))
}

/// Reports that a test does not run because a tool is missing.
///
/// # Panics
/// `SFERIC_REQUIRE_TOOLS` is set: then a missing tool is a failure.
pub fn skip(missing: impl Display) {
    assert!(std::env::var_os("SFERIC_REQUIRE_TOOLS").is_none(), "SFERIC_REQUIRE_TOOLS is set, and {missing}");
    eprintln!("skipped: {missing}");
}
