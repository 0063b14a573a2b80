//! Execution providers: availability and options.

use std::num::NonZeroUsize;

use ort::ep::{self, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::Session;

use super::library::Runtime;
use super::options::{ExecutionProvider, Options};

/// Thread counts for a provider with threads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threads {
    /// Runs at once.
    pub sessions: usize,
    /// Within one run.
    pub intra: usize,
}

/// Whether the library was built with `provider`.
pub fn compiled_in(_loaded: &Runtime, provider: ExecutionProvider) -> bool {
    let found = match provider {
        ExecutionProvider::Cpu => ep::CPU::is_available(),
        ExecutionProvider::Coreml => ep::CoreML::is_available(),
        ExecutionProvider::Cuda => ep::CUDA::is_available(),
        ExecutionProvider::Tensorrt => ep::TensorRT::is_available(),
        ExecutionProvider::Openvino => ep::OpenVINO::is_available(),
        ExecutionProvider::Xnnpack => ep::XNNPACK::is_available(),
    };
    found.unwrap_or(false)
}

/// Registers `provider` with the library, without a model.
///
/// # Errors
/// In words: it was not compiled in, or does not register, which is mostly for want of a driver or of a
/// library.
pub fn usable(runtime: &Runtime, provider: ExecutionProvider) -> Result<(), String> {
    if !compiled_in(runtime, provider) {
        let library = runtime.library().display();
        let advice = match provider {
            ExecutionProvider::Openvino => {
                ": `ops/setup onnxruntime-openvino` puts one at .tools/openvino/libonnxruntime.so (Linux \
                 x86-64)"
            }
            ExecutionProvider::Cuda => {
                ": `ops/setup onnxruntime-gpu` puts one at .tools/cuda/libonnxruntime.so (Linux x86-64, \
                 CUDA 12)"
            }
            _ => "",
        };
        return Err(format!("{library} was built without it; set onnx.library to one that has it{advice}"));
    }
    let threads = Threads { sessions: 1, intra: 1 };
    let Some(asked) = dispatch(provider, threads) else { return Ok(()) };
    let mut builder = Session::builder(runtime.environment()).map_err(|error| error.to_string())?;
    asked.register(&mut builder).map_err(|error| format!("it does not register: {error}"))
}

/// The provider option of a session. `None` for the CPU, which every session has as fallback: listing it
/// would disable its arena.
pub(crate) fn dispatch(provider: ExecutionProvider, threads: Threads) -> Option<ExecutionProviderDispatch> {
    let asked = match provider {
        ExecutionProvider::Cpu => return None,
        ExecutionProvider::Coreml => ep::CoreML::default()
            .with_compute_units(ep::coreml::ComputeUnits::CPUAndNeuralEngine)
            .with_model_format(ep::coreml::ModelFormat::MLProgram)
            .build(),
        // With TensorFloat-32, products have ten bits, too few for a position in degrees.
        ExecutionProvider::Cuda => ep::CUDA::default().with_tf32(false).build(),
        ExecutionProvider::Tensorrt => ep::TensorRT::default().build(),
        // Its CPU plugin would use bfloat16 where available, and one run at a time.
        ExecutionProvider::Openvino => ep::OpenVINO::default()
            .with_device_type("CPU")
            .with_precision("FP32")
            .with_num_threads(threads.sessions * threads.intra)
            .with_num_streams(u8::try_from(threads.sessions).unwrap_or(u8::MAX))
            .build(),
        ExecutionProvider::Xnnpack => ep::XNNPACK::default()
            .with_intra_op_num_threads(NonZeroUsize::new(threads.intra).unwrap_or(NonZeroUsize::MIN))
            .build(),
    };
    Some(asked.error_on_failure())
}

impl Options {
    /// The same with those providers alone that the library has and that register. Others are logged here
    /// once, not for every model.
    #[must_use]
    pub fn usable_on(&self, runtime: &Runtime) -> Self {
        let is_usable = |provider: &ExecutionProvider| {
            usable(runtime, *provider)
                .inspect_err(|reason| tracing::warn!(%provider, reason, "execution provider left out"))
                .is_ok()
        };
        Self { providers: self.providers.iter().copied().filter(is_usable).collect(), ..self.clone() }
    }
}
