//! The body of a request, within its limits.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::errors::Refusal;

/// Time for a body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A body over the limit is read and thrown away up to this many times the limit: a client that is still
/// sending would see its connection reset, and never the reason.
const DISCARDED: u64 = 4;

/// Reads bodies; the bytes of all together are bounded.
#[derive(Debug)]
pub(super) struct Bodies {
    max: u64,
    held: Arc<Semaphore>,
    most_held: usize,
}

/// A body; its bytes count as held until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _places: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Bodies of at most `max` bytes each, and `most_held` together, but one always.
    pub(super) fn new(max: u64, most_held: u64) -> Self {
        let most_held = usize::try_from(most_held.max(max)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { max, held: Arc::new(Semaphore::new(most_held)), most_held }
    }

    /// Reads a body.
    pub(super) async fn read(&self, body: Body) -> Result<Held, Refusal> {
        timeout(BODY_WITHIN, self.read_all(body)).await.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {BODY_WITHIN:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        })
    }

    async fn read_all(&self, mut body: Body) -> Result<Held, Refusal> {
        let (mut bytes, mut places) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        let mut length = 0u64;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let message = format!("the body could not be read: {error}");
                Refusal::new(StatusCode::BAD_REQUEST, "invalid_request", message)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len() as u64;
            if length > self.max {
                (bytes, places) = (BytesMut::new(), None);
                if length > self.max.saturating_mul(DISCARDED) {
                    break;
                }
                continue;
            }
            let more = u32::try_from(data.len()).ok();
            let more = more.and_then(|more| Arc::clone(&self.held).try_acquire_many_owned(more).ok());
            let more = more.ok_or_else(|| {
                let message = format!(
                    "bodies of {} bytes are held already, over limits.in_flight_bytes",
                    self.most_held
                );
                Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message)
            })?;
            match &mut places {
                Some(places) => places.merge(more),
                None => places = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        if length > self.max {
            let (at_least, max) =
                (if length > self.max.saturating_mul(DISCARDED) { "over " } else { "" }, self.max);
            let message = format!("the body has {at_least}{length} bytes, over http.max_body, {max}");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        Ok(Held { bytes: bytes.freeze(), _places: places })
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn body(parts: &'static [&'static str]) -> Body {
        Body::new(http_body_util::StreamBody::new(stream::iter(
            parts.iter().copied().map(|part| Ok::<_, axum::Error>(http_body::Frame::data(Bytes::from(part)))),
        )))
    }

    #[tokio::test]
    async fn bodies_are_bounded_each_and_together() {
        let bodies = Bodies::new(4, 6);
        let held = bodies.read(body(&["ab", "cd"])).await.unwrap();
        assert_eq!(held.bytes, "abcd");
        let refusal = bodies.read(body(&["abc"])).await.unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.message.contains('6')), (429, true));
        assert_eq!(bodies.read(body(&["ab"])).await.unwrap().bytes, "ab");
        drop(held);
        assert_eq!(bodies.read(body(&["abcd"])).await.unwrap().bytes, "abcd");
        let refusal = bodies.read(body(&["abcd", "e", "f"])).await.unwrap_err();
        assert_eq!(refusal.status.as_u16(), 413);
        assert!(refusal.message.contains("has 6 bytes, over http.max_body, 4"), "{}", refusal.message);
        assert_eq!(bodies.held.available_permits(), 6, "nothing of it is held");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let silent = Body::new(http_body_util::StreamBody::new(stream::pending::<
            Result<http_body::Frame<Bytes>, axum::Error>,
        >()));
        let refusal = Bodies::new(4, 6).read(silent).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::REQUEST_TIMEOUT);
    }
}
