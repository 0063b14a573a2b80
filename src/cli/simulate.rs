//! `sferic simulate`: the simulated scene on disk.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use sferic_recording::{Annotation, SigmfWriter};
use sferic_samples::{Datatype, Geolocation};
use sferic_scene::scene::{FREQUENCY_HZ, INSTANTS, NOISE_POWER, SAMPLE_RATE_HZ};
use sferic_scene::{ORIGIN, RECEIVERS, Scene, SceneSimulator};

use super::output::Output;

/// Namespace of the keys beyond those of SigMF, and its version.
const EXTENSION: (&str, &str) = ("sferic", "1.0.0");

/// Writes simulated scenes as SigMF recordings, with the truth as annotations.
///
/// Each scene is one emitter somewhere among three receivers, and one recording `scene-NNNNN`: their samples
/// together, a channel per receiver, as long as one frame. The same seed gives the same files.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Each recording has one annotation over all its samples. Its label is the waveform; `sferic:latitude` and \
`sferic:longitude` \
(degrees) and `sferic:east_m` and `sferic:north_m` (from the origin) say where the emitter is, \
`sferic:snr_db` what each \
receiver heard, `sferic:shadowing_db` how far it strayed from the path loss. The global keys \
`sferic:receivers` and \
`sferic:origin` are GeoJSON Points, `sferic:noise_power` is each receiver's, relative to full scale squared.

Example:
  sferic simulate --out scenes --scenes 100
  sferic publish scenes/*.sigmf-meta --source demo --wait")]
pub struct SimulateArgs {
    /// Folder for the recordings; made where it is missing. Files of the same names are overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How many scenes.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub scenes: u64,
    /// What the scenes are drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

impl SimulateArgs {
    /// Runs the command; prints the path of each recording's metadata.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let folder = &self.out;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let output = Output::with_bar(self.scenes);
        let simulator = SceneSimulator::new(self.seed);
        for index in 0..self.scenes {
            let scene = simulator.scene(index);
            let writer = self.writer(index);
            let path =
                writer.write(folder, &format!("scene-{index:05}"), &scene.bytes(), &[truth(&scene)])?;
            output.line(path.display())?;
            output.advance();
        }
        output.finish();
        Ok(ExitCode::SUCCESS)
    }

    fn writer(&self, index: u64) -> SigmfWriter {
        let receivers = RECEIVERS
            .map(|receiver| ORIGIN.at(receiver))
            .map(|place| Geolocation::point(place.longitude, place.latitude));
        SigmfWriter {
            datatype: Datatype::Cf32Le,
            sample_rate: SAMPLE_RATE_HZ,
            num_channels: RECEIVERS.len() as u32,
            frequency: FREQUENCY_HZ,
            description: format!(
                "simulated scene {index} of seed {}: three receivers, one emitter",
                self.seed
            ),
            extension: EXTENSION,
            global: keys([
                ("sferic:seed", json!(self.seed)),
                ("sferic:scene", json!(index)),
                ("sferic:origin", json!(Geolocation::point(ORIGIN.longitude, ORIGIN.latitude))),
                ("sferic:receivers", json!(receivers)),
                ("sferic:noise_power", json!(NOISE_POWER)),
            ]),
        }
    }
}

fn truth(scene: &Scene) -> Annotation {
    let truth = &scene.truth;
    Annotation {
        sample_start: 0,
        sample_count: INSTANTS as u64,
        label: truth.family.label().to_owned(),
        more: keys([
            ("sferic:waveform", json!(truth.family.label())),
            ("sferic:latitude", json!(truth.position.latitude)),
            ("sferic:longitude", json!(truth.position.longitude)),
            ("sferic:east_m", json!(truth.offset.east_m)),
            ("sferic:north_m", json!(truth.offset.north_m)),
            ("sferic:snr_db", json!(truth.snr_db)),
            ("sferic:shadowing_db", json!(truth.shadowing_db)),
            ("sferic:reference_snr_db", json!(truth.reference_snr_db)),
        ]),
    }
}

fn keys<const N: usize>(keys: [(&str, Value); N]) -> Map<String, Value> {
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use sferic_recording::{Cut, Overrides, open};

    use super::*;

    #[tokio::test]
    async fn scenes_are_written_with_their_truth() {
        let folder = tempfile::TempDir::new().unwrap();
        let out = folder.path().join("new/scenes");
        SimulateArgs { out: out.clone(), scenes: 2, seed: 7 }.run().await.unwrap();
        let scene = SceneSimulator::new(7).scene(1);
        let path = out.join("scene-00001.sigmf-meta");
        let recording = &open(&path, &Overrides::default()).unwrap()[0];
        assert_eq!(recording.digest_mismatch().unwrap(), None);
        // It is one frame.
        let cut = Cut { frame: 8192, hop: 8192 };
        let frames: Vec<_> = recording.frames(cut).unwrap().map(Result::unwrap).collect();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].bytes, scene.bytes());

        let metadata: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let annotation = &metadata["annotations"][0];
        assert_eq!(annotation["sferic:latitude"], scene.truth.position.latitude);
        assert_eq!(annotation["sferic:longitude"], scene.truth.position.longitude);
        assert_eq!(annotation["sferic:snr_db"], json!(scene.truth.snr_db));
        assert_eq!(annotation["core:label"], scene.truth.family.label());
        assert_eq!(metadata["global"]["sferic:receivers"][2]["type"], "Point");
        assert_eq!(metadata["global"]["core:num_channels"], 3);
    }
}
