//! One ONNX Runtime session, run by many threads at once.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::AsPointer;
use ort::environment::Environment;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel};
use ort::session::{RunOptions, Session};
use ort::sys::OrtValue;
use ort::value::{DynTensor, DynValue, Outlet, TensorElementType, TensorRef, ValueType};
use sferic_actors::ports::Brake;

use super::port::{Axis, Dtype, Output, Port, Values};
use super::provider::{Threads, dispatch};
use crate::settings::ExecutionProvider;

/// A session that any number of threads may run: the weights are in memory once (see `ops/docs/adr/0002`).
#[derive(Debug)]
pub(crate) struct SharedSession {
    /// Outputs of runs that are over, to be written again. Before the session, for they lie in its arena and are to be dropped first.
    spare: Mutex<Vec<RunTensors>>,
    session: Session,
    input: CString,
    outputs: Vec<CString>,
    /// How many `spare` holds: for each thread one, or none where the shape of an output may be another one though the input's is the same.
    spare_limit: usize,
}

/// Ends runs from another thread, by ONNX Runtime's own terminate flag, which it looks at between kernels. The default one does nothing.
#[derive(Default)]
pub struct RunBrake(Option<RunOptions>);

impl RunBrake {
    /// A brake for the runs it is given to.
    ///
    /// # Errors
    /// ONNX Runtime gives no run options.
    pub fn new() -> Result<Self, ort::Error> {
        Ok(Self(Some(RunOptions::new()?)))
    }
}

impl std::fmt::Debug for RunBrake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RunBrake").field(&self.0.is_some()).finish()
    }
}

impl Brake for RunBrake {
    fn engage(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(RunOptions::terminate) {
            tracing::warn!(%error, "a run could not be ended");
        }
    }

    fn release(&self) {
        if let Some(Err(error)) = self.0.as_ref().map(RunOptions::unterminate) {
            tracing::error!(%error, "runs of this session stay ended");
        }
    }
}

/// How a session is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionOptions {
    /// Threads that will run it at once, and those that work on one operator, the caller included.
    pub threads: Threads,
    /// Take the memory of a run from the shared arena as one block, planned once for each input shape, and not tensor by tensor:
    /// threads then do not interleave in the arena. A plan is small but kept for ever, so only where shapes are bounded.
    pub memory_pattern: bool,
}

impl SharedSession {
    /// Makes a session of the bytes of an ONNX file, so that what was hashed is what runs. What none of the `providers` takes is left
    /// to the CPU. With `profile`, the start of a file name, it writes down its runs until [`end_profile`](Self::end_profile).
    pub(crate) fn open(
        environment: &Environment,
        onnx: &[u8],
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
            // Else macOS would register Core ML by itself.
            .with_auto_device(AutoDevicePolicy::PreferCPU)?
            .with_execution_providers(providers.iter().filter_map(|&provider| dispatch(provider, options.threads)).collect::<Vec<_>>())?;
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile)?;
        }
        Ok(Self {
            spare: Mutex::default(),
            session: builder.commit_from_memory(onnx)?,
            input: CString::default(),
            outputs: Vec::new(),
            spare_limit: options.threads.sessions,
        })
    }

    /// Ends the profile and gives the file's name.
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

    /// Says which input is fed and which outputs are wanted, in the order [`run`](Self::run) gives them.
    pub(crate) fn select<'a>(&mut self, input: &str, outputs: impl Iterator<Item = &'a str>) -> Result<(), ort::Error> {
        // Names come from the ONNX file by way of C strings, so none holds a NUL.
        let name = |name: &str| CString::new(name).map_err(ort::Error::wrap);
        let (inputs, ports) = (self.input_ports(), self.output_ports());
        let fed = inputs.iter().find(|port| port.name == input);
        self.input = name(input)?;
        for output in outputs {
            let port = ports.iter().find(|port| port.name == output);
            if !port.zip(fed).is_some_and(|(port, fed)| port.is_shaped_by(fed)) {
                self.spare_limit = 0;
            }
            self.outputs.push(name(output)?);
        }
        Ok(())
    }

    /// Runs once on the calling thread, unless `brake` ends it. `shape` is the whole input's and `data` holds as many values.
    #[allow(unsafe_code)]
    pub(crate) fn run(&self, shape: &[i64], data: &[f32], brake: &RunBrake) -> Result<RunOutputs<'_>, ort::Error> {
        let input = TensorRef::from_array_view((shape, data))?;
        let output_names: Vec<*const c_char> = self.outputs.iter().map(|name| name.as_ptr()).collect();
        let spare = self.take_spare(shape);
        let mut outputs: Vec<*mut OrtValue> = match &spare {
            Some(spare) => spare.outputs.iter().map(|output| output.value.ptr().cast_mut()).collect(),
            None => vec![ptr::null_mut(); output_names.len()],
        };
        let options = brake.0.as_ref().map_or(ptr::null(), RunOptions::ptr);
        // SAFETY: `OrtApi::Run` may be called on one session from many threads: ONNX Runtime guarantees it, keeps what a run
        // changes in an execution frame of its own, and takes a lock where an execution provider can't run concurrently.
        // `Session::run` asks for `&mut` out of caution and changes nothing of the Rust struct; no `&mut Session` exists here.
        // All pointers are valid for the call: the session by `&self`, options, names and input by the borrows above, and `outputs`
        // has one pointer a name: null as the API asks for what it is to allocate, or a tensor of `spare`, which is nobody else's
        // now and which the API leaves to its owner.
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
        if let Some(spare) = spare {
            return Ok(RunOutputs { tensors: Some(spare), session: self });
        }
        let values = outputs.into_iter().filter_map(NonNull::new);
        // SAFETY: a run without error has set every pointer to a value that is now ours. Their memory is of the session's
        // arena, which the borrow of `self` keeps.
        let values = values.map(|value| unsafe { DynValue::from_ptr(value, Some(self.session.allocator())) });
        let tensors = RunTensors::new(shape, values.collect(), self.outputs.len())?;
        Ok(RunOutputs { tensors: Some(tensors), session: self })
    }

    /// Outputs to be written again by a run on an input of this shape.
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

