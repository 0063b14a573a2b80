//! Sources as NATS writes them in subscriptions.

/// Whether a text is sources as NATS writes them: tokens, `*` for any one, `>` for the rest.
pub fn is_pattern(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let is_token = |(index, token): (usize, &&str)| match *token {
        "*" => true,
        ">" => index + 1 == tokens.len(),
        // Within a longer token they are characters like others.
        token => !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control()),
    };
    tokens.iter().enumerate().all(is_token)
}

/// Whether a pattern takes in a source.
pub fn matches(pattern: &str, source: &str) -> bool {
    let (mut pattern, mut source) = (pattern.split('.'), source.split('.'));
    loop {
        match (pattern.next(), source.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_tokens_and_wildcards_in_their_places() {
        for (pattern, valid) in [
            ("north.>", true),
            ("*.rx", true),
            (">.a", false),
            ("a..b", false),
            ("a*", true),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_pattern(pattern), valid, "{pattern}");
        }
    }
}
