//! All inputs of a model: checked against the ONNX file, and frames against them.

use sferic_actors::frame::Content;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::tensor::{Dtype, InputTensor};
use sferic_features::FeatureConfig;

use super::gathered_input::{GatheredInput, GatheredKind};
use super::input::Input;
use super::input_section::{InputConfig, InputSource};
use super::port::Port;
use super::tensor_input::{TensorInput, raw_fits};

/// The inputs of a model, in the order of `model.toml`.
#[derive(Debug, Clone)]
pub struct Inputs(Vec<ModelInput>);

/// One input of a model.
#[derive(Debug, Clone)]
pub struct ModelInput {
    /// Where its values come from.
    pub source: ModelInputSource,
    /// As the ONNX file declares it.
    pub port: Port,
}

/// Where the values of an input come from.
#[derive(Debug, Clone)]
pub enum ModelInputSource {
    /// Computed from the samples of a frame.
    Computed(FeatureConfig, Input),
    /// A tensor of the frame.
    Given(TensorInput),
    /// Of all frames of a session.
    Gathered(GatheredInput),
}

impl ModelInput {
    /// Its name in the ONNX file.
    pub fn name(&self) -> &str {
        &self.port.name
    }

    /// The type that the ONNX file takes.
    pub fn dtype(&self) -> Dtype {
        match &self.source {
            ModelInputSource::Computed(_, input) => input.dtype,
            ModelInputSource::Given(input) => input.onnx_dtype,
            ModelInputSource::Gathered(input) => input.dtype,
        }
    }

    /// The features, where it is computed.
    pub fn features(&self) -> Option<&FeatureConfig> {
        match &self.source {
            ModelInputSource::Computed(features, _)
            | ModelInputSource::Gathered(GatheredInput {
                kind: GatheredKind::Computed(features, _), ..
            }) => Some(features),
            _ => None,
        }
    }

    /// Whether frames bring it.
    fn is_given(&self) -> bool {
        match &self.source {
            ModelInputSource::Computed(..) => false,
            ModelInputSource::Given(_) => true,
            ModelInputSource::Gathered(input) => matches!(input.kind, GatheredKind::Given(_)),
        }
    }

    fn batch_of_one(&self) -> bool {
        match &self.source {
            ModelInputSource::Computed(_, input) => input.batch_of_one,
            ModelInputSource::Given(input) => input.batch_of_one,
            ModelInputSource::Gathered(input) => input.batch_of_one,
        }
    }
}

