//! Requests of the Open Inference Protocol: the input of a model as a binary tensor.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sferic_features::FeatureConfig;
use sferic_models::width;

/// The input of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct OipInput {
    name: String,
    /// With the batch, of one.
    shape: Vec<usize>,
}

impl OipInput {
    /// The input of this model, as the daemon describes it, as long as the features of so many samples.
    ///
    /// # Errors
    /// It is not made of float32, or has an axis of a length that nothing tells.
    pub fn new(model: &Value, samples: usize) -> anyhow::Result<Self> {
        let input = &model["inputs"][0];
        let name = input["name"].as_str().context("the model has no input")?;
        ensure!(input["dtype"] == "float32", "{name} is {}, --protocol oip sends float32", input["dtype"]);
        let features: FeatureConfig = serde_json::from_value(model["features"].clone())?;
        let needed = features.min_samples();
        ensure!(samples >= needed, "--samples is {samples}, {} takes {needed} or more", model["model"]);
        let axes = input["shape"].as_array().context("the model's input has no shape")?;
        let shape = axes.iter().enumerate().map(|(n, axis)| match (n, axis.as_u64()) {
            (0, _) => Ok(1),
            (_, Some(length)) => Ok(usize::try_from(length)?),
            // Behind the batch only the width is free in a model that takes features.
            (last, None) if last + 1 == axes.len() => Ok(width(&features, samples)),
            (n, None) => anyhow::bail!("axis {n} of {name} is {axis}, which has no length"),
        });
        Ok(Self { name: name.to_owned(), shape: shape.collect::<anyhow::Result<_>>()? })
    }

    /// Numbers of the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The JSON of a request, behind which the tensor follows.
    pub fn json(&self, id: &str, timeout_ms: u64) -> String {
        let bytes = self.elements() * size_of::<f32>();
        let input = json!({
            "name": self.name, "shape": self.shape, "datatype": "FP32",
            "parameters": {"binary_data_size": bytes},
        });
        let parameters = json!({"binary_data_output": true, "timeout": timeout_ms * 1000});
        json!({"id": id, "parameters": parameters, "inputs": [input]}).to_string()
    }

    /// Name and shape, as perf_analyzer's `--shape` has them.
    pub fn text(&self) -> String {
        let axes: Vec<_> = self.shape[1..].iter().map(ToString::to_string).collect();
        format!("{}:{}", self.name, axes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(shape: Value, features: Value) -> Value {
        let input = json!({"name": "x", "dtype": "float32", "shape": shape});
        json!({"model": "m", "inputs": [input], "features": features})
    }

    #[test]
    fn the_free_axis_is_as_wide_as_the_features() {
        let mel = json!({"kind": "log_mel", "n_fft": 1024, "hop_length": 256});
        let input = OipInput::new(&model(json!(["batch", 1, 128, "time"]), mel.clone()), 16_384).unwrap();
        assert_eq!((input.text().as_str(), input.elements()), ("x:1,128,61", 128 * 61));
        let iq = json!({"kind": "iq"});
        let input = OipInput::new(&model(json!(["batch", 1, 2, "time"]), iq), 100).unwrap();
        assert_eq!(input.text(), "x:1,2,100");
        let error = OipInput::new(&model(json!(["batch", 1, "bands", "time"]), mel.clone()), 16_384);
        assert!(error.unwrap_err().to_string().contains("axis 2"));
        let error = OipInput::new(&model(json!(["batch", 1, 128, "time"]), mel), 100).unwrap_err();
        assert!(error.to_string().contains("100"), "{error}");
    }
}
