//! Converts the outputs of a model to an answer.

mod classification;
mod ellipse;
mod failed;
mod geodesy;
mod localization;

use std::sync::Arc;

use classification::Classifier;
pub use ellipse::{CONFIDENCE_INTERVAL, ellipse_scale};
use failed::failed;
pub use geodesy::from_origin;
use localization::Localizer;
use sferic_actors::outcome::{Answer, Failure, FailureCode, NamedTensor};
use sferic_actors::tensor::Dtype;

use super::output_section::OutputConfig;
use super::port::{Axis, Elements, Port};
use super::values::{Output, Reading, Values};

/// The head of a bundle, checked against the ONNX file.
#[derive(Debug, Clone)]
pub struct Head {
    kind: HeadKind,
    outputs: Vec<Wanted>,
    batch_of_one: bool,
}

#[derive(Debug, Clone)]
enum HeadKind {
    Localization {
        localizer: Localizer,
        /// Place of the confidence among the outputs.
        confidence_at: Option<usize>,
        /// Place of the residual among the outputs, and its bound.
        residual: Option<(usize, f64)>,
    },
    Classification(Classifier),
    Tensors,
}

/// An output the head reads.
#[derive(Debug, Clone)]
struct Wanted {
    name: Arc<str>,
    reading: Reading,
    /// For numbers `[B, width]` that are read as float32: the widths it may have.
    widths: Vec<usize>,
}

impl Head {
    /// Finds the outputs that `config` names among `ports`, those of the ONNX file.
    ///
    /// # Errors
    /// In words: the output, what it is, and what was expected.
    pub fn new(config: &OutputConfig, ports: &[Port]) -> Result<Self, String> {
        let named =
            |name: &str, widths: Vec<usize>| Wanted { name: name.into(), reading: Reading::Floats, widths };
        let declared = |name: &str| {
            ports.iter().find(|port| port.name == name).ok_or_else(|| {
                let names: Vec<_> = ports.iter().map(|port| format!("`{}`", port.name)).collect();
                format!("[output] names `{name}`, model.onnx has no such output; it has {}", names.join(", "))
            })
        };
        let (kind, outputs) = match config {
            OutputConfig::Localization {
                position,
                origin,
                uncertainty,
                uncertainty_units,
                uncertainty_scale,
                confidence,
                residual,
                calibration,
            } => {
                let mut outputs = vec![named(position, vec![2]), named(uncertainty, vec![2, 3])];
                outputs.extend(confidence.as_deref().map(|name| named(name, vec![1])));
                outputs.extend(residual.as_ref().map(|residual| named(&residual.name, vec![1])));
                let confidence_at = confidence.as_ref().map(|_| 2);
                let residual = residual.as_ref().map(|residual| (outputs.len() - 1, residual.max));
                let (units, scale, confidence_interval) =
                    (*uncertainty_units, *uncertainty_scale, CONFIDENCE_INTERVAL);
                let calibration = calibration.clone().map(Arc::new);
                let localizer = Localizer { origin: *origin, units, scale, confidence_interval, calibration };
                (HeadKind::Localization { localizer, confidence_at, residual }, outputs)
            }
            OutputConfig::Classification { logits, activation, labels, top_k } => {
                let reading = classification::reading(declared(logits)?, labels.len());
                let classifier = Classifier::new(reading, *activation, labels, *top_k);
                (
                    HeadKind::Classification(classifier),
                    vec![Wanted { reading, ..named(logits, vec![labels.len()]) }],
                )
            }
            OutputConfig::Tensors => {
                let as_is = |port: &Port| Wanted { reading: Reading::AsIs, ..named(&port.name, Vec::new()) };
                (HeadKind::Tensors, ports.iter().map(as_is).collect())
            }
        };
        let mut batch_of_one = false;
        for wanted in &outputs {
            let port = declared(&wanted.name)?;
            wanted.declared(port)?;
            batch_of_one |= port.axes.first() == Some(&Axis::Fixed(1));
        }
        Ok(Self { kind, outputs, batch_of_one })
    }

