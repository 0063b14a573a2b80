//! Inputs of a gathered model: with an axis of receivers, or of pairs of them, after the batch.

use sferic_actors::frame::Content;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_actors::tensor::Dtype;
use sferic_features::{CorrelationConfig, FeatureConfig};
use sferic_samples::Samples;

use super::input::{Input, frame_failure, has_own_width, width};
use super::input_section::{GatheredConfig, InputConfig, InputSource};
use super::port::{Axis, Elements, Port};
use super::tensor_input::TensorInput;

/// An input of a gathered model, checked against the ONNX file.
#[derive(Debug, Clone)]
pub struct GatheredInput {
    /// Where its values come from.
    pub kind: GatheredKind,
    /// The type that the ONNX file takes.
    pub dtype: Dtype,
    /// Without the batch axis.
    pub shape: Vec<usize>,
    /// Whether its batch axis is fixed at 1.
    pub batch_of_one: bool,
}

/// Where the values of a gathered input come from.
#[derive(Debug, Clone)]
pub enum GatheredKind {
    /// Computed from the samples of each frame.
    Computed(FeatureConfig, Input),
    /// A tensor of each frame.
    Given(TensorInput),
    /// 1 where a receiver is there.
    Mask,
    /// Metres from the origin.
    Receivers,
    /// Seconds after the earliest arrival.
    Arrival,
    /// Correlations of the samples of each pair.
    Correlation(CorrelationConfig),
    /// Seconds from one lag to the next.
    LagStep(CorrelationConfig),
    /// Standard error of the lag of each pair, seconds.
    Scatter,
}

/// Pairs of so many receivers.
const fn pairs(receivers: usize) -> usize {
    receivers * receivers.saturating_sub(1) / 2
}

