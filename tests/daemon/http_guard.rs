//! What HTTP refuses: strangers, pages of others, too much, too slow.

use std::time::{Duration, Instant};

use serde_json::json;
use sferic::app::App;
use sferic::nats::PrivateServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_client::*;
use crate::support::*;

/// A call that is refused: method, path, headers; status and code.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);

/// What every answer has.
fn check_headers(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{}", answer.head);
    assert_eq!(answer.header("content-security-policy"), Some("frame-ancestors 'none'"), "{}", answer.head);
    assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_pages_of_others_are_refused() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let address = served.address;
    let own = format!("http://{address}");
    let body = json!({"iq_data": vec![[0.5, 0.25]; 64]}).to_string();
    let cases: &[Case] = &[
        ("GET", "/health", &[("Host", "evil.example")], 421, "misdirected_request"),
        ("POST", PREDICT, &[("Host", "evil.example:8003")], 421, "misdirected_request"),
        ("POST", PREDICT, &[("Origin", "http://evil.example")], 403, "forbidden"),
        ("POST", PREDICT, &[("Origin", "null")], 403, "forbidden"),
        ("POST", BATCH, &[("Origin", "http://127.0.0.1:1")], 403, "forbidden"),
        ("OPTIONS", PREDICT, &[("Origin", "http://evil.example")], 403, "forbidden"),
        ("POST", PREDICT, &[("Sec-Fetch-Site", "cross-site")], 403, "forbidden"),
        ("POST", PREDICT, &[("Content-Type", "text/plain")], 415, "unsupported_media_type"),
        (
            "POST",
            BATCH,
            &[("Content-Type", "application/x-www-form-urlencoded")],
            415,
            "unsupported_media_type",
        ),
        ("GET", PREDICT, &[], 405, "method_not_allowed"),
        ("DELETE", "/metrics", &[], 405, "method_not_allowed"),
        ("POST", "/health", &[], 405, "method_not_allowed"),
        ("OPTIONS", PREDICT, &[], 405, "method_not_allowed"),
        ("GET", "/nothing", &[], 404, "not_found"),
        ("POST", "/api/v1/inference/predict/", &[], 404, "not_found"),
    ];
    for (method, path, headers, status, code) in cases {
        let answer = call(address, method, path, headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.error().as_str()), (*status, *code), "{method} {path} {headers:?}");
        check_headers(&answer);
        if *status == 405 {
            let allowed = if path.starts_with("/api") { "POST" } else { "GET,HEAD" };
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        }
    }
    for headers in [
        &[("Origin", own.as_str())][..],
        &[("Host", "localhost")],
        &[("Host", "[::1]:99")],
        &[("Sec-Fetch-Site", "same-origin")],
    ] {
        let answer = call(address, "POST", PREDICT, headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.json());
        check_headers(&answer);
    }
    let answer = call(address, "GET", "/metrics", &[("Origin", "http://evil.example")], b"").await;
    assert_eq!(answer.status, 200, "a page of others may ask, and cannot read the answer");
    check_headers(&answer);
    assert_eq!(served.end().await, [4, 4, 0], "what was refused came to no frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_everything_but_the_supervisors_pages_needs_it() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| settings.http.token = "s3cret".to_owned()).await;
    for path in ["/health", "/ready"] {
        assert_eq!(call(served.address, "GET", path, &[], b"").await.status, 200);
    }
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/api/v1/inference/health"),
        ("POST", PREDICT),
        ("POST", BATCH),
        ("GET", "/nothing"),
    ] {
        for authorization in [None, Some("Bearer wrong"), Some("Basic s3cret")] {
            let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
            let answer = call(served.address, method, path, &headers, b"").await;
            assert_eq!((answer.status, answer.error().as_str()), (401, "unauthorized"), "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            check_headers(&answer);
        }
        let answer = call(served.address, method, path, &[("Authorization", "Bearer s3cret")], b"").await;
        assert_ne!(answer.status, 401, "{method} {path}");
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_it_takes_a_token_or_saying_so() {
    if !tools_are_there() {
        return;
    }
    let server = PrivateServer::start(&[]).await.unwrap();
    let models = repository(&["degrees"]);
    let mut settings = settings(&server, &models, "degrees");
    settings.http.listen = "0.0.0.0:0".to_owned();
    let error = App::start(&settings).await.err().expect("everyone may call it").to_string();
    for part in ["`http.listen` is \"0.0.0.0:0\", beyond loopback", "`http.token`", "`http.insecure = true`"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert!(settings.validate().unwrap_err().to_string().contains("beyond loopback"));
    for open in [false, true] {
        (settings.http.insecure, settings.http.token) = (open, if open { "" } else { "t" }.to_owned());
        settings.validate().unwrap();
        let app = App::start(&settings).await.unwrap();
        assert!(app.http_address().unwrap().ip().is_unspecified());
        app.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_with_the_limit() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |settings| settings.http.max_body = 2000).await;
    let fits = json!({"iq_data": vec![[0.5, 0.25]; 64]}).to_string();
    assert!(fits.len() < 2000);
    assert_eq!(call(served.address, "POST", PREDICT, &[], fits.as_bytes()).await.status, 200);
    for size in [2001, 100_000] {
        let answer = call(served.address, "POST", PREDICT, &[], &vec![b' '; size]).await;
        assert_eq!((answer.status, answer.error().as_str()), (413, "body_too_large"), "{size}");
        assert!(answer.json()["message"].as_str().unwrap().contains("over http.max_body, 2000"));
    }
    // Of unknown length.
    let chunk = format!("{:x}\r\n{}\r\n", 1500, " ".repeat(1500));
    let head = "POST /api/v1/inference/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let bytes = exchange(served.address, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(Answer::of(&bytes).unwrap().status, 413);
    assert_eq!(served.end().await, [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_and_cost_the_others_nothing() {
    if !tools_are_there() {
        return;
    }
    let served = Served::start(&["degrees"], |_| ()).await;
    let body = json!({"iq_data": vec![[0.5, 0.25]; 64]}).to_string();
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let begun = match n % 3 {
            0 => String::new(),
            1 => format!("POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nX-Slow: "),
            _ => format!("POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n{{"),
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(call(served.address, "POST", PREDICT, &[], body.as_bytes()).await.status, 200);
    }
    // One that sends a byte now and then has no more time than one that sends none.
    let dripping = slow.swap_remove(1);
    let (mut reading, mut writing) = dripping.into_split();
    let dripping = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("it is not cut");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    dripping.await.unwrap();
    let mut silent = slow.swap_remove(0);
    let _ = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("it is not cut");
    assert!(Answer::of(&rest).is_none());
    // A stop does not wait for those who still send.
    let stopping = Instant::now();
    assert_eq!(served.end().await, [50, 50, 0]);
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
}
