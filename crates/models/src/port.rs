//! Inputs and outputs declared by an ONNX file, without types of `ort`.

use std::fmt;

use sferic_actors::tensor::Dtype;

/// Element type of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// A tensor of numbers or truth values.
    Numbers(Dtype),
    /// A tensor of strings.
    Strings,
    /// For each frame a map from class to float32 score, as scikit-learn's exporter writes it (`ZipMap`).
    ScoreMaps,
    /// Anything else.
    Unsupported,
}

/// One axis of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Always this long.
    Fixed(usize),
    /// Free: as long as the data. The name in the ONNX file, which may be empty.
    Free(String),
}

/// A declared input or output of an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub elements: Elements,
    /// Its axes; none for what is no tensor.
    pub axes: Vec<Axis>,
}

impl Port {
    /// Whether this output of a file has one shape for each shape of the `inputs`: each of its axes is fixed
    /// or is one of theirs. In ONNX, axes of one name have one length; an axis without a name may have
    /// any.
    pub fn is_shaped_by(&self, inputs: &[&Self]) -> bool {
        let is_of_input = |axis: &Axis| {
            matches!(axis, Axis::Fixed(_))
                || *axis != Axis::Free(String::new()) && inputs.iter().any(|input| input.axes.contains(axis))
        };
        self.axes.iter().all(is_of_input)
    }
}

impl fmt::Display for Port {
    /// ``` `position`, float32 [B, 2] ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements = match self.elements {
            Elements::Numbers(dtype) => dtype.name(),
            Elements::Strings => "string",
            Elements::ScoreMaps => {
                return write!(f, "`{}`, a sequence of maps from class to score", self.name);
            }
            Elements::Unsupported => "an unsupported type",
        };
        write!(f, "`{}`, {elements} [", self.name)?;
        for (index, axis) in self.axes.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match axis {
                Axis::Fixed(length) => write!(f, "{length}")?,
                Axis::Free(name) => f.write_str(if name.is_empty() { "?" } else { name })?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_shaped_by_an_input_that_has_all_its_free_axes() {
        let port = |axes: &[&str]| Port {
            name: "x".into(),
            elements: Elements::Unsupported,
            axes: axes
                .iter()
                .map(|axis| axis.parse().map_or_else(|_| Axis::Free((*axis).into()), Axis::Fixed))
                .collect(),
        };
        let input = port(&["B", "1", "", "T"]);
        assert!(port(&["B", "2"]).is_shaped_by(&[&input]) && port(&["B", "T", "7"]).is_shaped_by(&[&input]));
        assert!(!port(&["B", "P"]).is_shaped_by(&[&input]));
        assert!(!port(&["B", ""]).is_shaped_by(&[&input]), "an axis without a name may be any");
    }

    #[test]
    fn ports_read_as_in_the_file() {
        let axes = vec![Axis::Free("B".into()), Axis::Fixed(2), Axis::Free(String::new())];
        let port = Port { name: "position".into(), elements: Elements::Numbers(Dtype::Float32), axes };
        assert_eq!(port.to_string(), "`position`, float32 [B, 2, ?]");
        assert_eq!(
            Port { elements: Elements::Strings, ..port.clone() }.to_string(),
            "`position`, string [B, 2, ?]"
        );
        let maps = Port { elements: Elements::ScoreMaps, axes: Vec::new(), ..port };
        assert_eq!(maps.to_string(), "`position`, a sequence of maps from class to score");
    }
}
