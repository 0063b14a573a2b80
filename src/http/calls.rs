//! How long calls take, by route and status.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use sferic_telemetry::metrics::{Histogram, Reading, catalogue as metrics};

/// The route of calls that have none.
const OTHER: &str = "other";

/// Times of the calls that were answered. Their routes and statuses are few.
#[derive(Debug, Default)]
pub struct Calls(Mutex<HashMap<(String, u16), Histogram>>);

impl Calls {
    /// Counts a call, by its answer.
    pub(super) fn answered(&self, answer: &Response, took: Duration) {
        let route = answer.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str);
        let key = (route.to_owned(), answer.status().as_u16());
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.entry(key).or_default().record(took.as_secs_f64(), None, SystemTime::now());
    }

    /// Adds them to a reading.
    pub fn read(&self, to: &mut Reading) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), times) in calls.iter() {
            to.buckets(&metrics::HTTP_DURATION, [route, &status.to_string()], times.read());
        }
    }
}

/// Says in the answer which route it is of.
pub(super) async fn with_route(path: MatchedPath, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    answer.extensions_mut().insert(path);
    answer
}
