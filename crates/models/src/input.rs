//! An input that is computed from samples: checks the ONNX file against the features, and frames against
//! both.

use half::f16;
use sferic_actors::outcome::{Failure, FailureCode};
use sferic_features::{FeatureConfig, FrameError, Kind, signature};
use sferic_samples::SamplesError;

use sferic_actors::tensor::Dtype;

use super::port::{Axis, Elements, Port};

/// An input of features, `[B, C, rows, T]`, or `[B, rows, T]` for one channel; `[B, C]` for `kind = "power"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name in the ONNX file.
    pub name: String,
    /// The type that the float32 features are converted to.
    pub dtype: Dtype,
    /// Which axes it has beside the batch.
    pub axes: FeatureAxes,
    /// Whether its batch axis is fixed at 1.
    pub batch_of_one: bool,
    /// Length of its last axis, where the ONNX file fixes it.
    pub fixed_width: Option<usize>,
}

impl Input {
    /// Checks the features against the port.
    ///
    /// # Errors
    /// In words: the input, what it is, and what was expected.
    pub fn new(features: &FeatureConfig, port: &Port) -> Result<Self, String> {
        let (channels, rows) = (features.num_channels, features.rows());
        let is_power = features.kind == Kind::Power;
        let columns = match features.kind {
            Kind::Signature => signature::COLUMNS.to_string(),
            _ => "T".into(),
        };
        let expected = match channels {
            _ if is_power => format!("float32 [B, {channels}]"),
            1 => format!("float32 [B, 1, {rows}, {columns}] or [B, {rows}, {columns}]"),
            _ => format!("float32 [B, {channels}, {rows}, {columns}]"),
        };
        let refuse = |why: String| Err(format!("input {port}, expected {expected}{why}"));
        let dtype = match port.elements {
            Elements::Numbers(
                dtype @ (Dtype::Float32 | Dtype::Float64 | Dtype::Float16 | Dtype::Bfloat16),
            ) => dtype,
            Elements::Numbers(dtype) if dtype.is_integer() => {
                return refuse(": integers would lose what features hold".into());
            }
            _ => return refuse(String::new()),
        };
        let fewest = match channels {
            _ if is_power => 2,
            1 => 3,
            _ => 4,
        };
        if port.axes.len() < fewest {
            return refuse(": it has no batch axis, export the model with one".into());
        }
        // The power of a frame has no width.
        let none = Axis::Free(String::new());
        let (batch, inner, width) = match &port.axes[..] {
            [batch, channel] if is_power => (batch, vec![(channel, channels, "num_channels")], &none),
            _ if is_power => return refuse(String::new()),
            [batch, channel, row, width] => {
                (batch, vec![(channel, channels, "num_channels"), (row, rows, "rows")], width)
            }
            [batch, row, width] if channels == 1 => (batch, vec![(row, rows, "rows")], width),
            _ => return refuse(String::new()),
        };
        for (axis, given, what) in inner {
            if let Axis::Fixed(length) = axis
                && *length != given
            {
                return refuse(format!(": [features] gives {what} = {given}, the file takes {length}"));
            }
        }
        if let Axis::Fixed(length) = batch
            && *length != 1
        {
            return refuse(format!(": a fixed batch axis must be 1, it is {length}"));
        }
        let frames = features.frames.filter(|_| !has_own_width(features.kind));
        let fixed_width = match (width, frames) {
            (Axis::Free(_), _) => None,
            (Axis::Fixed(length), Some(frames)) if frames != *length => {
                return refuse(format!(": [features] gives frames = {frames}, the file takes {length}"));
            }
            (Axis::Fixed(length), _) => Some(*length),
        };
        if let Some(fixed) = fixed_width.filter(|&fixed| {
            has_own_width(features.kind) && fixed != self::width(features, features.min_samples())
        }) {
            return refuse(format!(": the file takes {fixed} columns"));
        }
        // The width grows with the samples, so if the minimum is too wide, no frame fits.
        let (fewest, least) = (features.min_samples(), self::width(features, features.min_samples()));
        if let Some(fixed) = fixed_width.filter(|&fixed| least > fixed) {
            let advice = "set a smaller min_samples";
            return refuse(format!(
                ": [features] min_samples = {fewest} gives {least} columns, the file takes {fixed}; {advice}"
            ));
        }
        let batch_of_one = matches!(batch, Axis::Fixed(_));
        Ok(Self {
            name: port.name.clone(),
            dtype,
            axes: match port.axes.len() {
                2 => FeatureAxes::Channels,
                3 => FeatureAxes::Rows,
                _ => FeatureAxes::All,
            },
            batch_of_one,
            fixed_width,
        })
    }

