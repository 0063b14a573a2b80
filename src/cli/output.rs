//! Lines on standard output and messages on standard error, with a progress bar where that is a terminal.

use std::fmt::Display;
use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::escaped::Escaped;

/// Where a command writes.
pub struct Output {
    bar: ProgressBar,
}

impl Output {
    /// Without a bar.
    pub fn plain() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// With a bar of `total` frames, which is only drawn where standard error is a terminal.
    pub fn with_bar(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} frames, {per_sec}, {eta} left");
        Self { bar: style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)) }
    }

    /// Prints one line of data; control characters are escaped.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn line(&self, line: impl Display) -> io::Result<()> {
        self.raw(Escaped(line))
    }

    /// Prints lines of the program itself, which may move the cursor.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn raw(&self, line: impl Display) -> io::Result<()> {
        self.bar.suspend(|| {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()
        })
    }

    /// Prints one message.
    pub fn say(&self, line: impl Display) {
        self.bar.suspend(|| eprintln!("{}", Escaped(line)));
    }

    /// One more frame is done.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
