//! One ONNX Runtime session, run by many threads at once.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::AsPointer;
use ort::environment::Environment;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel};
use ort::session::{RunOptions, Session};
use ort::sys::OrtValue;
use ort::value::{DynValue, Outlet, ValueType};
use sferic_actors::ports::RunCanceller;
use sferic_models::{Axis, Dtype, Elements, OnnxFile, Output, Port, Reading};

use super::options::ExecutionProvider;
use super::provider::{Threads, dispatch};
use super::run_inputs::{InputValue, RunInput};
use super::run_outputs::{OutputValue, RunTensors, elements};

/// A session that any number of threads may run: the weights are in memory once (see `ops/docs/adr/0002`).
#[derive(Debug)]
pub(crate) struct SharedSession {
    /// Declared before the session: outputs to be reused lie in its arena and have to be dropped first.
    head: Selection,
    raw: Selection,
    session: Session,
    inputs: Vec<(CString, Dtype)>,
    /// The batch axis of 1 is taken off the inputs and put before the outputs.
    adds_batch_axis: bool,
    threads: usize,
}

/// Who reads the outputs of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadBy {
    /// The head of the bundle.
    Head,
    /// The sender, as they are.
    Sender,
}

/// Outputs that are read together.
#[derive(Debug, Default)]
struct Selection {
    /// Those of finished runs, to be reused.
    spare: Mutex<Vec<RunTensors>>,
    outputs: Vec<CString>,
    readings: Vec<Reading>,
    /// Maximum length of `spare`: one per thread; none where the shape of an output is not determined by
    /// those of the inputs, or an output is no tensor of numbers.
    spare_limit: usize,
}

/// Names the threads that ONNX Runtime starts in `create`, which would else look like those of the caller: on
/// Linux a thread begins with the name of the one that starts it.
fn naming_threads<T>(create: impl FnOnce() -> T) -> T {
    const NAME: &str = "/proc/thread-self/comm";
    let before = std::fs::read(NAME).ok();
    // Without it only the statistics are less exact.
    let _ = std::fs::write(NAME, "onnx");
    let created = create();
    let _ = before.map(|before| std::fs::write(NAME, before));
    created
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

/// What is written or known of a file that is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening<'a> {
    /// Start of a file name: runs are profiled until [`SharedSession::end_profile`].
    pub profile: Option<&'a Path>,
    /// The file is an optimised graph.
    pub is_optimised: bool,
    /// Where the optimised graph is written to.
    pub optimised: Option<&'a Path>,
}

