//! Files with secrets: NKey seeds and `.creds` files. No error shows what is in them.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::{KeyPair, KeyPairType};

/// The text of the file that a key of the configuration names.
pub(super) async fn read(key: &str, file: &str) -> anyhow::Result<String> {
    let read = tokio::fs::read_to_string(file).await;
    read.with_context(|| format!("{key}, {file}, cannot be read"))
}

/// The seed of a user in a text: the line that begins with `SU`, alone or among comments and decoration as in
/// a `.creds` file. `None` where there is none, or one that is not whole.
pub(super) fn seed(text: &str) -> Option<&str> {
    let is_of_a_user =
        |line: &&str| KeyPair::from_seed(line).is_ok_and(|pair| pair.key_pair_type() == KeyPairType::User);
    text.lines().map(str::trim).filter(|line| line.starts_with("SU")).find(is_of_a_user)
}

/// When the JWT in the text of a `.creds` file expires; `None` where it does not.
pub(super) fn expiry(credentials: &str) -> Option<SystemTime> {
    // The first letters of every JWT: its header is a JSON object.
    let jwt = credentials.lines().map(str::trim).find(|line| line.starts_with("eyJ"))?;
    let claims = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims["exp"].as_u64().filter(|seconds| *seconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_found_among_comments_and_decoration() {
        let user = KeyPair::new_user().seed().unwrap();
        let decorated =
            format!("-----BEGIN USER NKEY SEED-----\r\n{user}\r\n------END USER NKEY SEED------\r\n");
        for text in [user.clone(), format!("# of ann\nSUsan wrote this\n\n  {user} \n"), decorated] {
            assert_eq!(seed(&text), Some(user.as_str()));
        }
        let account = KeyPair::new_account().seed().unwrap();
        let broken = format!("{}{}", &user[..57], if user.ends_with('A') { 'B' } else { 'A' });
        for text in ["", "SU", "# SUAB", &account, &user[..57], &broken, &user.to_lowercase()] {
            assert_eq!(seed(text), None, "{text}");
        }
    }

    #[test]
    fn credentials_expire_when_their_jwt_says() {
        let creds = |claims: &str| {
            format!("-----BEGIN NATS USER JWT-----\neyJh.{}.x\n", URL_SAFE_NO_PAD.encode(claims))
        };
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(expiry(&creds(r#"{"exp": 1600000000}"#)), at(1_600_000_000));
        for text in [&creds("{}"), &creds(r#"{"exp": 0}"#), &creds("no JSON"), "eyJ", ""] {
            assert_eq!(expiry(text), None, "{text}");
        }
    }
}
