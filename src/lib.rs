//! sferic runs ONNX models on live radio: IQ frames arrive on NATS, predictions leave on NATS.
//!
//! This package holds the adapters behind the ports of [`sferic_actors`], the command line, and one place
//! that wires it all.

pub mod app;
pub mod batch;
pub mod canary;
pub mod cli;
pub mod concurrency;
pub mod events;
mod geojson;
pub mod http;
pub mod ingress;
pub mod model_state;
pub mod models;
mod msgpack_json;
pub mod nats;
pub mod recorder;
pub mod shared_cache;
pub mod shutdown;
mod source_pattern;
pub mod usage;
