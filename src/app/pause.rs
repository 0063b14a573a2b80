//! Leaves the frames to the other members of the queue group while no model here runs.

use std::sync::Arc;
use std::time::Duration;

use sferic_actors::breaker::Circuits;

use crate::nats::{InputSwitch, Peers};

/// How often is looked for another member that is well, while every circuit is open.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pauses the input while every circuit is open and another member is well, and at no other time.
pub async fn while_all_are_open(circuits: Arc<Circuits>, input: InputSwitch, peers: Peers) {
    let mut changed = circuits.watch();
    let mut is_paused = false;
    loop {
        changed.mark_unchanged();
        let all_are_open = circuits.are_all_open();
        // Asked each time: a member that was well may be so no more, and then somebody has to answer.
        let pause = all_are_open && peers.any_healthy().await;
        if pause != is_paused {
            match pause {
                true => tracing::warn!("every circuit is open: frames are left to the other members of the queue group"),
                false if all_are_open => tracing::warn!("no other member of the queue group is well: reading frames again"),
                false => tracing::info!("reading frames again"),
            }
            input.pause(pause);
            is_paused = pause;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(INTERVAL), if all_are_open => {}
        }
    }
}
