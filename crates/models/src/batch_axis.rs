//! Whether an ONNX file has a batch axis.

use sferic_features::Kind;

use super::input_section::{InputConfig, InputSource, TensorConfig};
use super::port::{Axis, Elements, Port};

/// Whether the inputs of a file lack the batch axis, by the ranks that `configs` say. Such a file is one with
/// a batch axis of 1 that its session takes off the inputs and puts before the outputs.
///
/// # Errors
/// One input has it, and another one lacks it; names both.
pub fn lacks_batch_axis(configs: &[InputConfig], inputs: &[Port], outputs: &[Port]) -> Result<bool, String> {
    let mut decided: Option<(&Port, bool)> = None;
    let mut is_open = false;
    for config in configs {
        let found = match &config.name {
            Some(name) => inputs.iter().find(|port| port.name == *name),
            None => inputs.first(),
        };
        let Some(port) = found else { continue };
        match (lacks(config, port), decided) {
            (None, _) => is_open = true,
            (Some(lacks), Some((other, others))) if lacks != others => {
                let (with, without) = if lacks { (other, port) } else { (port, other) };
                return Err(format!("the input {without} has no batch axis, the input {with} has one"));
            }
            (Some(lacks), _) => decided = Some((port, lacks)),
        }
    }
    // After a batch axis of 1, outputs begin with 1 too.
    let begins_otherwise = |port: &Port| match port.axes.first() {
        Some(Axis::Fixed(length)) => *length != 1,
        Some(Axis::Free(_)) => false,
        None => matches!(port.elements, Elements::Numbers(_) | Elements::Strings),
    };
    Ok(match decided {
        Some((_, lacks)) => lacks,
        None => is_open && outputs.iter().any(begins_otherwise),
    })
}

/// Whether an input lacks it; `None` where `[1, rows, columns]` may be a batch of one or a channel.
fn lacks(config: &InputConfig, port: &Port) -> Option<bool> {
    let rank = port.axes.len();
    match &config.source {
        InputSource::Tensor(TensorConfig { shape, .. }) => Some(rank == shape.len()),
        // A gathered model has it: without one, receivers and batch could be taken for each other.
        InputSource::Gathered(_) => Some(false),
        InputSource::Features(features) => match (&features.kind, rank) {
            (Kind::Power, _) => Some(rank == 1),
            (_, 3) if features.num_channels > 1 => Some(true),
            (_, 3) if port.axes.first() == Some(&Axis::Fixed(1)) => None,
            // One channel may go without its axis.
            _ => Some(rank == 2 && features.num_channels == 1),
        },
    }
}

#[cfg(test)]
mod tests {
    use sferic_actors::tensor::Dtype;
    use sferic_features::FeatureConfig;

    use super::*;

    fn port(name: &str, axes: &str) -> Port {
        let axis = |axis: &str| axis.parse().map_or_else(|_| Axis::Free(axis.into()), Axis::Fixed);
        let axes = axes.split_whitespace().map(axis).collect();
        Port { name: name.into(), elements: Elements::Numbers(Dtype::Float32), axes }
    }

    fn computed(kind: Kind, num_channels: usize) -> InputConfig {
        let features = FeatureConfig { kind, num_channels, ..FeatureConfig::default() };
        InputConfig { name: Some("x".into()), source: InputSource::Features(features) }
    }

    fn tensor(shape: &[usize]) -> InputConfig {
        let source = InputSource::Tensor(TensorConfig::new(shape.into(), None));
        InputConfig { name: Some("t".into()), source }
    }

    #[test]
    fn the_ranks_tell() {
        for (config, axes, output, expected) in [
            (computed(Kind::LogMel, 1), "B 1 128 T", "B 2", false),
            (computed(Kind::LogMel, 1), "B 128 T", "B 2", false),
            (computed(Kind::LogMel, 1), "128 T", "2", true),
            (computed(Kind::LogMel, 3), "3 128 T", "2", true),
            (computed(Kind::LogMel, 3), "1 3 128 T", "1 2", false),
            (computed(Kind::Iq, 1), "1 2 N", "1 2", false),
            (computed(Kind::Iq, 1), "1 2 N", "2", true),
            (computed(Kind::Iq, 1), "1 2 N", "", true),
            (computed(Kind::Signature, 1), "B 20 512", "B 2", false),
            (computed(Kind::Signature, 1), "20 512", "2", true),
            (computed(Kind::Power, 4), "4", "2", true),
            (computed(Kind::Power, 4), "B 4", "B 2", false),
        ] {
            let lacks = lacks_batch_axis(&[config], &[port("x", axes)], &[port("y", output)]);
            assert_eq!(lacks, Ok(expected), "[{axes}] -> [{output}]");
        }
        let (with, without) = (port("t", "B 3"), port("t", "3"));
        for (port, expected) in [(with, false), (without, true)] {
            assert_eq!(lacks_batch_axis(&[tensor(&[3])], &[port], &[]), Ok(expected));
        }
    }

    #[test]
    fn all_inputs_agree() {
        let configs = [computed(Kind::LogMel, 1), tensor(&[3])];
        let error =
            lacks_batch_axis(&configs, &[port("x", "128 T"), port("t", "B 3")], &[]).expect_err("both");
        assert!(error.contains("`x`, float32 [128, T] has no batch axis, the input `t`"), "{error}");
        assert_eq!(lacks_batch_axis(&configs, &[port("x", "128 T"), port("t", "3")], &[]), Ok(true));
    }
}