    /// The head of frames that want the raw outputs: all numbers that have a batch axis.
    pub fn raw(ports: &[Port]) -> Self {
        let as_is = |port: &Port| Wanted {
            name: port.name.as_str().into(),
            reading: Reading::AsIs,
            widths: Vec::new(),
        };
        let outputs: Vec<_> = ports
            .iter()
            .map(|port| (as_is(port), port))
            .filter_map(|(wanted, port)| wanted.declared(port).is_ok().then_some(wanted))
            .collect();
        Self { kind: HeadKind::Tensors, outputs, batch_of_one: false }
    }

    /// Whether its answers are the raw outputs.
    pub fn is_raw(&self) -> bool {
        matches!(self.kind, HeadKind::Tensors)
    }

    /// The same head with another probability for its ellipses, above 0 and below 1.
    #[must_use]
    pub fn with_confidence_interval(mut self, confidence_interval: f64) -> Self {
        if let HeadKind::Localization { localizer, .. } = &mut self.kind {
            localizer.confidence_interval = confidence_interval;
        }
        self
    }

    /// Names and readings of its outputs, in the order in which [`check`](Self::check) and
    /// [`answer`](Self::answer) take them.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, Reading)> {
        self.outputs.iter().map(|wanted| (&*wanted.name, wanted.reading))
    }

    /// Whether the ONNX file declares one of its outputs for a single frame only.
    pub fn batch_of_one(&self) -> bool {
        self.batch_of_one
    }

    /// Checks the outputs of a run of `batch` frames; free axes have a length only here.
    ///
    /// # Errors
    /// In words: the output, its type and shape, and what was expected.
    pub fn check(&self, outputs: &[Output<'_>], batch: usize) -> Result<(), String> {
        self.outputs.iter().zip(outputs).try_for_each(|(wanted, output)| wanted.came(output, batch))?;
        let (HeadKind::Classification(classifier), [Output { values: Values::ScoreMaps(maps), .. }, ..]) =
            (&self.kind, outputs)
        else {
            return Ok(());
        };
        maps.iter()
            .try_for_each(|map| classifier.in_order(map).map(drop))
            .map_err(|error| self.of_first(&error))
    }

    /// The answer for one frame of a batch that [`check`](Self::check) has passed.
    ///
    /// # Errors
    /// `inference_failed` for a value that is no answer: not finite, or outside what it stands for.
    pub fn answer(&self, outputs: &[Output<'_>], frame: usize) -> Result<Answer, Failure> {
        self.check_residual(outputs, frame)?;
        for (wanted, output) in self.measures().zip(outputs) {
            if let Some(index) = output.frame(frame).first_non_finite() {
                return Err(failed(format!("output `{}` is not finite at element {index}", wanted.name)));
            }
        }
        let floats = |index: usize| outputs.get(index).map(|output| output.floats(frame));
        match &self.kind {
            HeadKind::Localization { localizer, confidence_at, .. } => {
                let [position, uncertainty] = [0, 1].map(|at| floats(at).unwrap_or_default());
                localizer
                    .answer(position, uncertainty, confidence_at.and_then(floats))
                    .map(Answer::Localization)
            }
            HeadKind::Classification(classifier) => {
                let values = outputs.first().map_or(Values::Floats(&[]), |output| output.frame(frame));
                classifier
                    .answer(values)
                    .map(Answer::Classification)
                    .map_err(|error| failed(self.of_first(&error)))
            }
            HeadKind::Tensors => Ok(Answer::Tensors(
                self.outputs
                    .iter()
                    .zip(outputs)
                    .map(|(wanted, output)| named_tensor(&wanted.name, output, frame))
                    .collect(),
            )),
        }
    }

    /// The outputs that an answer is made of: all but the residual, which is the last.
    fn measures(&self) -> impl Iterator<Item = &Wanted> {
        let residual = match &self.kind {
            HeadKind::Localization { residual: Some((at, _)), .. } => *at,
            _ => self.outputs.len(),
        };
        self.outputs.iter().take(residual)
    }

    /// Whether what the receivers measured agrees. NaN without redundancy: no check.
    fn check_residual(&self, outputs: &[Output<'_>], frame: usize) -> Result<(), Failure> {
        let HeadKind::Localization { residual: Some((at, max)), .. } = self.kind else { return Ok(()) };
        let value = outputs.get(at).and_then(|output| output.floats(frame).first().copied());
        match value.map(f64::from) {
            Some(value) if value > max => {
                let message = format!("what the receivers measured leaves a residual of {value}, over {max}");
                Err(Failure::new(FailureCode::InconsistentMeasurements, message))
            }
            _ => Ok(()),
        }
    }

    fn of_first(&self, error: &str) -> String {
        let name = self.outputs.first().map(|wanted| &*wanted.name).unwrap_or_default();
        format!("output `{name}` {error}")
    }

    /// Rebinds an answer from elsewhere to the names of this head; `None` where it cannot be one of its
    /// answers.
    pub fn rebind(&self, answer: Answer) -> Option<Answer> {
        match (&self.kind, answer) {
            (HeadKind::Localization { localizer, .. }, Answer::Localization(place)) => {
                localizer.could_have_said(&place).then_some(Answer::Localization(place))
            }
            (HeadKind::Classification(classifier), Answer::Classification(labels)) => {
                classifier.rebind(labels).map(Answer::Classification)
            }
            (HeadKind::Tensors, Answer::Tensors(tensors)) if tensors.len() == self.outputs.len() => {
                let own = |(wanted, tensor): (&Wanted, NamedTensor)| {
                    (wanted.name == tensor.name)
                        .then(|| NamedTensor { name: Arc::clone(&wanted.name), ..tensor })
                };
                self.outputs.iter().zip(tensors).map(own).collect::<Option<_>>().map(Answer::Tensors)
            }
            (HeadKind::Localization { .. } | HeadKind::Classification(_) | HeadKind::Tensors, _) => None,
        }
    }
}

impl Wanted {
    fn declared(&self, port: &Port) -> Result<(), String> {
        let batch_first = matches!(port.axes.first(), Some(Axis::Free(_) | Axis::Fixed(1)));
        let width = |axis: &Axis| match axis {
            Axis::Fixed(width) => self.widths.contains(width),
            Axis::Free(_) => true,
        };
        let fits = match (self.reading, port.elements) {
            (Reading::AsIs, Elements::Numbers(_)) | (Reading::Classes, _) => batch_first,
            (Reading::Floats, Elements::Numbers(dtype)) => {
                dtype != Dtype::Bool && port.axes.len() == 2 && batch_first && width(&port.axes[1])
            }
            (Reading::ScoreMaps, Elements::ScoreMaps) => true,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("output {port}, expected {}", self.expected("B"))) }
    }

    fn came(&self, output: &Output<'_>, batch: usize) -> Result<(), String> {
        let batch_first = output.shape.first() == Some(&batch);
        let fits = match (self.reading, output.values) {
            (Reading::AsIs, _) => batch_first,
            (Reading::Floats, Values::Floats(_)) => {
                output.shape.len() == 2 && batch_first && self.widths.contains(&output.shape[1])
            }
            (Reading::Classes, Values::Classes(_)) => batch_first && matches!(output.shape, [_] | [_, 1]),
            (Reading::ScoreMaps, Values::ScoreMaps(_)) => output.shape.len() == 1 && batch_first,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let expected = self.expected(&batch.to_string());
        Err(format!(
            "output `{}` came as {} {:?}, expected {expected}",
            self.name,
            output.type_name(),
            output.shape
        ))
    }

    fn expected(&self, batch: &str) -> String {
        match self.reading {
            Reading::Floats => {
                let shapes: Vec<_> = self.widths.iter().map(|width| format!("[{batch}, {width}]")).collect();
                format!("float32 {}", shapes.join(" or "))
            }
            Reading::Classes => format!("one label a frame, [{batch}] or [{batch}, 1]"),
            Reading::ScoreMaps => format!("one map a frame, [{batch}]"),
            Reading::AsIs => format!("a tensor of numbers with the batch axis first, [{batch}, …]"),
        }
    }
}

fn named_tensor(name: &Arc<str>, output: &Output<'_>, frame: usize) -> NamedTensor {
    let shape = std::iter::once(1).chain(output.shape.iter().skip(1).copied()).collect();
    NamedTensor {
        name: Arc::clone(name),
        shape,
        dtype: output.type_name(),
        data: output.frame(frame).to_bytes(),
    }
}

#[cfg(test)]
mod tests;
