//! Pauses the input while no model of this daemon can run, in favour of other members of the queue group.

use std::sync::Arc;
use std::time::Duration;

use sferic_actors::breaker::Circuits;

use crate::nats::{InputSwitch, Peers};

/// Interval at which a healthy member is looked for while every circuit is open.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pauses the input while every circuit is open and another member is healthy, and only then.
pub async fn while_all_are_open(circuits: Arc<Circuits>, input: InputSwitch, peers: Peers) {
    let mut changed = circuits.watch();
    let mut is_paused = false;
    loop {
        changed.mark_unchanged();
        let all_are_open = circuits.are_all_open();
        // Asked each time: if no healthy member is left, this daemon has to answer.
        let pause = all_are_open && peers.any_healthy().await;
        if pause != is_paused {
            match pause {
                true => tracing::warn!(
                    "every circuit is open: frames are left to the other members of the queue group"
                ),
                false if all_are_open => {
                    tracing::warn!("no other member of the queue group is healthy: reading frames again")
                }
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
