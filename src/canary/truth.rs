//! Truths, as somebody publishes them who knows.

use std::sync::Arc;

use futures::StreamExt;
use serde::Deserialize;
use sferic_actors::outcome::Position;
use sferic_canary::Truth;
use sferic_telemetry::Throttle;
use tokio::time::Instant;

use super::recent::Subject;
use super::state::Canaries;
use crate::nats::Connection;

/// A message on `<prefix>.truth.<source>`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    frame_id: Option<String>,
    session_id: Option<String>,
    position: Option<Position>,
    label: Option<String>,
}

/// Time between two attempts to subscribe.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// Reads truths until it is dropped; every daemon reads them all, for those whose frames it had.
pub async fn read_truth(connection: Connection, prefix: String, canaries: Arc<Canaries>) {
    let subject = format!("{prefix}.truth.>");
    let skip = prefix.len() + ".truth.".len();
    let throttle = Throttle::new(std::time::Duration::from_secs(10));
    loop {
        let Ok(mut messages) = connection.subscribe(subject.clone()).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        while let Some(message) = messages.next().await {
            let source = message.subject.get(skip..).unwrap_or_default();
            match parse(&message.payload) {
                Ok((of, truth)) => canaries.score(source, &of, &truth),
                Err(error) => {
                    if let Some(suppressed) = throttle.pass(Instant::now()) {
                        tracing::warn!(source, error, suppressed, "a truth cannot be read");
                    }
                }
            }
        }
        // The connection is closed.
        std::future::pending::<()>().await;
    }
}

/// Reads JSON or MessagePack; the first byte of a JSON object is a brace.
fn parse(payload: &[u8]) -> Result<(Subject, Truth), String> {
    let is_json = payload.trim_ascii_start().first() == Some(&b'{');
    let message: Message = match is_json {
        true => serde_json::from_slice(payload).map_err(|error| error.to_string())?,
        false => rmp_serde::from_slice(payload).map_err(|error| error.to_string())?,
    };
    let Message { frame_id, session_id, position, label } = message;
    let of = match (frame_id, session_id) {
        (Some(frame), None) => Subject::Frame(frame),
        (None, Some(session)) => Subject::Session(session),
        _ => return Err("it must have one of `frame_id` and `session_id`".to_owned()),
    };
    if position.is_none() && label.is_none() {
        return Err("it must have a `position` or a `label`".to_owned());
    }
    if let Some(Position { latitude, longitude }) = position
        && !(latitude.abs() <= 90.0 && longitude.abs() <= 180.0)
    {
        return Err(format!(
            "its position is {latitude}, {longitude}, must be degrees of latitude, longitude"
        ));
    }
    Ok((of, Truth { position, label }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truth_names_a_frame_or_a_session_and_says_something() {
        let position = br#" {"frame_id": "7", "position": {"latitude": 52.5, "longitude": 13.4}}"#;
        let (of, truth) = parse(position).unwrap();
        assert_eq!(of, Subject::Frame("7".into()));
        assert_eq!(truth.position, Some(Position { latitude: 52.5, longitude: 13.4 }));
        let packed = rmp_serde::to_vec_named(&serde_json::json!({"session_id": "s", "label": "fm"})).unwrap();
        let (of, truth) = parse(&packed).unwrap();
        assert_eq!((of, truth.label.as_deref()), (Subject::Session("s".into()), Some("fm")));
        for wrong in [
            r#"{"frame_id": "7"}"#,
            r#"{"label": "fm"}"#,
            r#"{"frame_id": "7", "session_id": "s", "label": "fm"}"#,
            r#"{"frame_id": "7", "position": {"latitude": 91, "longitude": 0}}"#,
            r#"{"frame_id": "7", "labels": "fm"}"#,
            "[]",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
