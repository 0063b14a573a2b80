//! The inputs of a bundle that are computed from samples.

use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use sferic_features::{Extractor, FeatureConfig, FrameError};
use sferic_samples::Samples;

use crate::npy::NpyWriter;

/// Names and features of a bundle's inputs.
pub struct Inputs(Vec<(String, FeatureConfig)>);

/// Plans of all inputs.
pub struct Extractors(Vec<Extractor>);

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    features: FeatureConfig,
    #[serde(default)]
    inputs: Vec<toml::Table>,
}

impl Inputs {
    /// Of `[features]`, which is one input `features`, or of `[[inputs]]`.
    pub fn read(model_toml: &Path) -> anyhow::Result<Self> {
        let at = || format!("read {}", model_toml.display());
        let text = std::fs::read_to_string(model_toml).with_context(at)?;
        let Bundle { features, inputs } = toml::from_str(&text).with_context(at)?;
        let mut all = Vec::new();
        for mut input in inputs {
            let name = input.remove("name").context("an input has no name").with_context(at)?;
            let name = name.as_str().context("a name is no string").with_context(at)?.to_owned();
            all.push((name, input.try_into::<FeatureConfig>().with_context(at)?));
        }
        if all.is_empty() {
            all.push(("features".to_owned(), features));
        }
        for (_, config) in &all {
            config.validate()?;
            ensure!(config.num_channels == all[0].1.num_channels, "the inputs differ in channels");
        }
        Ok(Self(all))
    }

    /// Channels of every frame.
    pub fn channels(&self) -> usize {
        self.0.first().map_or(1, |(_, config)| config.num_channels)
    }

    /// Plans for frames of a rate, Hz.
    pub fn extractors(&self, rate_hz: Option<f64>) -> anyhow::Result<Extractors> {
        let plans = self.0.iter().map(|(_, config)| Ok(Extractor::new(config, rate_hz)?));
        plans.collect::<anyhow::Result<_>>().map(Extractors)
    }

    /// Makes a file `<name>.npy` for each input of `count` frames of `instants` samples a channel.
    pub fn create(
        &self,
        out: &Path,
        count: usize,
        instants: usize,
        rate_hz: Option<f64>,
    ) -> anyhow::Result<Vec<NpyWriter>> {
        let extractors = self.extractors(rate_hz)?;
        let files = self.0.iter().zip(&extractors.0).map(|((name, _), extractor)| {
            let shape = extractor.shape(instants)?;
            let path = out.join(format!("{name}.npy"));
            NpyWriter::create(&path, &[count, shape[0], shape[1], shape[2]])
        });
        files.collect()
    }
}

impl Extractors {
    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends the inputs of a frame, each to its values.
    pub fn extract(&mut self, samples: &Samples<'_>, values: &mut [Vec<f32>]) -> Result<(), FrameError> {
        for (extractor, values) in self.0.iter_mut().zip(values) {
            let begin = values.len();
            let size = extractor.shape(samples.len())?.iter().product::<usize>();
            values.resize(begin + size, 0.0);
            extractor.extract(samples, &mut values[begin..])?;
        }
        Ok(())
    }
}
