//! From a model's outputs to an answer.

mod classification;
mod ellipse;
mod geodesy;
mod localization;

use std::sync::Arc;

use classification::Classifier;
pub use ellipse::{CONFIDENCE_INTERVAL, ellipse_scale};
use localization::Localizer;
use sferic_actors::outcome::{Answer, Failure, FailureCode, NamedTensor};

use super::output_section::OutputConfig;
use super::port::{Axis, Dtype, Output, Port};

/// What a bundle's outputs mean, checked against the ONNX file.
#[derive(Debug, Clone)]
pub struct Head {
    kind: Kind,
    outputs: Vec<Wanted>,
    batch_of_one: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Localization(Localizer),
    Classification(Classifier),
    Tensors,
}

/// An output the head reads.
#[derive(Debug, Clone)]
struct Wanted {
    name: Arc<str>,
    /// For float32 `[B, width]`: the widths it may have. `None`: any type and shape with the batch axis first.
    widths: Option<Vec<usize>>,
}

impl Head {
    /// Finds the outputs that `config` names among `ports`, those of the ONNX file.
    ///
    /// # Errors
    /// In words: the output, what it is, and what was expected.
    pub fn new(config: &OutputConfig, ports: &[Port]) -> Result<Self, String> {
        let named = |name: &str, widths: Vec<usize>| Wanted { name: name.into(), widths: Some(widths) };
        let (kind, outputs) = match config {
            OutputConfig::Localization { position, origin, uncertainty, uncertainty_units, uncertainty_scale, confidence } => {
                let mut outputs = vec![named(position, vec![2]), named(uncertainty, vec![2, 3])];
                outputs.extend(confidence.as_deref().map(|name| named(name, vec![1])));
                let (units, scale, confidence_interval) = (*uncertainty_units, *uncertainty_scale, CONFIDENCE_INTERVAL);
                let localizer = Localizer { origin: *origin, units, scale, confidence_interval };
                (Kind::Localization(localizer), outputs)
            }
            OutputConfig::Classification { logits, activation, labels, top_k } => {
                let classifier = Classifier {
                    activation: *activation,
                    labels: labels.iter().map(|label| label.as_str().into()).collect(),
                    top_k: *top_k,
                };
                (Kind::Classification(classifier), vec![named(logits, vec![labels.len()])])
            }
            OutputConfig::Tensors => {
                (Kind::Tensors, ports.iter().map(|port| Wanted { name: port.name.as_str().into(), widths: None }).collect())
            }
        };
        let mut batch_of_one = false;
        for wanted in &outputs {
            let port = ports.iter().find(|port| *port.name == *wanted.name).ok_or_else(|| {
                let names: Vec<_> = ports.iter().map(|port| format!("`{}`", port.name)).collect();
                format!("[output] names `{}`, model.onnx has no such output; it has {}", wanted.name, names.join(", "))
            })?;
            wanted.declared(port)?;
            batch_of_one |= port.axes.first() == Some(&Axis::Fixed(1));
        }
        Ok(Self { kind, outputs, batch_of_one })
    }

    /// The same with another probability for its ellipses to cover, above 0 and below 1.
    #[must_use]
    pub fn with_confidence_interval(mut self, confidence_interval: f64) -> Self {
        if let Kind::Localization(localizer) = &mut self.kind {
            localizer.confidence_interval = confidence_interval;
        }
        self
    }

