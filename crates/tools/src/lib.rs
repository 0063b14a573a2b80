//! What `ops/setup` puts into `.tools/`, and where that folder is looked for.
//!
//! [`places`] takes a file of that folder and gives the paths where it may be; [`skip`] and [`not_run`]
//! are for tests that cannot run. It names no tool.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test may panic

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The places of a file of `.tools/`, in the order in which they are tried: below the working directory; for
/// an executable `<prefix>/bin/sferic` in `<prefix>/lib/sferic`, which is a copy of `.tools/`; beside an
/// ancestor of the executable.
pub fn places(file: &str) -> impl Iterator<Item = PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let below = std::env::current_dir().map(|folder| folder.join(".tools"));
    let folders: Vec<_> = below.into_iter().chain(beside(&executable)).collect();
    folders.into_iter().map(move |folder| folder.join(file))
}

fn beside(executable: &Path) -> impl Iterator<Item = PathBuf> {
    let bin = executable.parent().filter(|folder| folder.ends_with("bin"));
    let installed = bin.and_then(Path::parent).map(|prefix| prefix.join("lib/sferic"));
    installed.into_iter().chain(executable.ancestors().skip(1).map(|folder| folder.join(".tools")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_executable_has_its_tools_in_its_prefix() {
        let beside = |executable: &str| -> Vec<_> {
            beside(Path::new(executable)).map(|folder| folder.display().to_string()).collect()
        };
        assert_eq!(
            beside("/opt/bin/sferic"),
            ["/opt/lib/sferic", "/opt/bin/.tools", "/opt/.tools", "/.tools"]
        );
        assert_eq!(beside("/target/debug/sferic"), ["/target/debug/.tools", "/target/.tools", "/.tools"]);
    }

    #[test]
    fn a_file_is_looked_for_below_the_working_directory_first() {
        let first = places("bin/nats-server").next().unwrap();
        assert_eq!(first, std::env::current_dir().unwrap().join(".tools/bin/nats-server"));
    }

    #[test]
    fn a_test_that_does_not_run_is_listed_or_fails() {
        // It runs itself, in processes with other environments.
        if std::env::var_os("SFERIC_MISSES_A_TOOL").is_some() {
            return skip("no such tool");
        }
        let list = std::env::temp_dir().join(format!("sferic-tools-{}", std::process::id()));
        let run = |required: bool| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "tests::a_test_that_does_not_run_is_listed_or_fails"]);
            command.env("SFERIC_MISSES_A_TOOL", "").env("SFERIC_SKIPPED", &list);
            command.env("NEXTEST_TEST_NAME", "it").env_remove("SFERIC_REQUIRE_TOOLS");
            if required {
                command.env("SFERIC_REQUIRE_TOOLS", "1");
            }
            command.output().unwrap().status.success()
        };
        assert!(run(false) && run(false));
        let listed = std::fs::read_to_string(&list).unwrap();
        std::fs::remove_file(&list).unwrap();
        assert_eq!(listed, "it: no such tool\n".repeat(2));
        assert!(!run(true), "a missing tool is a failure");
        assert!(!list.exists(), "it failed, and is not listed");
    }
}