/// What a run gave. Dropped, its memory goes to the next run on an input of the same shape.
pub(crate) struct RunOutputs<'s> {
    tensors: Option<RunTensors>,
    session: &'s SharedSession,
}

/// The output tensors of one run, in the order they were selected.
#[derive(Debug)]
struct RunTensors {
    input_shape: Vec<i64>,
    outputs: Vec<OutputTensor>,
}

#[derive(Debug)]
struct OutputTensor {
    value: DynTensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl RunTensors {
    fn new(input_shape: &[i64], values: Vec<DynValue>, wanted: usize) -> Result<Self, ort::Error> {
        if values.len() != wanted {
            return Err(ort::Error::new(format!("the run gave {} outputs, expected {wanted}", values.len())));
        }
        let typed = values.into_iter().map(|value| {
            let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
                return Err(ort::Error::new(format!("the run gave a {}, expected a tensor", value.dtype())));
            };
            let dtype = dtype(*ty).ok_or_else(|| ort::Error::new(format!("the run gave a tensor of {ty}, expected numbers")))?;
            let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
            Ok(OutputTensor { value: value.downcast()?, dtype, shape })
        });
        Ok(Self { input_shape: input_shape.to_vec(), outputs: typed.collect::<Result<_, _>>()? })
    }
}

impl RunOutputs<'_> {
    /// The outputs in the order they were selected.
    pub(crate) fn views(&self) -> Result<Vec<Output<'_>>, ort::Error> {
        let outputs = self.tensors.iter().flat_map(|tensors| &tensors.outputs);
        outputs.map(|OutputTensor { value, dtype, shape }| Ok(Output { shape, values: values(value, *dtype, shape)? })).collect()
    }
}

impl Drop for RunOutputs<'_> {
    fn drop(&mut self) {
        if let Some(tensors) = self.tensors.take() {
            self.session.keep_spare(tensors);
        }
    }
}

#[allow(unsafe_code)]
fn values<'a>(value: &'a DynTensor, dtype: Dtype, shape: &[usize]) -> Result<Values<'a>, ort::Error> {
    if dtype == Dtype::Float32 {
        return Ok(Values::Floats(value.try_extract_tensor::<f32>()?.1));
    }
    let length = shape.iter().product::<usize>() * dtype.size();
    if length == 0 {
        return Ok(Values::Bytes(dtype, &[]));
    }
    let data = value.data_ptr().cast::<u8>();
    // SAFETY: a tensor of this type and shape in CPU memory holds `length` bytes from `data` on, not written to while it is borrowed,
    // and lives as long as `value`.
    Ok(Values::Bytes(dtype, unsafe { std::slice::from_raw_parts(data, length) }))
}

// Tensors are published little-endian, and read here as they lie in memory.
#[cfg(target_endian = "big")]
compile_error!("big-endian machines would publish tensors in the wrong byte order");

fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Port { name, dtype: None, axes: Vec::new() };
    };
    let axis = |(length, symbol): (&i64, &String)| usize::try_from(*length).map_or_else(|_| Axis::Free(symbol.clone()), Axis::Fixed);
    Port { name, dtype: dtype(*ty), axes: shape.iter().zip(dimension_symbols.iter()).map(axis).collect() }
}

fn dtype(ty: TensorElementType) -> Option<Dtype> {
    Some(match ty {
        TensorElementType::Float32 => Dtype::Float32,
        TensorElementType::Float64 => Dtype::Float64,
        TensorElementType::Float16 => Dtype::Float16,
        TensorElementType::Bfloat16 => Dtype::Bfloat16,
        TensorElementType::Int8 => Dtype::Int8,
        TensorElementType::Int16 => Dtype::Int16,
        TensorElementType::Int32 => Dtype::Int32,
        TensorElementType::Int64 => Dtype::Int64,
        TensorElementType::Uint8 => Dtype::Uint8,
        TensorElementType::Uint16 => Dtype::Uint16,
        TensorElementType::Uint32 => Dtype::Uint32,
        TensorElementType::Uint64 => Dtype::Uint64,
        TensorElementType::Bool => Dtype::Bool,
        _ => return None,
    })
}
