//! Impairments of a signal between the transmitter's modulator and a recording, in the order in which they
//! happen.

mod channel;
mod receiver;
mod recording;
mod transmitter;

pub use channel::{drift, fading, multipath, selective};
pub use receiver::{GainSteps, band_limit, dc_offset, iq_imbalance, noise, phase_noise, ripple, spur};
pub use recording::{Quantiser, clip, zero_run};
pub use transmitter::{amplifier, packets, part_time, transmit_filter};
