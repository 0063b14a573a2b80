//! Where the tracking server is, and as whom it is asked.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stays as it is in a part of a path or a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Credentials that MLflow's own clients read from the environment.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `MLFLOW_TRACKING_USERNAME`
    pub user: Option<String>,
    /// `MLFLOW_TRACKING_PASSWORD`
    pub password: Option<String>,
    /// `MLFLOW_TRACKING_TOKEN`
    pub token: Option<String>,
}

impl Credentials {
    /// Reads them from the environment.
    pub fn from_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            user: read("MLFLOW_TRACKING_USERNAME"),
            password: read("MLFLOW_TRACKING_PASSWORD"),
            token: read("MLFLOW_TRACKING_TOKEN"),
        }
    }
}

/// Address of a tracking server.
pub(super) struct Address {
    /// `http` or `https`.
    scheme: &'static str,
    /// Host and port, without credentials.
    authority: String,
    /// Path that the server's own paths are below; empty or with a leading slash.
    path: String,
    /// Header that says who asks; marked as sensitive.
    authorization: Option<HeaderValue>,
}

impl Address {
    /// Reads a URL, which may hold `user:password@`; that goes before the environment's credentials, and a
    /// user before a token, as in MLflow's clients.
    ///
    /// # Errors
    /// In words, without the credentials.
    pub(super) fn new(url: &str, credentials: &Credentials) -> Result<Self, String> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            _ => return Err("url of an MLflow server must begin with http:// or https://".into()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, authority),
        };
        if http::uri::Authority::try_from(authority).is_err() || path.contains(['?', '#', '@']) {
            return Err(format!(
                "url of an MLflow server must be {scheme}://HOST:PORT, perhaps with a path, without ? and #; \
                 in user:password@ other characters than letters and digits are written as %40 and the like"
            ));
        }
        let path = path.trim_end_matches('/').to_owned();
        let address = Self { scheme, authority: authority.to_owned(), path, authorization: None };
        if http::Uri::try_from(address.base()).is_err() {
            return Err(format!("the path in the url of the MLflow server at {authority} is none"));
        }
        Ok(Self { authorization: authorization(userinfo, credentials)?, ..address })
    }

    /// Whose header goes along: `None` for another host than the tracking server's.
    pub(super) fn authorization(&self, authority: &str) -> Option<&HeaderValue> {
        self.authorization.as_ref().filter(|_| authority == self.authority)
    }

    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The address without credentials, for messages too.
    pub(super) fn base(&self) -> String {
        self.below(&self.authority)
    }

    /// The same address on another host.
    pub(super) fn below(&self, authority: &str) -> String {
        format!("{}://{authority}{}", self.scheme, self.path)
    }
}

fn authorization(userinfo: Option<&str>, credentials: &Credentials) -> Result<Option<HeaderValue>, String> {
    let from_url = userinfo.map(|userinfo| {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decoded(user), decoded(password))
    });
    let pair = from_url.or_else(|| credentials.user.clone().zip(credentials.password.clone()));
    let value = match (pair, &credentials.token) {
        (Some((user, password)), _) => {
            format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
        }
        (None, Some(token)) => format!("Bearer {token}"),
        (None, None) => return Ok(None),
    };
    let wrong = "MLFLOW_TRACKING_TOKEN holds characters that a header can't have";
    let mut value = HeaderValue::from_str(&value).map_err(|_| wrong.to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Encodes a part of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Encodes a path, but for its slashes.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(url: &str, credentials: &Credentials) -> Option<String> {
        let address = Address::new(url, credentials).unwrap();
        address.authorization(&address.authority).map(|value| value.to_str().unwrap().to_owned())
    }

    fn basic(pair: &str) -> Option<String> {
        Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    #[test]
    fn the_url_goes_before_the_environment_and_a_user_before_a_token() {
        let token = Credentials { token: Some("t".into()), ..Credentials::default() };
        let all = Credentials { user: Some("u".into()), password: Some("p".into()), ..token.clone() };
        assert_eq!(header("http://h:5000", &Credentials::default()), None);
        assert_eq!(header("http://h:5000", &token), Some("Bearer t".into()));
        assert_eq!(header("http://h:5000", &all), basic("u:p"));
        assert_eq!(header("https://me:p%40ss%3A@h/x", &all), basic("me:p@ss:"));
        let only_user = Credentials { user: Some("u".into()), ..Credentials::default() };
        assert_eq!(header("http://h", &only_user), None, "MLflow's clients send none either");
    }

    #[test]
    fn other_hosts_get_no_credentials() {
        let address = Address::new("https://me:pw@h:5000/mlflow/", &Credentials::default()).unwrap();
        assert_eq!(address.base(), "https://h:5000/mlflow");
        assert_eq!(address.below("other:1"), "https://other:1/mlflow");
        assert!(address.authorization("h:5000").is_some());
        assert!(address.authorization("h:5000").is_some_and(HeaderValue::is_sensitive));
        assert!(address.authorization("h:5001").is_none());
    }

    #[test]
    fn wrong_urls_are_refused_without_their_secrets() {
        for url in [
            "sqlite:///x",
            "h:5000",
            "http://",
            "http://me:s3cret@",
            "http://me:s3c/ret@h",
            "http://me:s3cret@h h",
            "http://me:s3cret@h?x=1",
            "http://h/a b",
        ] {
            let error = Address::new(url, &Credentials::default()).err().expect(url);
            assert!(!error.contains("s3c"), "{error}");
        }
        let token = Credentials { token: Some("s3cret\n".into()), ..Credentials::default() };
        let error = Address::new("http://h", &token).err().unwrap();
        assert!(error.contains("MLFLOW_TRACKING_TOKEN") && !error.contains("s3cret"), "{error}");
    }
}