    /// Names of the outputs it reads, in the order [`check`](Self::check) and [`answer`](Self::answer) take them.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|wanted| &*wanted.name)
    }

    /// Whether the ONNX file declares one of its outputs for one frame only.
    pub fn batch_of_one(&self) -> bool {
        self.batch_of_one
    }

    /// Checks what a run of `batch` frames gave; free axes show what they are only here.
    ///
    /// # Errors
    /// In words: the output, its type and shape, and what was expected.
    pub fn check(&self, outputs: &[Output<'_>], batch: usize) -> Result<(), String> {
        self.outputs.iter().zip(outputs).try_for_each(|(wanted, output)| wanted.came(output, batch))
    }

    /// The answer for one frame of a batch that [`check`](Self::check) has passed.
    ///
    /// # Errors
    /// [`FailureCode::InferenceFailed`] for a value that is no answer: not finite, or outside what it stands for.
    pub fn answer(&self, outputs: &[Output<'_>], frame: usize) -> Result<Answer, Failure> {
        for (wanted, output) in self.outputs.iter().zip(outputs) {
            if let Some(index) = output.frame(frame).first_non_finite() {
                return Err(failed(format!("output `{}` is not finite at element {index}", wanted.name)));
            }
        }
        let floats = |index: usize| outputs.get(index).map(|output| output.floats(frame));
        match &self.kind {
            Kind::Localization(localizer) => {
                localizer.answer(floats(0).unwrap_or_default(), floats(1).unwrap_or_default(), floats(2)).map(Answer::Localization)
            }
            Kind::Classification(classifier) => Ok(Answer::Classification(classifier.answer(floats(0).unwrap_or_default()))),
            Kind::Tensors => Ok(Answer::Tensors(
                self.outputs.iter().zip(outputs).map(|(wanted, output)| named_tensor(&wanted.name, output, frame)).collect(),
            )),
        }
    }

    /// An answer that came from elsewhere, as one of this head's with its own names; `None` where it can be none.
    pub fn recognise(&self, answer: Answer) -> Option<Answer> {
        match (&self.kind, answer) {
            (Kind::Localization(localizer), Answer::Localization(place)) => {
                localizer.could_have_said(&place).then_some(Answer::Localization(place))
            }
            (Kind::Classification(classifier), Answer::Classification(labels)) => classifier.recognise(labels).map(Answer::Classification),
            (Kind::Tensors, Answer::Tensors(tensors)) if tensors.len() == self.outputs.len() => {
                let own = |(wanted, tensor): (&Wanted, NamedTensor)| {
                    (wanted.name == tensor.name).then(|| NamedTensor { name: Arc::clone(&wanted.name), ..tensor })
                };
                self.outputs.iter().zip(tensors).map(own).collect::<Option<_>>().map(Answer::Tensors)
            }
            _ => None,
        }
    }
}

impl Wanted {
    fn declared(&self, port: &Port) -> Result<(), String> {
        let batch_first = matches!(port.axes.first(), Some(Axis::Free(_) | Axis::Fixed(1)));
        let width = |axis: &Axis| match axis {
            Axis::Fixed(width) => self.widths.iter().flatten().any(|wanted| wanted == width),
            Axis::Free(_) => true,
        };
        let fits = match &self.widths {
            Some(_) => port.dtype == Some(Dtype::Float32) && port.axes.len() == 2 && batch_first && width(&port.axes[1]),
            None => port.dtype.is_some() && batch_first,
        };
        if fits { Ok(()) } else { Err(format!("output {port}, expected {}", self.expected("B"))) }
    }

    fn came(&self, output: &Output<'_>, batch: usize) -> Result<(), String> {
        let batch_first = output.shape.first() == Some(&batch);
        let fits = match &self.widths {
            Some(widths) => output.dtype() == Dtype::Float32 && output.shape.len() == 2 && batch_first && widths.contains(&output.shape[1]),
            None => batch_first,
        };
        if fits {
            return Ok(());
        }
        let expected = self.expected(&batch.to_string());
        Err(format!("output `{}` came as {} {:?}, expected {expected}", self.name, output.dtype().name(), output.shape))
    }

    fn expected(&self, batch: &str) -> String {
        match &self.widths {
            Some(widths) => {
                let shapes: Vec<_> = widths.iter().map(|width| format!("[{batch}, {width}]")).collect();
                format!("float32 {}", shapes.join(" or "))
            }
            None => format!("a tensor of numbers with the batch axis first, [{batch}, …]"),
        }
    }
}

fn named_tensor(name: &Arc<str>, output: &Output<'_>, frame: usize) -> NamedTensor {
    let shape = std::iter::once(1).chain(output.shape.iter().skip(1).copied()).collect();
    NamedTensor { name: Arc::clone(name), shape, dtype: output.dtype().name(), data: output.frame(frame).to_bytes() }
}

fn failed(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InferenceFailed, message)
}

#[cfg(test)]
mod tests;