impl GatheredInput {
    /// Checks an input against its port; `all` are the inputs that `model.toml` lists.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub(crate) fn new(
        source: &InputSource,
        port: &Port,
        receivers: usize,
        all: &[InputConfig],
    ) -> Result<Self, String> {
        match source {
            InputSource::Features(features) => Self::computed(features, port, receivers),
            InputSource::Tensor(tensor) => {
                let one = of_one_receiver(port, receivers)?;
                let input = TensorInput::new(tensor, &one)?;
                let shape = std::iter::once(receivers).chain(input.shape.iter().copied()).collect();
                let (dtype, batch_of_one) = (input.onnx_dtype, input.batch_of_one);
                Ok(Self { kind: GatheredKind::Given(input), dtype, shape, batch_of_one })
            }
            InputSource::Gathered(gathered) => Self::together(gathered, port, receivers, all),
        }
    }

    fn computed(features: &FeatureConfig, port: &Port, receivers: usize) -> Result<Self, String> {
        let one = of_one_receiver(port, receivers)?;
        let input = Input::new(features, &one)?;
        let columns = match features.kind {
            kind if has_own_width(kind) => Some(width(features, features.min_samples())),
            _ => input.fixed_width.or(features.frames),
        };
        let Some(columns) = columns else {
            return Err(format!(
                "input {port}: with [gather] all receivers need features of one width; set frames"
            ));
        };
        let shape = input.shape(receivers, [features.num_channels, features.rows(), columns]);
        let shape = shape.into_iter().filter_map(|axis| usize::try_from(axis).ok()).collect();
        let (dtype, batch_of_one) = (input.dtype, input.batch_of_one);
        Ok(Self { kind: GatheredKind::Computed(features.clone(), input), dtype, shape, batch_of_one })
    }

    fn together(
        config: &GatheredConfig,
        port: &Port,
        receivers: usize,
        all: &[InputConfig],
    ) -> Result<Self, String> {
        let mut correlations = all.iter().filter_map(|input| match &input.source {
            InputSource::Gathered(GatheredConfig::Correlation(correlation)) => Some(correlation.clone()),
            _ => None,
        });
        let mut sibling = || match (correlations.next(), correlations.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(format!("input {port} needs exactly one input of kind = \"correlation\" beside it")),
        };
        let dimensions = match port.axes.last() {
            Some(Axis::Fixed(2)) => 2,
            _ => 3,
        };
        let (kind, shape) = match config {
            GatheredConfig::Mask => (GatheredKind::Mask, vec![receivers]),
            GatheredConfig::Receivers => (GatheredKind::Receivers, vec![receivers, dimensions]),
            GatheredConfig::Arrival => (GatheredKind::Arrival, vec![receivers]),
            GatheredConfig::Correlation(correlation) => {
                let shape = vec![pairs(receivers), correlation.lags];
                (GatheredKind::Correlation(sibling()?), shape)
            }
            GatheredConfig::LagStep => (GatheredKind::LagStep(sibling()?), vec![1]),
            GatheredConfig::Scatter => {
                sibling()?;
                (GatheredKind::Scatter, vec![pairs(receivers)])
            }
        };
        let dtype = match port.elements {
            Elements::Numbers(dtype) if !dtype.is_integer() && dtype != Dtype::Bool => dtype,
            _ => return Err(format!("input {port}, expected float32 [B, {}]", listed(&shape))),
        };
        let fits = |(axis, length): (&Axis, &usize)| match axis {
            Axis::Fixed(fixed) => fixed == length,
            Axis::Free(_) => true,
        };
        let [batch, axes @ ..] = &port.axes[..] else {
            return Err(format!("input {port} has no batch axis"));
        };
        if axes.len() != shape.len() || !axes.iter().zip(&shape).all(fits) {
            return Err(format!("input {port}, expected float32 [B, {}]", listed(&shape)));
        }
        Ok(Self { kind, dtype, shape, batch_of_one: of_one(batch, port)? })
    }

    /// Elements of one session.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl GatheredKind {
    /// Whether it is computed from samples.
    pub(crate) fn needs_samples(&self) -> bool {
        matches!(self, Self::Computed(..) | Self::Correlation(_))
    }

    /// Whether a frame may have samples for it.
    pub(crate) fn wants_samples(&self) -> bool {
        // Who sends arrival times may send the samples they were read from.
        self.needs_samples() || matches!(self, Self::Arrival)
    }

    /// Checks one frame of a session.
    pub(crate) fn fits(&self, content: &Content) -> Result<(), Failure> {
        let invalid = |message: &str| Err(Failure::new(FailureCode::InvalidFrame, message));
        if let Some(samples) = content.samples.as_ref().filter(|_| self.needs_samples()) {
            // Found later, one frame would fail all of its session.
            Samples::new(&samples.bytes, samples.datatype, samples.channels)
                .and_then(|view| view.check_finite())
                .map_err(|error| frame_failure(&error.into()))?;
        }
        match (self, &content.samples) {
            (Self::Computed(features, input), Some(samples)) => {
                input.fits(features, samples.channels, samples.len(), samples.sample_rate)
            }
            (Self::Arrival, _) if content.arrival_ns.is_none() => {
                invalid("`arrival_ns` is missing, the model needs it")
            }
            (Self::Correlation(_), Some(samples)) if samples.channels != 1 => {
                let channels = samples.channels;
                let message = format!("the frame has {channels} channels, the model correlates single ones");
                Err(Failure::new(FailureCode::ShapeMismatch, message))
            }
            (Self::Correlation(_), Some(samples)) if samples.sample_rate.is_none() => {
                invalid("`sample_rate` is missing, the model needs it")
            }
            (Self::Correlation(_), Some(_)) if content.begun_ns.is_none() => {
                invalid("`datetime` is missing or out of range, the model needs it")
            }
            (Self::Correlation(config), Some(samples)) => {
                let [low, high] = config.band_hz;
                let needed = 2.0 * low.abs().max(high.abs());
                match samples.sample_rate.filter(|rate| *rate < needed) {
                    Some(rate) => {
                        let message = format!(
                            "the sample rate is {rate} Hz, the model's band needs at least {needed} Hz"
                        );
                        Err(Failure::new(FailureCode::ShapeMismatch, message))
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// The port without its axis of receivers.
fn of_one_receiver(port: &Port, receivers: usize) -> Result<Port, String> {
    let Port { name, elements, axes } = port;
    let refuse = |what: String| Err(format!("input {port}: with [gather] its second axis is that of {what}"));
    match axes.get(1) {
        None => refuse(format!("the {receivers} receivers, and it has none")),
        Some(Axis::Fixed(length)) if *length != receivers => {
            refuse(format!("the {receivers} receivers, the file has {length}"))
        }
        Some(_) => {
            let axes = axes.iter().take(1).chain(&axes[2..]).cloned().collect();
            Ok(Port { name: name.clone(), elements: *elements, axes })
        }
    }
}

fn of_one(batch: &Axis, port: &Port) -> Result<bool, String> {
    match batch {
        Axis::Free(_) => Ok(false),
        Axis::Fixed(1) => Ok(true),
        Axis::Fixed(length) => Err(format!("input {port}: a fixed batch axis must be 1, it is {length}")),
    }
}

fn listed(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sferic_actors::frame::IqSamples;
    use sferic_samples::Datatype;

    use super::super::input_section::TensorConfig;
    use super::*;

    fn port(axes: &str) -> Port {
        let axis = |axis: &str| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed);
        Port {
            name: "x".into(),
            elements: Elements::Numbers(Dtype::Float32),
            axes: axes.split(' ').map(axis).collect(),
        }
    }

    fn correlation() -> InputConfig {
        let correlation = CorrelationConfig {
            band_hz: [-400.0, 400.0],
            max_lag_s: 1e-3,
            lags: 11,
            windows: 1,
            ..CorrelationConfig::default()
        };
        let source = InputSource::Gathered(GatheredConfig::Correlation(correlation));
        InputConfig { name: Some("c".into()), source }
    }

    fn shape(source: &InputSource, axes: &str) -> Result<Vec<usize>, String> {
        GatheredInput::new(source, &port(axes), 4, &[correlation()]).map(|input| input.shape)
    }

    #[test]
    fn each_kind_has_its_axis_of_receivers_or_pairs() {
        let gathered =
            |config: &GatheredConfig, axes: &str| shape(&InputSource::Gathered(config.clone()), axes);
        assert_eq!(gathered(&GatheredConfig::Mask, "B 4"), Ok(vec![4]));
        assert_eq!(gathered(&GatheredConfig::Receivers, "B R 2"), Ok(vec![4, 2]));
        assert_eq!(gathered(&GatheredConfig::Receivers, "B R D"), Ok(vec![4, 3]));
        assert_eq!(gathered(&GatheredConfig::Arrival, "B R"), Ok(vec![4]));
        assert_eq!(gathered(&GatheredConfig::Scatter, "B P"), Ok(vec![6]));
        assert_eq!(gathered(&GatheredConfig::LagStep, "B 1"), Ok(vec![1]));
        assert_eq!(shape(&correlation().source, "B P L"), Ok(vec![6, 11]));
        for (config, axes, part) in [
            (GatheredConfig::Mask, "B 5", "[B, 4]"),
            (GatheredConfig::Mask, "B", "[B, 4]"),
            (GatheredConfig::Receivers, "B 4 4", "[B, 4, 3]"),
            (GatheredConfig::Scatter, "B 5", "[B, 6]"),
            (GatheredConfig::Mask, "2 4", "must be 1, it is 2"),
        ] {
            let error = gathered(&config, axes).expect_err("accepted");
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        let alone = GatheredInput::new(&InputSource::Gathered(GatheredConfig::Scatter), &port("B 6"), 4, &[]);
        assert!(alone.is_err_and(|error| error.contains("correlation")));
    }

    #[test]
    fn features_and_tensors_have_it_after_the_batch() {
        let power =
            FeatureConfig { kind: sferic_features::Kind::Power, num_channels: 2, ..FeatureConfig::default() };
        assert_eq!(shape(&InputSource::Features(power), "B R 2"), Ok(vec![4, 2]));
        let mel = FeatureConfig { frames: Some(9), ..FeatureConfig::default() };
        assert_eq!(shape(&InputSource::Features(mel.clone()), "B R 1 128 T"), Ok(vec![4, 1, 128, 9]));
        assert_eq!(shape(&InputSource::Features(mel), "B 4 128 9"), Ok(vec![4, 128, 9]));
        let free = InputSource::Features(FeatureConfig::default());
        assert!(shape(&free, "B R 1 128 T").is_err_and(|error| error.contains("set frames")));
        let tensor = InputSource::Tensor(TensorConfig::new(vec![3], None));
        assert_eq!(shape(&tensor, "B R 3"), Ok(vec![4, 3]));
        assert!(shape(&tensor, "B 5 3").is_err_and(|error| error.contains("4 receivers, the file has 5")));
        assert!(shape(&tensor, "B").is_err_and(|error| error.contains("has none")));
    }

    #[test]
    fn a_frame_has_what_the_inputs_need_or_hears_what_is_missing() {
        let samples = IqSamples {
            bytes: vec![0; 8].into(),
            datatype: Datatype::Ci8,
            channels: 1,
            sample_rate: Some(1e3),
        };
        let content = |samples: Option<IqSamples>| Content { samples, ..Content::default() };
        let lacks = |kind: &GatheredKind, content: &Content, part: &str| {
            let failure = kind.fits(content).expect_err("taken");
            assert!(failure.message.contains(part), "{part:?} is not in {failure:?}");
        };
        lacks(&GatheredKind::Arrival, &content(None), "`arrival_ns`");
        let InputSource::Gathered(GatheredConfig::Correlation(config)) = correlation().source else {
            panic!()
        };
        let kind = GatheredKind::Correlation(config);
        lacks(&kind, &content(Some(samples.clone())), "`datetime`");
        lacks(&kind, &content(Some(IqSamples { sample_rate: None, ..samples.clone() })), "`sample_rate`");
        let slow = Content {
            begun_ns: Some(1),
            ..content(Some(IqSamples { sample_rate: Some(700.0), ..samples.clone() }))
        };
        lacks(&kind, &slow, "700 Hz");
        let nan = [f32::NAN, 0.0].into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into();
        let nan = IqSamples { bytes: nan, datatype: Datatype::Cf32Le, ..samples.clone() };
        lacks(&kind, &Content { begun_ns: Some(1), ..content(Some(nan)) }, "NaN");
        lacks(&kind, &content(Some(IqSamples { channels: 2, ..samples.clone() })), "2 channels");
        let timed = Content { begun_ns: Some(1), ..content(Some(samples)) };
        assert_eq!(kind.fits(&timed), Ok(()));
        assert_eq!(
            GatheredKind::Arrival.fits(&Content { arrival_ns: Some(1), ..Content::default() }),
            Ok(())
        );
    }
}
