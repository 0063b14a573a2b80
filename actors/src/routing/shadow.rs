//! Which frames a version sees only as copies.

use super::split::{Sender, hash, point};

/// A version that gets copies of what the active one answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// Name of the model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Share of the frames that are copied, 0 to 1.
    share: f64,
    /// What is hashed with a frame's id: other frames are copied than a split of frames chooses.
    salt: String,
}

impl Shadow {
    /// Copies this share of the frames, 0 to 1.
    pub fn new(model: &str, version: &str, share: f64) -> Self {
        let salt = format!("{model}\0shadow");
        Self { model: model.to_owned(), version: version.to_owned(), share, salt }
    }

    /// Share of the frames that are copied, 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Whether a frame of this sender is copied.
    pub fn copies(&self, sender: Sender<'_>) -> bool {
        self.share >= 1.0 || point(hash(&self.salt, sender.frame)) < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_share_of_the_frames_is_copied() {
        let copied = |share: f64| {
            let shadow = Shadow::new("m", "2", share);
            let ids = (0..10_000).map(|n: u32| n.to_string());
            ids.filter(|id| shadow.copies(Sender { session: None, source: "rx", frame: id })).count()
        };
        assert!((2300..2700).contains(&copied(0.25)) && copied(1.0) == 10_000);
    }
}
