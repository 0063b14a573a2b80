//! One ONNX Runtime session, run by many threads at once.

use std::ffi::{CString, c_char};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::{bf16, f16};
use ort::AsPointer;
use ort::environment::Environment;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel};
use ort::session::{RunOptions, Session};
use ort::sys::OrtValue;
use ort::value::{DynValue, Outlet, PrimitiveTensorElementType, Tensor, TensorRef, ValueType};
use sferic_actors::ports::RunCanceller;
use sferic_models::{Axis, Dtype, Elements, OnnxFile, Output, Port, Reading};

use super::options::ExecutionProvider;
use super::provider::{Threads, dispatch};
use super::run_outputs::{OutputValue, RunTensors, elements};

/// A session that any number of threads may run: the weights are in memory once (see `ops/docs/adr/0002`).
#[derive(Debug)]
pub(crate) struct SharedSession {
    /// Outputs of finished runs, to be reused. Declared before the session: they lie in its arena and have to
    /// be dropped first.
    spare: Mutex<Vec<RunTensors>>,
    session: Session,
    input: CString,
    input_dtype: Dtype,
    outputs: Vec<CString>,
    readings: Vec<Reading>,
    /// Maximum length of `spare`: one per thread; none where the shape of an output is not determined by that
    /// of the input, or an output is no tensor of numbers.
    spare_limit: usize,
}

/// Cancels runs from another thread through the terminate flag of ONNX Runtime, which is checked between
/// kernels. The default one does nothing.
#[derive(Default)]
pub struct RunTerminator(Option<RunOptions>);

impl RunTerminator {
    /// A canceller for the runs it is passed to.
    ///
    /// # Errors
    /// ONNX Runtime gives no run options.
    pub fn new() -> Result<Self, ort::Error> {
        Ok(Self(Some(RunOptions::new()?)))
    }
}

impl std::fmt::Debug for RunTerminator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RunTerminator").field(&self.0.is_some()).finish()
    }
}

impl RunCanceller for RunTerminator {
    fn cancel(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(RunOptions::terminate) {
            tracing::warn!(%error, "a run could not be cancelled");
        }
    }

    fn reset(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(RunOptions::unterminate) {
            tracing::error!(%error, "a cancellation could not be reset; runs of this session keep failing");
        }
    }
}

/// Options of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionOptions {
    /// Number of threads that run it concurrently, and threads per operator, including the caller.
    pub threads: Threads,
    /// Plan the memory of a run as one block per input shape instead of tensor by tensor, so that threads do
    /// not interleave in the shared arena. A plan is small but never freed, so only where shapes are bounded.
    pub memory_pattern: bool,
}

