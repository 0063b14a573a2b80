//! A source that goes away and comes back.

use std::fmt::Display;
use std::time::Duration;

use crate::cli::output::Output;

/// Time for a connection to be made, and for the first bytes of a protocol.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A source that sends nothing for this long is connected to anew: its receiver may be gone.
pub const SILENCE: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses between attempts, and what is said of them.
pub struct Retry<'a> {
    name: String,
    output: &'a Output,
    pause: Duration,
    is_away: bool,
}

impl<'a> Retry<'a> {
    /// Nothing was tried yet.
    pub fn new(name: impl Display, output: &'a Output) -> Self {
        Self { name: name.to_string(), output, pause: FIRST_PAUSE, is_away: false }
    }

    /// The source is there.
    pub fn connected(&mut self, what: impl Display) {
        self.output.say(format!("{}: connected, {what}", self.name));
        self.is_away = false;
    }

    /// The source sends.
    pub fn sends(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// The source is not there, or not any more. Says so once, and waits before the next attempt.
    pub async fn wait(&mut self, why: impl Display) {
        if !std::mem::replace(&mut self.is_away, true) {
            self.output.say(format!("{}: {why}; waiting for it", self.name));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}