impl Inputs {
    /// Finds the inputs that `configs` name among `ports`, those of the ONNX file.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub fn new(configs: &[InputConfig], ports: &[Port]) -> Result<Self, String> {
        Self::gathered(configs, ports, None)
    }

    /// The same, for a model that gathers the frames of `receivers`.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub fn gathered(
        configs: &[InputConfig],
        ports: &[Port],
        receivers: Option<usize>,
    ) -> Result<Self, String> {
        let names = || ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ");
        let port_of = |config: &InputConfig| match &config.name {
            Some(name) => ports.iter().find(|port| port.name == *name).ok_or_else(|| {
                format!("[[inputs]] names `{name}`, model.onnx has no such input; it has {}", names())
            }),
            None => match ports {
                [port] => Ok(port),
                _ => Err(format!(
                    "model.onnx has {} inputs ({}), expected one; several are listed as [[inputs]]",
                    ports.len(),
                    names()
                )),
            },
        };
        let mut inputs: Vec<ModelInput> = Vec::with_capacity(configs.len());
        for config in configs {
            let port = port_of(config)?;
            if inputs.iter().any(|known| known.port.name == port.name) {
                return Err(format!("[[inputs]] names `{}` twice", port.name));
            }
            let source = match (&config.source, receivers) {
                (source, Some(receivers)) => {
                    ModelInputSource::Gathered(GatheredInput::new(source, port, receivers, configs)?)
                }
                (InputSource::Features(features), None) => {
                    ModelInputSource::Computed(features.clone(), Input::new(features, port)?)
                }
                (InputSource::Tensor(tensor), None) => {
                    ModelInputSource::Given(TensorInput::new(tensor, port)?)
                }
                (InputSource::Gathered(_), None) => return Err(format!("input {port} needs [gather]")),
            };
            inputs.push(ModelInput { source, port: port.clone() });
        }
        match ports.iter().find(|port| !inputs.iter().any(|input| input.port.name == port.name)) {
            Some(port) => Err(format!("model.onnx has the input {port}, which [[inputs]] does not list")),
            None => Ok(Self(inputs)),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ModelInput> {
        self.0.iter()
    }

    /// The features of those that are computed.
    pub fn features(&self) -> impl Iterator<Item = &FeatureConfig> {
        self.iter().filter_map(ModelInput::features)
    }

    /// Whether the ONNX file declares one of them for a single frame only.
    pub fn batch_of_one(&self) -> bool {
        self.iter().any(ModelInput::batch_of_one)
    }

    /// Checks a frame before anything is computed.
    ///
    /// # Errors
    /// The failure of the frame: what the model does not take, with what the frame has.
    pub fn fits(&self, content: &Content) -> Result<(), Failure> {
        let mut tensors = content.tensors.iter();
        let mut used = 0;
        let mut wants_samples = false;
        for ModelInput { source, port } in &self.0 {
            let given = tensors.clone().find(|tensor| tensor.name == port.name);
            match (source, given) {
                (_, Some(tensor)) if content.is_raw => raw_fits(port, tensor)?,
                (ModelInputSource::Given(input), Some(tensor)) => input.fits(tensor)?,
                (ModelInputSource::Given(input), None) => return Err(missing(input, &content.tensors)),
                (ModelInputSource::Gathered(_), None) if content.is_raw => {
                    let message =
                        format!("a raw request has all inputs of a gathered model, it lacks {port}");
                    return Err(Failure::new(FailureCode::ShapeMismatch, message));
                }
                (ModelInputSource::Gathered(input), given) => match (&input.kind, given) {
                    (GatheredKind::Given(input), Some(tensor)) => input.fits(tensor)?,
                    (GatheredKind::Given(input), None) => return Err(missing(input, &content.tensors)),
                    (kind, _) => {
                        wants_samples |= kind.wants_samples();
                        if kind.needs_samples() && content.samples.is_none() {
                            return Err(self.without_samples(content));
                        }
                        kind.fits(content)?;
                        continue;
                    }
                },
                (ModelInputSource::Computed(features, input), _) => {
                    wants_samples = true;
                    let Some(samples) = &content.samples else {
                        return Err(self.without_samples(content));
                    };
                    input.fits(features, samples.channels, samples.len(), samples.sample_rate)?;
                    continue;
                }
            }
            used += 1;
        }
        if used < content.tensors.len()
            && let Some(unknown) = tensors.find(|tensor| !self.takes(tensor, content.is_raw))
        {
            return Err(self.unknown(unknown, content.is_raw));
        }
        if content.samples.is_some() && !wants_samples {
            let message = "the frame has samples, the model takes tensors alone";
            return Err(Failure::new(FailureCode::ShapeMismatch, message));
        }
        Ok(())
    }

    fn without_samples(&self, content: &Content) -> Failure {
        let message = match content.tensors.first() {
            Some(tensor) if !self.takes(tensor, content.is_raw) => {
                return self.unknown(tensor, content.is_raw);
            }
            _ => "neither `samples` nor `iq_data` is given, and the model needs one",
        };
        Failure::new(FailureCode::InvalidFrame, message)
    }

    fn takes(&self, tensor: &InputTensor, is_raw: bool) -> bool {
        self.iter().any(|input| input.port.name == tensor.name && (is_raw || input.is_given()))
    }

    fn unknown(&self, tensor: &InputTensor, is_raw: bool) -> Failure {
        let taken: Vec<_> = self
            .iter()
            .filter(|input| is_raw || input.is_given())
            .map(|input| format!("`{}`", input.port.name))
            .collect();
        let taken = if taken.is_empty() { "none".to_owned() } else { taken.join(", ") };
        let name: String = tensor.name.chars().take(64).collect();
        let message = format!("the frame has a tensor {name:?}, the model takes {taken}");
        Failure::new(FailureCode::ShapeMismatch, message)
    }
}

fn missing(input: &TensorInput, tensors: &[InputTensor]) -> Failure {
    let has: Vec<_> = tensors.iter().take(16).map(|tensor| format!("{:?}", tensor.name)).collect();
    let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
    let TensorInput { name, dtype, shape, .. } = input;
    let message =
        format!("the frame has tensors: {has}; the model takes `{name}`, {} {shape:?}", dtype.name());
    Failure::new(FailureCode::ShapeMismatch, message)
}

#[cfg(test)]
mod tests;