impl SharedSession {
    /// Creates a session from the bytes of an ONNX file and its external data, so that what was hashed is
    /// what runs. Nodes that none of the `providers` takes run on the CPU. With `profile`, the start of a
    /// file name, runs are profiled until [`end_profile`](Self::end_profile).
    pub(crate) fn open(
        environment: &Environment,
        onnx: &OnnxFile,
        options: SessionOptions,
        providers: &[ExecutionProvider],
        profile: Option<&Path>,
    ) -> Result<Self, ort::Error> {
        let mut builder = Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(options.threads.intra)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(options.memory_pattern)?
            // Otherwise macOS would register Core ML by itself.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_execution_providers(
                providers
                    .iter()
                    .filter_map(|&provider| dispatch(provider, options.threads))
                    .collect::<Vec<_>>(),
            )?;
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile)?;
        }
        // Sets it on ONNX Runtime's own threads; calling threads set it in `subnormals`.
        builder = builder.with_config_entry("session.set_denormal_as_zero", "1")?;
        for file in &onnx.external {
            builder =
                builder.with_external_initializer_file_in_memory(&file.location, Arc::clone(&file.bytes))?;
        }
        if let Some(folder) = &onnx.folder {
            // External data of the main graph is passed from memory; the library looks here for that of `If`
            // and `Loop` bodies, instead of in the working directory.
            builder = builder.with_config_entry(
                "session.model_external_initializers_file_folder_path",
                folder.to_string_lossy(),
            )?;
        }
        Ok(Self {
            spare: Mutex::default(),
            session: builder.commit_from_memory(&onnx.graph)?,
            input: CString::default(),
            input_dtype: Dtype::Float32,
            outputs: Vec::new(),
            readings: Vec::new(),
            spare_limit: options.threads.sessions,
        })
    }

    /// Ends profiling and returns the file name.
    pub(crate) fn end_profile(&mut self) -> Result<PathBuf, ort::Error> {
        self.session.end_profiling().map(PathBuf::from)
    }

    /// Declared inputs.
    pub(crate) fn input_ports(&self) -> Vec<Port> {
        self.session.inputs().iter().map(port).collect()
    }

    /// Declared outputs.
    pub(crate) fn output_ports(&self) -> Vec<Port> {
        self.session.outputs().iter().map(port).collect()
    }

    /// Selects the input and the outputs, in the order in which [`run`](Self::run) returns them, and how they
    /// are read.
    pub(crate) fn select<'a>(
        &mut self,
        input: &str,
        outputs: impl Iterator<Item = (&'a str, Reading)>,
    ) -> Result<(), ort::Error> {
        // Names come from the ONNX file by way of C strings, so none holds a NUL.
        let name = |name: &str| CString::new(name).map_err(ort::Error::wrap);
        let (inputs, ports) = (self.input_ports(), self.output_ports());
        let fed = inputs.iter().find(|port| port.name == input);
        self.input = name(input)?;
        if let Some(&Port { elements: Elements::Numbers(dtype), .. }) = fed {
            self.input_dtype = dtype;
        }
        for (output, reading) in outputs {
            let port = ports.iter().find(|port| port.name == output);
            let kept = |(port, fed): (&Port, &Port)| {
                matches!(port.elements, Elements::Numbers(_)) && port.is_shaped_by(fed)
            };
            if !port.zip(fed).is_some_and(kept) {
                self.spare_limit = 0;
            }
            self.outputs.push(name(output)?);
            self.readings.push(reading);
        }
        Ok(())
    }

    /// Runs once on the calling thread, unless `canceller` cancels it. `shape` is that of the whole input,
    /// and `data` has as many values.
    #[allow(unsafe_code)]
    pub(crate) fn run(
        &self,
        shape: &[i64],
        data: &[f32],
        canceller: &RunTerminator,
    ) -> Result<RunOutputs<'_>, ort::Error> {
        let input = InputValue::new(self.input_dtype, shape, data)?;
        let output_names: Vec<*const c_char> = self.outputs.iter().map(|name| name.as_ptr()).collect();
        let spare = self.take_spare(shape);
        let mut outputs: Vec<*mut OrtValue> = match &spare {
            Some(spare) => spare.outputs.iter().map(OutputValue::ptr).collect(),
            None => vec![ptr::null_mut(); output_names.len()],
        };
        let options = canceller.0.as_ref().map_or(ptr::null(), RunOptions::ptr);
        // SAFETY: `OrtApi::Run` may be called on one session from many threads: ONNX Runtime guarantees it,
        // keeps what a run changes in an execution frame of its own, and takes a lock where an execution
        // provider can't run concurrently. `Session::run` asks for `&mut` out of caution and changes nothing
        // of the Rust struct; no `&mut Session` exists here. All pointers are valid for the call: the session
        // by `&self`, options, names and input by the borrows above, and `outputs` has one pointer a name:
        // null as the API asks for what it is to allocate, or a tensor of `spare`, which is nobody else's now
        // and which the API leaves to its owner.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options,
                &self.input.as_ptr(),
                &input.ptr(),
                1,
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status is the one just returned, and it is handed over once.
        unsafe { ort::Error::result_from_status(status) }?;
        if let Some(mut spare) = spare {
            spare.convert()?;
            return Ok(RunOutputs { tensors: Some(spare), session: self });
        }
        let values = outputs.into_iter().filter_map(NonNull::new);
        // SAFETY: a run without error has set every pointer to a value that is now ours. Their memory is of
        // the session's arena, which the borrow of `self` keeps.
        let values = values.map(|value| unsafe { DynValue::from_ptr(value, Some(self.session.allocator())) });
        let tensors = RunTensors::new(shape, values.collect(), &self.readings)?;
        Ok(RunOutputs { tensors: Some(tensors), session: self })
    }

    /// Takes reusable outputs for an input of this shape.
    fn take_spare(&self, input_shape: &[i64]) -> Option<RunTensors> {
        let mut spare = self.lock_spare();
        let at = spare.iter().rposition(|tensors| tensors.input_shape == input_shape)?;
        Some(spare.swap_remove(at))
    }

    fn keep_spare(&self, tensors: RunTensors) {
        let mut spare = self.lock_spare();
        spare.push(tensors);
        if spare.len() > self.spare_limit {
            spare.remove(0);
        }
    }

    fn lock_spare(&self) -> MutexGuard<'_, Vec<RunTensors>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Outputs of a run. When dropped, their memory is reused by the next run on an input of the same shape.
