use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use tower_service::Service;

use super::*;
use crate::events::Events;

fn document() -> Value {
    serde_json::from_str(include_str!("openapi.json")).unwrap()
}

async fn status(routes: &Router, method: &str, path: &str) -> StatusCode {
    let call =
        Request::builder().method(method).uri(path).header("host", "localhost").body(Body::empty()).unwrap();
    routes.clone().call(call).await.unwrap().status()
}

#[tokio::test]
async fn the_document_has_every_route_and_no_other() {
    let document = document();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let settings = sferic_settings::Settings::default();
    let routes = routes(&settings, Arc::new(Pages::new(&settings, Events::start().unwrap())));
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for method in ["get", "post", "put", "delete", "patch"] {
            let status = status(&routes, &method.to_uppercase(), path).await;
            let is_there = ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
            assert_eq!(is_there, methods.get(method).is_some(), "{method} {path}: {status}");
        }
    }
    let files = [include_str!("mod.rs"), include_str!("oip/mod.rs")];
    let named: usize = files.iter().map(|file| file.matches(".route(\"").count()).sum();
    assert_eq!(named, paths.len(), "a route is not in the document");
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(entries) => {
                found.extend(entries.get("$ref").and_then(Value::as_str));
                entries.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn before_the_daemon_runs_only_its_start_is_told() {
    let settings = sferic_settings::Settings::default();
    let routes = routes(&settings, Arc::new(Pages::new(&settings, Events::start().unwrap())));
    for (method, path, expected) in [
        ("GET", "/health", 200),
        ("GET", "/ready", 503),
        ("GET", "/metrics", 503),
        ("GET", "/api/v1/inference/health", 200),
        ("POST", "/api/v1/inference/predict", 503),
        ("POST", "/api/v1/inference/predict/batch", 503),
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 503),
        ("GET", "/v2/models/any", 503),
        ("POST", "/v2/models/any/infer", 503),
    ] {
        assert_eq!(status(&routes, method, path).await, expected, "{path}");
    }
}
