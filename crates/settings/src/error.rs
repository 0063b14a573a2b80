//! Errors of a configuration, for users.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration was refused. Its text is one line per fault.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file, as given.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML. The offending line is not shown: it may hold a secret.
    #[error("{}:{line}:{column}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file, as given.
        path: PathBuf,
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in characters, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// An environment variable of ours is not text.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(String),
    /// The built-in defaults could not be read back; a defect.
    #[error("cannot read the built-in defaults: {0}")]
    Defaults(#[from] toml::ser::Error),
    /// Keys that do not exist, or values they do not take.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

impl SettingsError {
    pub(super) fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self::Wrong(problems)) }
    }
}

/// One fault of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as `section.key`.
    pub key: String,
    /// What is wrong, with the value and the limit.
    pub message: String,
    /// Who set it: a file, an environment variable or a flag; `None` for a default.
    pub origin: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{} ({origin})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
