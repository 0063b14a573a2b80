//! sferic

pub mod onnx;