    /// The shape of a batch of tensors `[channels, rows, columns]`.
    pub fn shape(&self, batch: usize, [channels, rows, columns]: [usize; 3]) -> Vec<i64> {
        let axes = match self.axes {
            FeatureAxes::All => vec![batch, channels, rows, columns],
            FeatureAxes::Rows => vec![batch, rows, columns],
            FeatureAxes::Channels => vec![batch, channels],
        };
        axes.into_iter().map(|length| i64::try_from(length).unwrap_or(i64::MAX)).collect()
    }

    /// Checks a frame of `instants` samples a channel before its features are computed.
    pub fn fits(
        &self,
        features: &FeatureConfig,
        channels: usize,
        instants: usize,
        rate_hz: Option<f64>,
    ) -> Result<(), Failure> {
        if channels != features.num_channels {
            return Err(frame_failure(&FrameError::Channels {
                got: channels,
                expected: features.num_channels,
            }));
        }
        features.plan_rate(rate_hz).map_err(|error| frame_failure(&error))?;
        let needed = features.min_samples();
        if instants < needed {
            return Err(frame_failure(&FrameError::NotEnoughSamples { got: instants, needed }));
        }
        let width = width(features, instants);
        match self.fixed_width {
            Some(fixed) if fixed != width => Err(Failure::new(
                FailureCode::ShapeMismatch,
                format!("{instants} samples give features {width} wide, the model takes {fixed}"),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that the features of a frame stay finite in the type that the model takes.
    pub fn check_range(&self, features: &[f32]) -> Result<(), Failure> {
        if self.dtype != Dtype::Float16 || features.iter().all(|value| f16::from_f32(*value).is_finite()) {
            return Ok(());
        }
        let largest = features.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let message = format!("features of up to {largest}, the model takes float16, at most {}", f16::MAX);
        Err(Failure::new(FailureCode::InvalidFrame, message))
    }
}

/// The axes of features beside the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureAxes {
    /// Channels, rows, columns.
    All,
    /// Rows and columns: there is one channel.
    Rows,
    /// Channels: there is one value a channel.
    Channels,
}

/// Columns of the features of `instants` samples a channel, at least as many as the transform is long;
/// samples themselves for `kind = "iq"`, 512 for `kind = "signature"`.
pub fn width(features: &FeatureConfig, instants: usize) -> usize {
    let own = || match features.kind {
        Kind::Iq => instants,
        Kind::Power => 1,
        Kind::Signature => signature::COLUMNS,
        Kind::LogMel | Kind::LogSpectrum => {
            let pad = if features.center { features.n_fft / 2 } else { 0 };
            1 + (instants + 2 * pad - features.n_fft) / features.hop_length()
        }
    };
    features.frames.filter(|_| !has_own_width(features.kind)).unwrap_or_else(own)
}

/// Whether all features of a kind have one width, whatever the frame's length and `frames`.
pub fn has_own_width(kind: Kind) -> bool {
    matches!(kind, Kind::Power | Kind::Signature)
}

/// Converts an error of the features to a failure.
pub fn frame_failure(error: &FrameError) -> Failure {
    let code = match error {
        FrameError::Samples(
            SamplesError::Empty | SamplesError::Misaligned { .. } | SamplesError::NonFinite { .. },
        )
        | FrameError::Overflow
        | FrameError::MissingRate
        | FrameError::InvalidRate(_) => FailureCode::InvalidFrame,
        FrameError::NotEnoughSamples { .. } => FailureCode::NotEnoughSamples,
        FrameError::Samples(SamplesError::Channels(_))
        | FrameError::Channels { .. }
        | FrameError::SampleRate { .. }
        | FrameError::RateTooLow { .. } => FailureCode::ShapeMismatch,
        FrameError::OutputLength { .. } | FrameError::Config(_) => FailureCode::Internal,
    };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sferic_features::Extractor;

    use super::*;

    fn port(axes: &str) -> Port {
        let axes = axes
            .split(' ')
            .map(|axis| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed))
            .collect();
        Port { name: "x".into(), elements: Elements::Numbers(Dtype::Float32), axes }
    }

    fn features(channels: usize, frames: Option<usize>) -> FeatureConfig {
        FeatureConfig { num_channels: channels, frames, ..FeatureConfig::default() }
    }

    fn input(channels: usize, frames: Option<usize>, axes: &str) -> Result<Input, String> {
        Input::new(&features(channels, frames), &port(axes))
    }

    #[track_caller]
    fn refused(result: Result<Input, String>, parts: &[&str]) {
        let error = result.expect_err("accepted");
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn the_shapes_of_the_contract_are_taken() {
        let free = input(1, None, "B 1 128 T").expect("refused");
        assert_eq!(
            free,
            Input {
                name: "x".into(),
                dtype: Dtype::Float32,
                axes: FeatureAxes::All,
                batch_of_one: false,
                fixed_width: None
            }
        );
        assert_eq!(free.shape(3, [1, 128, 61]), [3, 1, 128, 61]);
        let flat = input(1, None, "B 128 T").expect("refused");
        assert_eq!(flat.shape(3, [1, 128, 61]), [3, 128, 61]);
        let fixed = input(3, None, "1 3 128 32").expect("refused");
        assert!(fixed.batch_of_one && fixed.fixed_width == Some(32));
        assert!(input(3, Some(32), "1 C F 32").is_ok());
        let iq = FeatureConfig { kind: Kind::Iq, ..features(2, None) };
        assert!(Input::new(&iq, &port("B 2 2 N")).is_ok());
    }

    #[test]
    fn power_has_one_value_a_channel() {
        let power = |channels| FeatureConfig { kind: Kind::Power, ..features(channels, Some(4)) };
        let input = Input::new(&power(3), &port("B 3")).expect("refused");
        assert_eq!(input.shape(2, [3, 1, 1]), [2, 3]);
        assert_eq!(input.fits(&power(3), 3, 1, None), Ok(()));
        refused(Input::new(&power(3), &port("B 2")), &["num_channels = 3", "takes 2"]);
        refused(Input::new(&power(1), &port("B 1 1 T")), &["expected float32 [B, 1]"]);
    }

    #[test]
    fn a_signature_has_one_shape_for_frames_of_any_length() {
        let of = |channels| FeatureConfig { kind: Kind::Signature, ..features(channels, Some(4)) };
        for axes in ["B 1 20 512", "B 1 R T", "B 20 512", "1 1 20 512"] {
            let input = Input::new(&of(1), &port(axes)).expect("refused");
            for instants in [64, 8192, 1_000_000] {
                assert_eq!(input.fits(&of(1), 1, instants, None), Ok(()));
                assert_eq!(width(&of(1), instants), signature::COLUMNS);
            }
            assert!(input.fits(&of(1), 1, 63, None).is_err());
        }
        let input = Input::new(&of(2), &port("B 2 20 512")).expect("refused");
        assert_eq!(input.shape(3, [2, 20, 512]), [3, 2, 20, 512]);
        refused(Input::new(&of(1), &port("B 1 20 256")), &["[B, 1, 20, 512]", "takes 256 columns"]);
        refused(Input::new(&of(1), &port("B 1 19 512")), &["rows = 20", "takes 19"]);
        refused(Input::new(&of(2), &port("B 20 512")), &["expected float32 [B, 2, 20, 512]"]);
    }

    #[test]
    fn a_refusal_names_the_input_and_what_was_expected() {
        refused(input(3, None, "B 128 T"), &["`x`, float32 [B, 128, T]", "expected float32 [B, 3, 128, T]"]);
        refused(input(1, None, "B 1 64 T"), &["rows = 128", "takes 64", "or [B, 128, T]"]);
        refused(input(2, None, "B 3 128 T"), &["num_channels = 2", "takes 3"]);
        refused(input(1, Some(32), "B 1 128 61"), &["frames = 32", "takes 61"]);
        refused(input(1, None, "128 T"), &["`x`, float32 [128, T]", "no batch axis", "or [B, 128, T]"]);
        refused(input(2, None, "2 128 T"), &["no batch axis", "float32 [B, 2, 128, T]"]);
        refused(input(1, None, "4 1 128 T"), &["batch axis must be 1, it is 4"]);
        let with = |elements| Input::new(&features(1, None), &Port { elements, ..port("B 1 128 T") });
        refused(
            with(Elements::Numbers(Dtype::Int16)),
            &["int16 [B, 1, 128, T]", "expected float32", "integers would lose"],
        );
        refused(with(Elements::Numbers(Dtype::Bool)), &["bool [B, 1, 128, T]", "expected float32"]);
        refused(with(Elements::Strings), &["string [B, 1, 128, T]", "expected float32"]);
    }

    #[test]
    fn floats_of_every_size_are_taken_and_only_float16_has_a_limit() {
        for dtype in [Dtype::Float64, Dtype::Float16, Dtype::Bfloat16] {
            let port = Port { elements: Elements::Numbers(dtype), ..port("B 1 128 T") };
            let input = Input::new(&features(1, None), &port).expect("refused");
            assert_eq!((input.dtype, input.check_range(&[65_504.0, -65_519.0])), (dtype, Ok(())));
            let failure = input.check_range(&[0.5, -65_520.0]).err();
            assert_eq!(
                failure.as_ref().map(|failure| failure.code),
                (dtype == Dtype::Float16).then_some(FailureCode::InvalidFrame)
            );
            assert!(
                failure.is_none_or(|failure| ["65520", "65504"]
                    .iter()
                    .all(|part| failure.message.contains(part)))
            );
        }
    }

    #[test]
    fn a_file_that_accepts_fewer_than_min_samples_is_refused() {
        let iq = |min_samples| FeatureConfig { kind: Kind::Iq, min_samples, ..features(1, None) };
        let new = |config: &FeatureConfig, axes| Input::new(config, &port(axes));
        refused(new(&iq(None), "B 2 8"), &["min_samples = 16", "takes 8", "set a smaller min_samples"]);
        assert!(new(&iq(Some(8)), "B 2 8").is_ok() && new(&iq(None), "B 2 16").is_ok());
        refused(
            new(&FeatureConfig { min_samples: Some(2048), ..features(1, None) }, "B 128 2"),
            &["min_samples = 2048", "5 columns"],
        );
    }

    #[test]
    fn a_frame_is_checked_before_its_features() {
        let features = FeatureConfig { sample_rate_hz: Some(192_000.0), ..features(1, None) };
        let input = Input::new(&features, &port("1 1 128 61")).expect("refused");
        let fits = |channels, instants, rate| {
            let failure = input.fits(&features, channels, instants, rate).expect_err("taken");
            (failure.code, failure.message)
        };
        assert_eq!(input.fits(&features, 1, 16_384, Some(192_001.0)), Ok(()));
        assert_eq!(
            fits(2, 16_384, Some(192e3)),
            (FailureCode::ShapeMismatch, "2 channels, the model takes 1".into())
        );
        assert_eq!(fits(1, 16_384, Some(48e3)).0, FailureCode::ShapeMismatch);
        assert_eq!(fits(1, 16_384, None).0, FailureCode::InvalidFrame);
        assert_eq!(
            fits(1, 1023, Some(192e3)),
            (FailureCode::NotEnoughSamples, "1023 samples, at least 1024 needed".into())
        );
        let wide = "20000 samples give features 75 wide, the model takes 61";
        assert_eq!(fits(1, 20_000, Some(192e3)), (FailureCode::ShapeMismatch, wide.into()));
    }

    proptest! {
        #[test]
        fn the_width_is_that_of_the_extractor(
            instants in 64..5000usize,
            n_fft in 16..64usize,
            hop in 1..100usize,
            center in any::<bool>(),
            kind in prop::sample::select(vec![Kind::Iq, Kind::LogSpectrum]),
            frames in prop::option::of(1..50usize),
        ) {
            let hop_length = Some(hop);
            let default = FeatureConfig::default();
            let features = FeatureConfig { kind, n_fft, hop_length, center, frames, ..default };
            let extractor = Extractor::new(&features, None).expect("config");
            let [_, _, columns] = extractor.shape(instants).expect("long enough");
            prop_assert_eq!(width(&features, instants), columns);
            let fewest = FeatureConfig { min_samples: Some(instants), ..features };
            prop_assert!(Extractor::new(&fewest, None).expect("config").shape(instants - 1).is_err());
        }
    }
}