pub(crate) struct RunOutputs<'s> {
    tensors: Option<RunTensors>,
    session: &'s SharedSession,
}

impl RunOutputs<'_> {
    /// The outputs in the order they were selected.
    pub(crate) fn views(&self) -> Result<Vec<Output<'_>>, ort::Error> {
        self.tensors.iter().flat_map(|tensors| &tensors.outputs).map(OutputValue::view).collect()
    }
}

impl Drop for RunOutputs<'_> {
    fn drop(&mut self) {
        if let Some(tensors) = self.tensors.take() {
            self.session.keep_spare(tensors);
        }
    }
}

/// Input of a run.
enum InputValue<'a> {
    /// float32 in place.
    Floats(TensorRef<'a, f32>),
    /// A copy, converted to the type of the model.
    Converted(DynValue),
}

impl<'a> InputValue<'a> {
    fn new(dtype: Dtype, shape: &'a [i64], data: &'a [f32]) -> Result<Self, ort::Error> {
        fn converted<T: PrimitiveTensorElementType + Debug + Copy + 'static>(
            shape: &[i64],
            data: &[f32],
            convert: fn(f32) -> T,
        ) -> Result<InputValue<'static>, ort::Error> {
            let data: Vec<T> = data.iter().map(|&value| convert(value)).collect();
            Ok(InputValue::Converted(Tensor::from_array((shape, data))?.into_dyn()))
        }
        match dtype {
            Dtype::Float16 => converted(shape, data, f16::from_f32),
            Dtype::Bfloat16 => converted(shape, data, bf16::from_f32),
            Dtype::Float64 => converted(shape, data, f64::from),
            // Other types are no inputs of a bundle; the library refuses float32 for them.
            _ => Ok(Self::Floats(TensorRef::from_array_view((shape, data))?)),
        }
    }

    fn ptr(&self) -> *const OrtValue {
        match self {
            Self::Floats(tensor) => tensor.ptr(),
            Self::Converted(value) => value.ptr(),
        }
    }
}

fn port(outlet: &Outlet) -> Port {
    let (name, elements) = (outlet.name().to_owned(), elements(outlet.dtype()));
    let ValueType::Tensor { shape, dimension_symbols, .. } = outlet.dtype() else {
        return Port { name, elements, axes: Vec::new() };
    };
    let axis = |(length, symbol): (&i64, &String)| {
        usize::try_from(*length).map_or_else(|_| Axis::Free(symbol.clone()), Axis::Fixed)
    };
    Port { name, elements, axes: shape.iter().zip(dimension_symbols.iter()).map(axis).collect() }
}
