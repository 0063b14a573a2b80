//! Errors with their causes, for logs and messages.

/// An error with its causes, each once: the text of many libraries' errors has that of their source in it.
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    /// As the NATS client's errors are.
    #[derive(Debug)]
    struct Repeating(std::io::Error);

    impl std::fmt::Display for Repeating {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "IO error: {}", self.0)
        }
    }

    impl std::error::Error for Repeating {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn each_cause_is_given_once() {
        let refused = || Repeating(std::io::Error::other("refused"));
        for (error, text) in [
            (anyhow!("refused"), "refused"),
            (anyhow!("refused").context("no connection"), "no connection: refused"),
            (refused().into(), "IO error: refused"),
            (
                Err::<(), _>(refused()).context("no connection").unwrap_err(),
                "no connection: IO error: refused",
            ),
        ] {
            assert_eq!(with_causes(&error), text);
        }
    }
}
