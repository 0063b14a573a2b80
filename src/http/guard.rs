//! The guard against browsers and strangers: a page that somebody visits may send requests to loopback, under
//! this host's name or another one that it has made point here.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use sferic_settings::{Http, given};
use sferic_wire::shortened;
use subtle::ConstantTimeEq;

use super::errors::Refusal;
use super::page;

/// Hosts that are this one wherever they are looked up.
const LOOPBACK: [&str; 3] = ["localhost", "ip6-localhost", "ip6-loopback"];

/// Paths that supervisors ask for without a token. Nor do the files of the page need one, which hold no data.
const WITHOUT_TOKEN: [&str; 2] = ["/health", "/ready"];

/// What callers must show.
pub(super) struct Guard {
    hosts: Vec<String>,
    token: Option<String>,
}

impl Guard {
    /// As the settings say.
    pub(super) fn new(http: &Http) -> Self {
        let hosts = match http.allowed_hosts.as_slice() {
            [] => LOOPBACK.into_iter().chain([http.listen.as_str()]).map(name).collect(),
            hosts => hosts.iter().map(|host| name(host)).collect(),
        };
        Self { hosts, token: given(&http.token).map(str::to_owned) }
    }

    /// Checks a call before anything else is read of it.
    pub(super) fn check(&self, call: &Parts) -> Result<(), Refusal> {
        let host = self.check_host(call)?;
        if !matches!(call.method, Method::GET | Method::HEAD) {
            check_origin(&call.headers, host.as_ref())?;
        }
        let path = call.uri.path();
        if !WITHOUT_TOKEN.contains(&path) && !page::is_file(path) {
            self.check_token(&call.headers)?;
        }
        Ok(())
    }

    /// Gives the host that the call is for.
    fn check_host(&self, call: &Parts) -> Result<Option<Authority>, Refusal> {
        let malformed = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", message);
        let mut given = call.headers.get_all(header::HOST).iter();
        let host = match (given.next(), given.next()) {
            (None, _) if call.version < Version::HTTP_11 => None,
            (None, _) => return Err(malformed("the call has no `Host`")),
            (Some(host), None) => {
                let host =
                    Authority::try_from(host.as_bytes()).ok().filter(|host| !host.as_str().contains('@'));
                Some(host.ok_or_else(|| malformed("`Host` is no host and port"))?)
            }
            (Some(_), Some(_)) => return Err(malformed("the call has more than one `Host`")),
        };
        // A proxy's form of the target goes before the header.
        let target = call.uri.authority().cloned();
        for authority in target.iter().chain(&host) {
            if !self.is_allowed(authority.host()) {
                let shown = shortened(authority.host(), 100);
                return Err(Refusal::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    "misdirected_request",
                    format!("the host is {shown:?}, must be an IP address or one of http.allowed_hosts"),
                ));
            }
        }
        Ok(target.or(host))
    }

    fn is_allowed(&self, host: &str) -> bool {
        let host = name(host);
        is_address(&host) || self.hosts.contains(&host)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        // In constant time: how long the comparison takes says nothing of how much of the token is right.
        if shown.is_some_and(|shown| shown.ct_eq(token.as_bytes()).into()) {
            return Ok(());
        }
        let what = if shown.is_some() { "the token is not http.token" } else { "the call has no token" };
        let message = format!("{what}, must have `Authorization: Bearer <http.token>`");
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }
}

/// The token that a call shows.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Refuses what a page of another origin sends. Such pages cannot leave out or change these headers.
fn check_origin(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Refusal> {
    let forbidden = |message: String| Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message));
    for origin in headers.get_all(header::ORIGIN) {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        if !host.is_some_and(|host| is_same(&origin, host)) {
            let shown = shortened(&origin, 100);
            return forbidden(format!(
                "the origin is {shown:?}, must be this server's own: pages of others may not call it"
            ));
        }
    }
    let sites = headers.get_all("sec-fetch-site");
    if sites.iter().any(|site| site.as_bytes().trim_ascii().eq_ignore_ascii_case(b"cross-site")) {
        return forbidden(
            "`Sec-Fetch-Site` is cross-site: pages of other sites may not call this server".to_owned(),
        );
    }
    Ok(())
}

/// Whether an origin is that of a host and port.
fn is_same(origin: &str, host: &Authority) -> bool {
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(origin) = origin.parse::<Authority>() else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
}

/// A host without its port, as hosts are compared.
fn name(host: &str) -> String {
    let authority = host.parse::<Authority>();
    let host = authority.as_ref().map_or(host, |authority| authority.host());
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_address(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match in_brackets {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests;
