//! `sferic demo --page`: scenes that go on, for the operator's page.

use std::time::Duration;

use sferic_scene::{RECEIVERS, SceneSimulator};
use sferic_settings::Settings;
use tokio::time::{MissedTickBehavior, interval};

use super::frames::{SOURCE, frame, heard};
use crate::nats::Connection;

/// Between two scenes: slow enough to look at.
const PERIOD: Duration = Duration::from_millis(200);

/// Plays so many scenes, one after the other: all three receivers together for `localization`, and what each
/// of them hears for `modulation`.
///
/// # Errors
/// A frame cannot be written or sent.
pub async fn play(
    settings: &Settings,
    connection: &Connection,
    seed: u64,
    scenes: impl Iterator<Item = u64>,
) -> anyhow::Result<()> {
    let prefix = &settings.nats.prefix;
    let simulator = SceneSimulator::new(seed);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for index in scenes {
        ticks.tick().await;
        let scene = tokio::task::block_in_place(|| simulator.scene(index));
        let publish = async |source: &str, payload: Vec<u8>| {
            connection.client().publish(format!("{prefix}.frames.{source}"), payload.into()).await
        };
        publish(SOURCE, frame(&scene, index)?).await?;
        for receiver in 0..RECEIVERS.len() {
            publish(&format!("demo.rx{}", receiver + 1), heard(&scene, receiver, index)?).await?;
        }
    }
    Ok(())
}
