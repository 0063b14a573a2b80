//! All inputs of a model: checked against the ONNX file, and frames against them.

use sferic_actors::frame::Content;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::tensor::{Dtype, InputTensor};
use sferic_features::FeatureConfig;

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
        }
    }

    /// The features, where it is computed.
    pub fn features(&self) -> Option<&FeatureConfig> {
        if let ModelInputSource::Computed(features, _) = &self.source { Some(features) } else { None }
    }

    fn batch_of_one(&self) -> bool {
        match &self.source {
            ModelInputSource::Computed(_, input) => input.batch_of_one,
            ModelInputSource::Given(input) => input.batch_of_one,
        }
    }
}

impl Inputs {
    /// Finds the inputs that `configs` name among `ports`, those of the ONNX file.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub fn new(configs: &[InputConfig], ports: &[Port]) -> Result<Self, String> {
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
            let source = match &config.source {
                InputSource::Features(features) => {
                    ModelInputSource::Computed(features.clone(), Input::new(features, port)?)
                }
                InputSource::Tensor(tensor) => ModelInputSource::Given(TensorInput::new(tensor, port)?),
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
        let takes = |input: &ModelInput| is_raw || matches!(input.source, ModelInputSource::Given(_));
        self.iter().any(|input| input.port.name == tensor.name && takes(input))
    }