impl SharedSession {
    /// Creates a session from the bytes of an ONNX file and its external data, so that what was hashed is
    /// what runs. Nodes that none of the `providers` takes run on the CPU.
    pub(crate) fn open(
        environment: &Environment,
        onnx: &OnnxFile,
        options: SessionOptions,
        providers: &[ExecutionProvider],
        opening: Opening<'_>,
    ) -> Result<Self, ort::Error> {
        let level =
            if opening.is_optimised { GraphOptimizationLevel::Disable } else { GraphOptimizationLevel::All };
        let mut builder = Session::builder(environment)?
            .with_optimization_level(level)?
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
        if let Some(profile) = opening.profile {
            builder = builder.with_profiling(profile)?;
        }
        if let Some(optimised) = opening.optimised {
            builder = builder.with_optimized_model_path(optimised)?;
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
            head: Selection::default(),
            raw: Selection::default(),
            session: naming_threads(|| builder.commit_from_memory(&onnx.graph))?,
            inputs: Vec::new(),
            adds_batch_axis: false,
            threads: options.threads.sessions,
        })
    }

    /// Ends profiling and returns the file name.
    pub(crate) fn end_profile(&mut self) -> Result<PathBuf, ort::Error> {
        self.session.end_profiling().map(PathBuf::from)
    }

    /// Gives a file without batch axis one of 1, from here on.
    pub(crate) fn add_batch_axis(&mut self) {
        self.adds_batch_axis = true;
    }

    /// Declared inputs.
    pub(crate) fn input_ports(&self) -> Vec<Port> {
        self.session.inputs().iter().map(|outlet| self.port(outlet)).collect()
    }

    /// Declared outputs.
    pub(crate) fn output_ports(&self) -> Vec<Port> {
        self.session.outputs().iter().map(|outlet| self.port(outlet)).collect()
    }

    fn port(&self, outlet: &Outlet) -> Port {
        let mut port = port(outlet);
        if self.adds_batch_axis && matches!(port.elements, Elements::Numbers(_) | Elements::Strings) {
            port.axes.insert(0, Axis::Fixed(1));
        }
        port
    }

    /// Selects the inputs and the outputs that either reader gets, in the order in which [`run`](Self::run)
    /// takes and returns them, and how outputs are read.
    pub(crate) fn select<'a>(
        &mut self,
        inputs: impl Iterator<Item = &'a str>,
        head: impl Iterator<Item = (&'a str, Reading)>,
        raw: impl Iterator<Item = (&'a str, Reading)>,
    ) -> Result<(), ort::Error> {
        let (all, outputs) = (self.input_ports(), self.output_ports());
        let mut fed = Vec::new();
        self.inputs.clear();
        for input in inputs {
            if let Some(port @ &Port { elements: Elements::Numbers(dtype), .. }) =
                all.iter().find(|port| port.name == input)
            {
                self.inputs.push((name(input)?, dtype));
                fed.push(port);
            }
        }
        self.head = Selection::new(&fed, &outputs, head, self.threads)?;
        self.raw = Selection::new(&fed, &outputs, raw, self.threads)?;
        Ok(())
    }

    /// Runs once on the calling thread, unless `canceller` cancels it. The inputs are those selected, in
    /// their order.
    #[allow(unsafe_code)]
    pub(crate) fn run(
        &self,
        inputs: &[RunInput<'_>],
        read_by: ReadBy,
        canceller: &RunTerminator,
    ) -> Result<RunOutputs<'_>, ort::Error> {
        let selection = match read_by {
            ReadBy::Head => &self.head,
            ReadBy::Sender => &self.raw,
        };
        if inputs.len() != self.inputs.len() {
            let (given, taken) = (inputs.len(), self.inputs.len());
            return Err(ort::Error::new(format!("{given} inputs are given, the model takes {taken}")));
        }
        let without = usize::from(self.adds_batch_axis);
        let values = self.inputs.iter().zip(inputs);
        let values =
            values.map(|((_, dtype), input)| InputValue::new(*dtype, &input.shape[without..], &input.data));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let input_names: Vec<*const c_char> = self.inputs.iter().map(|(name, _)| name.as_ptr()).collect();
        let input_values: Vec<*const OrtValue> = values.iter().map(InputValue::ptr).collect();
        let output_names: Vec<*const c_char> = selection.outputs.iter().map(|name| name.as_ptr()).collect();
        let spare = selection.take_spare(inputs);
        let mut outputs: Vec<*mut OrtValue> = match &spare {
            Some(spare) => spare.outputs.iter().map(OutputValue::ptr).collect(),
            None => vec![ptr::null_mut(); output_names.len()],
        };
        let options = canceller.0.as_ref().map_or(ptr::null(), RunOptions::ptr);
        // SAFETY: `OrtApi::Run` may be called on one session from many threads: ONNX Runtime guarantees it,
        // keeps what a run changes in an execution frame of its own, and takes a lock where an execution
        // provider can't run concurrently. `Session::run` asks for `&mut` out of caution and changes nothing
        // of the Rust struct; no `&mut Session` exists here. All pointers are valid for the call: the session
        // by `&self`, options, names and inputs by the borrows above (one name an input), and `outputs` has
        // one pointer a name: null as the API asks for what it is to allocate, or a tensor of `spare`, which
        // is nobody else's now and which the API leaves to its owner.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options,
                input_names.as_ptr(),
                input_values.as_ptr(),
                input_names.len(),
                output_names.as_ptr(),
                output_names.len(),
                outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status is the one just returned, and it is handed over once.
        unsafe { ort::Error::result_from_status(status) }?;
        if let Some(mut spare) = spare {
            spare.convert()?;
            return Ok(RunOutputs { tensors: Some(spare), selection });
        }
        let values = outputs.into_iter().filter_map(NonNull::new);
        // SAFETY: a run without error has set every pointer to a value that is now ours. Their memory is of
        // the session's arena, which the borrow of `self` keeps.
        let values = values.map(|value| unsafe { DynValue::from_ptr(value, Some(self.session.allocator())) });
        let shapes = inputs.iter().flat_map(|input| &input.shape).copied().collect();
        let tensors = RunTensors::new(shapes, values.collect(), &selection.readings, self.adds_batch_axis)?;
        Ok(RunOutputs { tensors: Some(tensors), selection })
    }
}

/// Names come from the ONNX file by way of C strings, so none holds a NUL.
fn name(name: &str) -> Result<CString, ort::Error> {
    CString::new(name).map_err(ort::Error::wrap)
}

impl Selection {
    fn new<'a>(
        fed: &[&Port],
        ports: &[Port],
        outputs: impl Iterator<Item = (&'a str, Reading)>,
        threads: usize,
    ) -> Result<Self, ort::Error> {
        let mut selection = Self { spare_limit: threads, ..Self::default() };
        for (output, reading) in outputs {
            let port = ports.iter().find(|port| port.name == output);
            let is_kept =
                |port: &Port| matches!(port.elements, Elements::Numbers(_)) && port.is_shaped_by(fed);
            if !port.is_some_and(is_kept) {
                selection.spare_limit = 0;
            }
            selection.outputs.push(name(output)?);
            selection.readings.push(reading);
        }
        Ok(selection)
    }

    /// Takes reusable outputs for inputs of these shapes.
    fn take_spare(&self, inputs: &[RunInput<'_>]) -> Option<RunTensors> {
        let mut spare = self.lock_spare();
        let is_of = |tensors: &RunTensors| {
            tensors.input_shapes.iter().eq(inputs.iter().flat_map(|input| &input.shape))
        };
        let at = spare.iter().rposition(is_of)?;
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

/// Outputs of a run. When dropped, their memory is reused by the next run on inputs of the same shapes.
pub(crate) struct RunOutputs<'s> {
    tensors: Option<RunTensors>,
    selection: &'s Selection,
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
            self.selection.keep_spare(tensors);
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
