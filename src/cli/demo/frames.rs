//! The frames of a scene.

use std::time::Duration;

use jiff::Timestamp;
use sferic_samples::{Datatype, Geolocation};
use sferic_scene::scene::{FREQUENCY_HZ, SAMPLE_RATE_HZ};
use sferic_scene::{ORIGIN, RECEIVERS, Scene};
use sferic_wire::FrameMessage;
use uuid::Uuid;

/// Source of the simulated frames.
pub const SOURCE: &str = "demo.scene";

/// A long budget: the demo shows positions, not deadlines, also on a busy machine.
pub const BUDGET: Duration = Duration::from_secs(10);

/// Frames in flight: a few, so that each line appears soon after its scene is played.
pub const OUTSTANDING: usize = 4;

/// The frame of a scene: all receivers together, for `localization`.
///
/// # Errors
/// It cannot be written.
pub fn frame(scene: &Scene, index: u64) -> anyhow::Result<Vec<u8>> {
    let message = FrameMessage {
        frame_id: &Uuid::now_v7().to_string(),
        seq: Some(index),
        datatype: Datatype::Cf32Le.name(),
        sample_rate: Some(SAMPLE_RATE_HZ),
        num_channels: RECEIVERS.len() as u32,
        frequency: Some(FREQUENCY_HZ),
        model: Some("localization"),
        timeout_ms: Some(BUDGET.as_millis() as u64),
        samples: &scene.bytes(),
        ..FrameMessage::default()
    };
    Ok(message.encode()?)
}

/// What one receiver hears, for `modulation`.
///
/// # Errors
/// It cannot be written.
pub fn heard(scene: &Scene, receiver: usize, index: u64) -> anyhow::Result<Vec<u8>> {
    let samples = scene.samples.iter().skip(receiver).step_by(RECEIVERS.len());
    let bytes: Vec<u8> = samples.flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()]).flatten().collect();
    let place = ORIGIN.at(RECEIVERS[receiver]);
    let place = Geolocation::point(place.longitude, place.latitude);
    let message = FrameMessage {
        frame_id: &format!("{SOURCE}-{index}-rx{}", receiver + 1),
        seq: Some(index),
        datetime: Some(Timestamp::now()),
        datatype: Datatype::Cf32Le.name(),
        sample_rate: Some(SAMPLE_RATE_HZ),
        num_channels: 1,
        frequency: Some(FREQUENCY_HZ),
        geolocation: Some(&place),
        model: Some("modulation"),
        timeout_ms: Some(BUDGET.as_millis() as u64),
        samples: &bytes,
        ..FrameMessage::default()
    };
    Ok(message.encode()?)
}