    fn unknown(&self, tensor: &InputTensor, is_raw: bool) -> Failure {
        let taken: Vec<_> = self
            .iter()
            .filter(|input| is_raw || matches!(input.source, ModelInputSource::Given(_)))
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
mod tests {
    use sferic_actors::frame::IqSamples;
    use sferic_features::Kind;
    use sferic_samples::Datatype;

    use super::super::input_section::TensorConfig;
    use super::super::port::{Axis, Elements};
    use super::*;

    fn port(name: &str, dtype: Dtype, axes: &str) -> Port {
        let axis = |axis: &str| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed);
        Port {
            name: name.into(),
            elements: Elements::Numbers(dtype),
            axes: axes.split(' ').map(axis).collect(),
        }
    }

    fn ports() -> [Port; 3] {
        [
            port("levels", Dtype::Float32, "B 4"),
            port("iq", Dtype::Float32, "B 1 2 N"),
            port("power", Dtype::Float32, "B 1"),
        ]
    }

    fn computed(name: &str, kind: Kind, rate: f64) -> InputConfig {
        let features = FeatureConfig {
            kind,
            sample_rate_hz: Some(rate),
            min_samples: Some(2),
            ..FeatureConfig::default()
        };
        InputConfig { name: Some(name.into()), source: InputSource::Features(features) }
    }

    fn levels() -> InputConfig {
        let tensor = TensorConfig::new(vec![4], Some(Dtype::Float64));
        InputConfig { name: Some("levels".into()), source: InputSource::Tensor(tensor) }
    }

    fn three() -> Inputs {
        let configs = [computed("iq", Kind::Iq, 48e3), computed("power", Kind::Power, 48e3), levels()];
        Inputs::new(&configs, &ports()).expect("refused")
    }

    fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> InputTensor {
        let data = vec![0; dtype.size() * shape.iter().product::<usize>()].into();
        InputTensor { name: name.into(), dtype, shape: shape.into(), data }
    }

    fn content(rate: Option<f64>, tensors: Vec<InputTensor>, is_raw: bool) -> Content {
        let samples = rate.map(|rate| IqSamples {
            bytes: vec![0; 8].into(),
            datatype: Datatype::Ci8,
            channels: 1,
            sample_rate: Some(rate),
        });
        Content { samples, tensors, is_raw }
    }

    #[test]
    fn each_input_of_the_file_is_listed_once() {
        let names = three().iter().map(|input| input.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names, ["iq", "power", "levels"], "in the order of model.toml");
        let (iq, power) = (computed("iq", Kind::Iq, 1.0), computed("power", Kind::Power, 1.0));
        let other = InputConfig { name: Some("other".into()), ..iq.clone() };
        let unnamed = InputConfig { name: None, ..iq.clone() };
        for (configs, parts) in [
            (&[iq.clone(), power.clone()][..], &["`levels`, float32 [B, 4]", "does not list"][..]),
            (&[iq.clone(), power.clone(), iq.clone()], &["`iq` twice"]),
            (&[iq, power, levels(), other], &["`other`", "no such input", "`levels`, `iq`, `power`"]),
            (&[unnamed], &["3 inputs (`levels`, `iq`, `power`)", "[[inputs]]"]),
        ] {
            let error = Inputs::new(configs, &ports()).expect_err("accepted");
            parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in {error:?}"));
        }
    }

    #[test]
    fn a_frame_suits_all_inputs_or_says_which_it_does_not() {
        let inputs = three();
        let good = || tensor("levels", Dtype::Float64, &[4]);
        assert_eq!(inputs.fits(&content(Some(48e3), vec![good()], false)), Ok(()));
        let unknown = tensor("power", Dtype::Float32, &[1]);
        for (content, code, parts) in [
            (
                content(Some(48e3), vec![], false),
                FailureCode::ShapeMismatch,
                &["tensors: none", "`levels`, float64 [4]"][..],
            ),
            (
                content(Some(48e3), vec![tensor("level", Dtype::Float64, &[4])], false),
                FailureCode::ShapeMismatch,
                &["\"level\"", "`levels`"],
            ),
            (
                content(Some(48e3), vec![tensor("levels", Dtype::Float32, &[4])], false),
                FailureCode::ShapeMismatch,
                &["float32 [4]", "float64 [4]"],
            ),
            (
                content(Some(48e3), vec![tensor("levels", Dtype::Float64, &[2, 2])], false),
                FailureCode::ShapeMismatch,
                &["[2, 2]", "[4]"],
            ),
            (
                content(Some(48e3), vec![good(), unknown], false),
                FailureCode::ShapeMismatch,
                &["\"power\"", "takes `levels`"],
            ),
            (
                content(None, vec![good()], false),
                FailureCode::InvalidFrame,
                &["neither `samples` nor `iq_data`"],
            ),
            (content(Some(44e3), vec![good()], false), FailureCode::ShapeMismatch, &["44000"]),
        ] {
            let failure = inputs.fits(&content).expect_err("taken");
            assert_eq!(failure.code, code, "{failure:?}");
            parts.iter().for_each(|part| assert!(failure.message.contains(part), "{part:?}: {failure:?}"));
        }
        // Two inputs that want different rates suit no frame.
        let apart = [computed("iq", Kind::Iq, 48e3), computed("power", Kind::Power, 96e3), levels()];
        let apart = Inputs::new(&apart, &ports()).expect("refused");
        for rate in [48e3, 96e3] {
            assert!(apart.fits(&content(Some(rate), vec![good()], false)).is_err());
        }
    }

    #[test]
    fn tensors_alone_are_for_a_model_without_other_inputs() {
        let inputs = Inputs::new(&[levels()], &ports()[..1]).expect("refused");
        let good = || vec![tensor("levels", Dtype::Float64, &[4])];
        assert_eq!(inputs.fits(&content(None, good(), false)), Ok(()));
        let failure = inputs.fits(&content(Some(48e3), good(), false)).expect_err("taken");
        assert!(failure.code == FailureCode::ShapeMismatch && failure.message.contains("tensors alone"));
    }

    #[test]
    fn raw_tensors_stand_for_any_input_in_the_type_of_the_file() {
        let inputs = three();
        let levels = || tensor("levels", Dtype::Float32, &[4]);
        let (iq, power) = (tensor("iq", Dtype::Float32, &[1, 2, 9]), tensor("power", Dtype::Float32, &[1]));
        assert_eq!(inputs.fits(&content(None, vec![iq.clone(), levels(), power.clone()], true)), Ok(()));
        assert_eq!(
            inputs.fits(&content(Some(48e3), vec![levels()], true)),
            Ok(()),
            "the others are computed"
        );
        for (content, part) in [
            (content(None, vec![iq, levels()], true), "neither `samples`"),
            (
                content(Some(48e3), vec![tensor("levels", Dtype::Float32, &[5])], true),
                "`levels`, float32 [B, 4]",
            ),
            (
                content(Some(48e3), vec![levels(), tensor("x", Dtype::Int8, &[1])], true),
                "takes `iq`, `power`, `levels`",
            ),
            (content(None, vec![tensor("x", Dtype::Int8, &[1])], true), "\"x\""),
        ] {
            let failure = inputs.fits(&content).expect_err("taken");
            assert!(failure.message.contains(part), "{part:?}: {failure:?}");
        }
    }
}
