//! What `ops/setup` puts into `.tools/`, and where that folder is looked for.

use std::path::PathBuf;

/// The places of a file of `.tools/`, the likeliest first: below the working directory, then beside an
/// ancestor of the executable.
pub fn places(file: &str) -> impl Iterator<Item = PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let ancestors: Vec<_> = executable.ancestors().skip(1).map(PathBuf::from).collect();
    std::env::current_dir().into_iter().chain(ancestors).map(move |folder| folder.join(".tools").join(file))
}
