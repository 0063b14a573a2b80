//! The event of an outcome.

use std::io::Write;

use geojson::geometry;
use serde_json::json;
use sferic_actors::frame::Encoding;
use sferic_actors::outcome::{Answer, Outcome};
use sferic_samples::Geolocation;
use sferic_wire as wire;

use crate::geojson;

/// An outcome, copied when it was published.
#[derive(Debug)]
pub struct Published {
    /// Counts the outcomes, from 1.
    pub number: u64,
    /// The tokens after `<prefix>.frames.`.
    pub source: String,
    /// The outcome in JSON.
    json: Vec<u8>,
    frame_id: String,
    /// Longitude, latitude, and the ellipse.
    place: Option<([f64; 2], [f64; 3])>,
    receiver: Option<Geolocation>,
    trace_id: Option<String>,
}

impl Published {
    /// Copies it; `None` where it cannot be written, as was said when it was published.
    pub fn of(outcome: &Outcome, number: u64) -> Option<Self> {
        let json = wire::encode_as(outcome, Encoding::Json).ok()?;
        let answer = outcome.result.as_ref().ok().map(|prediction| &*prediction.answer);
        let place = match answer {
            Some(Answer::Localization(place)) => {
                let (position, ellipse) = (&place.position, &place.ellipse);
                let axes = [ellipse.semi_major, ellipse.semi_minor, ellipse.rotation];
                Some(([position.longitude, position.latitude], axes))
            }
            _ => None,
        };
        let trace = outcome.envelope.trace.traceparent.as_deref();
        Some(Self {
            number,
            source: outcome.envelope.source.clone(),
            json,
            frame_id: outcome.info.frame_id.clone(),
            place,
            receiver: outcome.info.geolocation.clone(),
            trace_id: trace.and_then(|parent| parent.split('-').nth(1)).map(str::to_owned),
        })
    }

    /// Its bytes.
    pub fn size(&self) -> usize {
        self.json.len()
    }

    /// The outcome's JSON with three keys more: `geojson`, a Feature of a position on the map with its
    /// ellipse; `geolocation`, where the receiver is; `trace_id`. Each only where it is known.
    pub fn event(&self) -> Vec<u8> {
        let mut event = self.json.clone();
        // The closing brace.
        event.pop();
        let mut add = |key: &str, value: serde_json::Value| {
            // Writing to memory cannot fail.
            _ = write!(event, ",\"{key}\":{value}");
        };
        let geometry =
            self.place.and_then(|([longitude, latitude], axes)| geometry(longitude, latitude, Some(axes)));
        if let Some(geometry) = geometry {
            let properties = json!({"source": self.source});
            let id = &self.frame_id;
            add(
                "geojson",
                json!({"type": "Feature", "id": id, "geometry": geometry, "properties": properties}),
            );
        }
        if let Some(receiver) = &self.receiver {
            add("geolocation", json!(receiver));
        }
        if let Some(trace_id) = &self.trace_id {
            add("trace_id", json!(trace_id));
        }
        event.push(b'}');
        event
    }
}
