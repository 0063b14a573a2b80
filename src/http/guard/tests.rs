use axum::http::Request;

use super::*;

fn call(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut call = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    call.body(()).unwrap().into_parts().0
}

fn status(guard: &Guard, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    guard.check(&call(method, target, headers)).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
}

fn guard(change: impl FnOnce(&mut Http)) -> Guard {
    let mut http = Http::default();
    change(&mut http);
    Guard::new(&http)
}

#[test]
fn hosts_are_addresses_or_in_the_list_whatever_their_port() {
    let default = guard(|_| ());
    for host in [
        "127.0.0.1",
        "127.0.0.1:9",
        "10.1.2.3:80",
        "[::1]:8003",
        "[fe80::1]",
        "localhost:1",
        "LocalHost",
        "localhost.",
    ] {
        assert_eq!(status(&default, "GET", "/", &[("host", host)]), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8003",
        "0x7f.1",
        "::1",
        "[::1",
    ] {
        let status = status(&default, "GET", "/", &[("host", host)]);
        assert!([400, 421].contains(&status), "{host}: {status}");
    }
    let named = guard(|http| http.listen = "sdr.lan:8003".to_owned());
    assert_eq!(status(&named, "GET", "/", &[("host", "sdr.lan")]), 200);
    let listed = guard(|http| http.allowed_hosts = vec!["Sferic.Example:1".to_owned()]);
    assert_eq!(status(&listed, "GET", "/", &[("host", "sferic.example:8003")]), 200);
    assert_eq!(
        status(&listed, "GET", "/", &[("host", "localhost")]),
        421,
        "the list stands for the default one"
    );
    assert_eq!(status(&listed, "GET", "/", &[("host", "127.0.0.1")]), 200);
}

#[test]
fn a_call_is_for_one_host() {
    let guard = guard(|_| ());
    for (headers, expected) in [
        (&[][..], 400),
        (&[("host", "")], 400),
        (&[("host", "user@localhost")], 400),
        (&[("host", "localhost"), ("host", "localhost")], 400),
        (&[("host", "localhost")], 200),
    ] {
        assert_eq!(status(&guard, "GET", "/", headers), expected, "{headers:?}");
    }
    assert_eq!(status(&guard, "GET", "http://evil.example/", &[("host", "localhost")]), 421);
    assert_eq!(status(&guard, "GET", "http://localhost/", &[("host", "evil.example")]), 421);
    let mut old = call("GET", "/", &[]);
    old.version = Version::HTTP_10;
    assert!(guard.check(&old).is_ok(), "HTTP/1.0 has none, and no browser speaks it");
}

#[test]
fn only_its_own_pages_may_send() {
    let guard = guard(|_| ());
    let host = ("host", "127.0.0.1:8003");
    for (origin, expected) in [
        ("http://127.0.0.1:8003", 200),
        ("null", 403),
        ("", 403),
        ("http://127.0.0.1:8004", 403),
        ("http://127.0.0.1", 403),
        ("http://localhost:8003", 403),
        ("http://evil.example", 403),
        ("file://127.0.0.1:8003", 403),
    ] {
        assert_eq!(status(&guard, "POST", "/", &[host, ("origin", origin)]), expected, "{origin}");
        assert_eq!(status(&guard, "OPTIONS", "/", &[host, ("origin", origin)]), expected, "{origin}");
        assert_eq!(status(&guard, "GET", "/", &[host, ("origin", origin)]), 200, "{origin}");
    }
    let both = [host, ("origin", "http://127.0.0.1:8003"), ("origin", "http://evil.example")];
    assert_eq!(status(&guard, "POST", "/", &both), 403);
    for (site, expected) in
        [("cross-site", 403), ("Cross-Site", 403), ("same-origin", 200), ("same-site", 200), ("none", 200)]
    {
        assert_eq!(status(&guard, "POST", "/", &[host, ("sec-fetch-site", site)]), expected, "{site}");
        assert_eq!(status(&guard, "HEAD", "/", &[host, ("sec-fetch-site", site)]), 200, "{site}");
    }
    // Behind a proxy that ends TLS, ports are the default ones.
    let behind = [("host", "localhost"), ("origin", "https://localhost")];
    assert_eq!(status(&guard, "POST", "/", &behind), 200);
}

#[test]
fn with_a_token_all_but_two_paths_and_the_page_need_it() {
    let guard = guard(|http| http.token = "s3cret".to_owned());
    let with = |authorization| {
        guard.check(&call("GET", "/metrics", &[("host", "localhost"), ("authorization", authorization)]))
    };
    for good in ["Bearer s3cret", "bearer  s3cret"] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in ["Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", ""] {
        let refusal = with(bad).unwrap_err();
        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED, "{bad}");
        assert!(!refusal.message.contains("s3c"), "{}", refusal.message);
    }
    for path in ["/health", "/ready", "/", "/page/app.js"] {
        assert_eq!(status(&guard, "GET", path, &[("host", "localhost")]), 200, "{path}");
    }
    for path in [
        "/page/",
        "/page/index.html",
        "/api/v1/events",
        "/basemap.pmtiles",
        "/openapi.json",
        "/health/",
        "/ready/x",
        "/nothing",
    ] {
        assert_eq!(status(&guard, "GET", path, &[("host", "localhost")]), 401, "{path}");
    }
}
