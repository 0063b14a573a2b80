//! Prints how long a frame of each family takes to simulate: `cargo run --release -p sferic-scene --example
//! timing`.

use std::time::Instant;

use sferic_scene::{Family, FrameSimulator};

/// Frames of each family.
const FRAMES: u32 = 100;

fn main() {
    let simulator = FrameSimulator::new(9, 8192);
    for (family, first) in Family::ALL.into_iter().zip(0u64..) {
        let start = Instant::now();
        for turn in 0..u64::from(FRAMES) {
            // The families take turns.
            let _ = simulator.frame(Family::ALL.len() as u64 * turn + first);
        }
        println!("{}: {:?} a frame of 8192 samples", family.label(), start.elapsed() / FRAMES);
    }
}
