//! The encoding of frames and outcomes, both ways: MessagePack, and JSON where it is asked for.
//!
//! [`read`] takes a frame's bytes and gives a [`Body`], which borrows its samples; of a broken frame,
//! [`salvage`] gives what an outcome echoes. [`FrameMessage`] writes a frame as a source sends it, [`encode`]
//! an outcome, [`within`] one that fits the server's limit. [`read_batch`] makes of a batch the messages of
//! its frames, and [`BatchReply`] of their outcomes its answer.
//!
//! It names no broker, no model and no file.

mod batch;
mod binary;
mod body;
mod bound;
mod datetime;
mod decode;
mod explain;
mod frame;
mod geolocation;
mod iq_data;
mod keys;
mod outcome;
mod salvage;
mod scalar;
mod split;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

pub use batch::{Batch, BatchReply, FrameInBatch, MAX_BATCH, read_batch, read_source};
pub use body::Body;
pub use bound::{shortened, within};
pub use datetime::to_nanoseconds;
pub use decode::{frame_id_is_valid, read};
pub use explain::ReadError;
pub use frame::FrameMessage;
pub use geolocation::Geolocation;
pub use outcome::{EncodeError, encode, encode_as, encode_failure, timestamp};
pub use salvage::salvage;
use sferic_actors::frame::Encoding;
pub use tensors::{TensorBody, Tensors};
pub use values::Text;

/// The header that says so.
pub fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::MessagePack => "application/msgpack",
        Encoding::Json => "application/json",
    }
}
