//! The encoding of frames and outcomes: MessagePack, and JSON where it is asked for.

mod binary;
mod decode;
mod frame;
mod iq_data;
mod outcome;
mod salvage;
#[cfg(test)]
mod tests;

pub use decode::{Body, ReadError, frame_id_is_valid, read};
pub use frame::FrameMessage;
pub use outcome::{EncodeError, Encoded, encode};
pub use salvage::salvage;
