//! What `ops/setup` puts into `.tools/`, and where that folder is looked for.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The places of a file of `.tools/`, the likeliest first: below the working directory, then beside an
/// ancestor of the executable.
pub fn places(file: &str) -> impl Iterator<Item = PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let ancestors: Vec<_> = executable.ancestors().skip(1).map(PathBuf::from).collect();
    std::env::current_dir().into_iter().chain(ancestors).map(move |folder| folder.join(".tools").join(file))
}

/// Reports that a test does not run because a tool is missing that `ops/setup` installs.
///
/// # Panics
/// `SFERIC_REQUIRE_TOOLS` is set, as `ops/test` does: then a missing tool is a failure.
pub fn skip(missing: impl Display) {
    assert!(
        std::env::var_os("SFERIC_REQUIRE_TOOLS").is_none(),
        "{missing}; `ops/test --skip-missing` does without what is missing"
    );
    not_run(missing);
}

/// Reports that a test does not run here, which is no failure: on standard error, and as a line of the file
/// that `SFERIC_SKIPPED` names, because a runner shows the output of failures only.
pub fn not_run(reason: impl Display) {
    eprintln!("skipped: {reason}");
    let Some(list) = std::env::var_os("SFERIC_SKIPPED") else { return };
    let thread = std::thread::current();
    let test = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = test.as_deref().or(thread.name()).unwrap_or("a test").to_owned();
    // One write a line, because tests run at once.
    let line = format!("{test}: {reason}\n");
    let file = OpenOptions::new().append(true).create(true).open(&list);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("cannot write {}: {error}", list.display());
    }
}
