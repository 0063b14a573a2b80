//! A model bundle: `model.onnx` with `model.toml` beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sferic_actors::gather::GatherRules;
use sha2::{Digest, Sha256};

use super::error::BundleError;
use super::files::{Size, inside, own, read, real};
use super::gather_section::{GatherSection, gather_rules};
use super::golden::{Golden, MAX_GOLDEN_BYTES};
use super::input_section::InputConfig;
use super::onnx_file::{OnnxFile, hexadecimal};
use super::output_section::{OutputConfig, OutputSection};
use super::toml_text::parse;

/// A bundle read from disk and checked by itself, but not yet against its ONNX file.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The ONNX file with its external data.
    pub onnx: OnnxFile,
    /// SHA-256 of `model.toml`: with other features or another head, the same network gives other answers.
    pub config_digest: [u8; 32],
    /// What the model gets.
    pub inputs: Vec<InputConfig>,
    /// The meaning of its outputs.
    pub output: OutputConfig,
    /// How it gathers the frames of several receivers; `None` where it answers each frame alone.
    pub gather: Option<Arc<GatherRules>>,
    /// Cases that it has to answer as stated.
    pub golden: Option<Golden>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    model: ModelSection,
    features: Option<InputConfig>,
    inputs: Option<Vec<InputConfig>>,
    gather: Option<GatherSection>,
    output: OutputSection,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ModelSection {
    sha256: Option<String>,
    golden: Option<String>,
}

impl Bundle {
    /// Reads the bundle in `folder`.
    ///
    /// # Errors
    /// [`BundleError`], the first that is met.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        Self::read_within(folder, u64::MAX)
    }

    /// Reads the bundle in `folder`, unless its files together have more than this many bytes: then no more
    /// of them are read.
    ///
    /// # Errors
    /// [`BundleError`], the first that is met.
    pub fn read_within(folder: &Path, max_bytes: u64) -> Result<Self, BundleError> {
        let folder = &real(folder)?;
        let path = own(folder, "model.toml")?;
        let mut size = Size::within(max_bytes);
        size.add(&path)?;
        let text = read(&path)?;
        let document = Document::read(&text)?;
        let golden = document.model.golden.as_deref().map(|location| golden_path(folder, location));
        let golden = golden.transpose()?;
        golden.iter().try_for_each(|path| size.add(path))?;
        let onnx = OnnxFile::read_within(folder, &mut size)?;
        let golden = golden.as_deref().map(read_golden).transpose()?;
        Ok(Self { golden, ..Self::checked(&text, document, onnx)? })
    }

    /// Creates a bundle from the bytes of `model.toml` and the ONNX file, without golden cases.
    ///
    /// # Errors
    /// [`BundleError::Config`] and [`BundleError::Digest`].
    pub fn new(text: &[u8], onnx: OnnxFile) -> Result<Self, BundleError> {
        Self::checked(text, Document::read(text)?, onnx)
    }

    fn checked(text: &[u8], document: Document, onnx: OnnxFile) -> Result<Self, BundleError> {
        let config_digest = Sha256::digest(text).into();
        let inputs = inputs(document.features, document.inputs).map_err(BundleError::Config)?;
        let output = document.output.read().map_err(BundleError::Config)?;
        let gather = gather_rules(document.gather, &inputs, &output).map_err(BundleError::Config)?;
        let got = hexadecimal(&onnx.digest);
        if let Some(stated) = document.model.sha256
            && !stated.eq_ignore_ascii_case(&got)
        {
            return Err(BundleError::Digest { got, stated, external: !onnx.external.is_empty() });
        }
        Ok(Self { onnx, config_digest, inputs, output, gather: gather.map(Arc::new), golden: None })
    }
}

impl Document {
    fn read(text: &[u8]) -> Result<Self, BundleError> {
        let text = std::str::from_utf8(text).map_err(|error| BundleError::Config(error.to_string()))?;
        parse(text).map_err(BundleError::Config)
    }
}

fn golden_path(folder: &Path, location: &str) -> Result<PathBuf, BundleError> {
    let path = inside(folder, location, "model.toml has golden cases in")?;
    let bytes =
        std::fs::metadata(&path).map_err(|error| BundleError::Read { path: path.clone(), error })?.len();
    if bytes > MAX_GOLDEN_BYTES {
        let error = format!("it has {bytes} bytes, may have {MAX_GOLDEN_BYTES}");
        return Err(BundleError::Golden { path, error });
    }
    Ok(path)
}

fn read_golden(path: &Path) -> Result<Golden, BundleError> {
    Golden::read(&read(path)?).map_err(|error| BundleError::Golden { path: path.into(), error })
}

/// What the model gets, in whichever of the two ways it is written.
fn inputs(
    features: Option<InputConfig>,
    listed: Option<Vec<InputConfig>>,
) -> Result<Vec<InputConfig>, String> {
    let is_list = listed.is_some();
    let inputs = match (features, listed) {
        (Some(_), Some(_)) => {
            return Err("[features] and [[inputs]] are given, must be one of the two".into());
        }
        (Some(InputConfig { name: Some(_), .. }), None) => {
            return Err("name stands in [[inputs]]; [features] is for the only input".into());
        }
        (features, None) => vec![features.unwrap_or_default()],
        (None, Some(listed)) if listed.is_empty() => return Err("inputs is empty".into()),
        (None, Some(listed)) => listed,
    };
    for (at, input) in inputs.iter().enumerate() {
        let table = match &input.name {
            Some(name) => format!("[[inputs]] `{name}`"),
            None if !is_list => "[features]".to_owned(),
            None => return Err(format!("[[inputs]] {} has no name", at + 1)),
        };
        input.validate().map_err(|error| format!("{table} {error}"))?;
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use sferic_actors::tensor::Dtype;
    use sferic_features::{FeatureConfig, Kind};

    use super::super::input_section::{InputSource, TensorConfig};
    use super::super::output_section::{LocalOrigin, Scale, Units};
    use super::*;

    const OUTPUT: &str = "[output]\nkind = \"tensors\"\n";

    fn bundle(text: &str) -> Result<Bundle, String> {
        Bundle::new(text.as_bytes(), OnnxFile::new(b"onnx".to_vec())).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = bundle(text).expect_err("accepted");
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_minimal_bundle_has_the_defaults() {
        let bundle = bundle(OUTPUT).expect("refused");
        assert_eq!(bundle.inputs, [InputConfig::default()]);
        assert_eq!(bundle.output, OutputConfig::Tensors);
        // SHA-256 of "onnx", from sha256sum.
        assert_eq!(
            hexadecimal(&bundle.onnx.digest),
            "87e93f89f2be0db364e8be052f79f389e6c2da239831922e24513288af522a43"
        );
    }

    #[test]
    fn heads_are_read_with_their_defaults() {
        let text = "[output]\nkind = \"localization\"\nposition = \"p\"\nuncertainty = \"u\"\n";
        assert_eq!(
            bundle(text).expect("refused").output,
            OutputConfig::Localization {
                position: "p".into(),
                origin: None,
                uncertainty: "u".into(),
                uncertainty_units: Units::Metres,
                uncertainty_scale: Scale::Linear,
                confidence: None,
                residual: None,
                calibration: None,
            }
        );
        let calibrated = format!(
            "{text}[output.calibration]\nlevels = [0.68, 0.9]\nradius_squared = [2.2, 5.1]\n\
             source = \"held-out streets\"\nn = 700\n"
        );
        let OutputConfig::Localization { calibration: Some(calibration), .. } =
            bundle(&calibrated).expect("refused").output
        else {
            panic!()
        };
        assert_eq!((calibration.levels, calibration.n), (vec![0.68, 0.9], Some(700)));
        let error = bundle(&calibrated.replace("0.9]", "0.5]")).unwrap_err().to_string();
        assert!(error.contains("0.5 after 0.68"), "{error}");
        let text = format!(
            "{text}position_units = \"metres\"\norigin = {{ latitude = 45, longitude = 7.6 \
             }}\nuncertainty_scale = \"log\"\n"
        );
        let OutputConfig::Localization { origin, uncertainty_scale, .. } =
            bundle(&text).expect("refused").output
        else {
            panic!()
        };
        assert_eq!(
            (origin, uncertainty_scale),
            (Some(LocalOrigin { latitude: 45.0, longitude: 7.6 }), Scale::Log)
        );
        let text = "[output]\nkind = \"classification\"\nlogits = \"l\"\nlabels = [\"a\", \"b\"]\n";
        assert_eq!(
            bundle(text).expect("refused").output,
            OutputConfig::Classification {
                logits: "l".into(),
                activation: None,
                labels: vec!["a".into(), "b".into()],
                top_k: 5
            }
        );
    }

    #[test]
    fn the_stated_digest_is_checked_in_either_case() {
        let digest = hexadecimal(&Sha256::digest(b"onnx"));
        assert!(bundle(&format!("[model]\nsha256 = \"{}\"\n{OUTPUT}", digest.to_uppercase())).is_ok());
        refused(
            &format!("[model]\nsha256 = \"{}\"\n{OUTPUT}", "0".repeat(64)),
            &["sha256", &digest, &"0".repeat(64)],
        );
    }

    #[test]
    fn a_wrong_key_is_reported_with_its_position_and_the_nearest_valid_one() {
        refused(
            &format!("[features]\nn_ftt = 512\n{OUTPUT}"),
            &["line 2", "`n_ftt = 512`", "unknown key `n_ftt`", "`n_fft`"],
        );
        refused(&format!("[feature]\n{OUTPUT}"), &["`feature`", "`features`"]);
        refused("[output]\nkind = \"tensor\"\n", &["line 2", "unknown value `tensor`", "`tensors`"]);
        refused("[output]\nkind = \"tensors\"\nlogit = \"x\"\n", &["line 3", "`logit`", "`logits`"]);
        refused(&format!("[features]\nn_fft = \"many\"\n{OUTPUT}"), &["line 2", "n_fft", "string"]);
        refused(&format!("[features]\nn_fft = 8\n{OUTPUT}"), &["[features]", "n_fft is 8", "16"]);
    }

    #[test]
    fn inputs_are_listed_with_the_keys_of_features() {
        let text = "[[inputs]]\nname = \"mel\"\nn_fft = 512\n[[inputs]]\nname = \"level\"\nkind = \"power\"\n\
                    floor = 1e-12\n[[inputs]]\nname = \"extra\"\nshape = [2, 3]\nkind = \"tensor\"\ndtype = \
                    \"int8\"\n";
        let inputs = bundle(&format!("{text}{OUTPUT}")).expect("refused").inputs;
        let features = FeatureConfig { n_fft: 512, ..FeatureConfig::default() };
        assert_eq!(
            inputs[0],
            InputConfig { name: Some("mel".into()), source: InputSource::Features(features) }
        );
        assert_eq!(
            inputs[1].features().map(|features| (features.kind, features.floor)),
            Some((Kind::Power, 1e-12))
        );
        let tensor = TensorConfig::new(vec![2, 3], Some(Dtype::Int8));
        assert_eq!(
            inputs[2],
            InputConfig { name: Some("extra".into()), source: InputSource::Tensor(tensor) }
        );
    }

    #[test]
    fn inputs_that_do_not_stand_together_are_refused() {
        let one = "[[inputs]]\nname = \"x\"\n";
        let refused = |text: &str, parts: &[&str]| refused(&format!("{text}{OUTPUT}"), parts);
        refused(&format!("[features]\n{one}"), &["[features] and [[inputs]]"]);
        refused("[features]\nname = \"x\"\n", &["name stands in [[inputs]]"]);
        refused("[[inputs]]\nkind = \"iq\"\n", &["[[inputs]] 1 has no name"]);
        refused(&format!("{one}n_ftt = 1\n"), &["line 3", "unknown key `n_ftt`", "`n_fft`"]);
        refused(&format!("{one}n_fft = 8\n"), &["[[inputs]] `x`", "n_fft is 8"]);
        refused(&format!("{one}kind = \"mask\"\n"), &["`x`", "kind = \"mask\"", "[gather]"]);
        refused(&format!("{one}kind = \"tensor\"\n"), &["needs shape"]);
        refused(&format!("{one}shape = [1]\n"), &["shape is a key of kind = \"tensor\" only"]);
        refused(&format!("{one}dtype = \"int8\"\n"), &["dtype is a key of kind = \"tensor\" only"]);
        refused(
            &format!("{one}kind = \"tensor\"\nshape = [1]\nn_fft = 64\n"),
            &["n_fft is a key of features"],
        );
        let shaped = format!("{one}kind = \"tensor\"\nshape = ");
        refused(&format!("{shaped}[0]\n"), &["shape is [0]"]);
        refused(&format!("{shaped}[-1]\n"), &["line 4", "-1"]);
        refused(&format!("{shaped}[4000000000, 4000000000, 4000000000]\n"), &["must have 1 to"]);
        refused(&format!("{shaped}[1]\ndtype = \"FP32\"\n"), &["\"FP32\"", "float32"]);
    }

    #[test]
    fn golden_cases_lie_in_the_folder_and_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        // No node and no weights: an empty message is a graph.
        write("model.onnx", "");
        let read = |golden: &str, most: u64| {
            write("model.toml", &format!("[model]\ngolden = {golden:?}\n{OUTPUT}"));
            Bundle::read_within(folder.path(), most).map_err(|error| error.to_string())
        };
        let tensor = r#"{"shape": [1], "dtype": "int8", "data": "AQ=="}"#;
        write(
            "good.json",
            &format!(r#"{{"tolerance": 0, "cases": [{{"inputs": {{}}, "outputs": {{"y": {tensor}}}}}]}}"#),
        );
        assert_eq!(read("good.json", 4096).unwrap().golden.unwrap().cases.len(), 1);
        write("bad.json", "{}");
        std::fs::File::create(folder.path().join("large.json"))
            .unwrap()
            .set_len(MAX_GOLDEN_BYTES + 1)
            .unwrap();
        std::fs::create_dir(folder.path().join("folder.json")).unwrap();
        for (name, most, parts) in [
            ("../good.json", u64::MAX, &["golden cases in `../good.json`", "outside"][..]),
            ("/etc/passwd", u64::MAX, &["`/etc/passwd`", "outside"]),
            ("gone.json", u64::MAX, &["can't read", "gone.json"]),
            ("folder.json", u64::MAX, &["folder.json", "not a file"]),
            ("bad.json", u64::MAX, &["golden cases in", "bad.json", "tolerance"]),
            ("large.json", u64::MAX, &["67108865 bytes", "may have 67108864"]),
            ("good.json", 100, &["good.json", "models.max_bytes, 100"]),
        ] {
            let error = read(name, most).expect_err("accepted");
            parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in {error:?}"));
        }
    }

    #[test]
    fn keys_must_fit_the_kind_and_each_other() {
        let localization = "[output]\nkind = \"localization\"\nposition = \"p\"\nuncertainty = \"u\"\n";
        refused("[features]\n", &["output"]);
        refused(
            "[output]\nkind = \"localization\"\nposition = \"p\"\n",
            &["localization", "needs uncertainty"],
        );
        refused(&format!("{localization}logits = \"l\"\n"), &["logits", "classification"]);
        refused("[output]\nkind = \"tensors\"\nposition = \"p\"\n", &["position", "localization"]);
        refused(&format!("{localization}position_units = \"metres\"\n"), &["metres", "origin"]);
        refused(
            &format!("{localization}origin = {{ latitude = 1, longitude = 2 }}\n"),
            &["origin", "metres"],
        );
        let metres = format!("{localization}position_units = \"metres\"\n");
        refused(
            &format!("{metres}origin = {{ latitude = 91, longitude = 2 }}\n"),
            &["latitude is 91", "-90 to 90"],
        );
        refused(&format!("{metres}origin = {{ latitude = 1, longitude = nan }}\n"), &["longitude is NaN"]);
        let classification = "[output]\nkind = \"classification\"\nlogits = \"l\"\n";
        refused(classification, &["needs labels"]);
        refused(&format!("{classification}labels = []\n"), &["labels is empty"]);
        refused(&format!("{classification}labels = [\"a\", \"b\", \"a\"]\n"), &["\"a\" twice"]);
        refused(&format!("{classification}labels = [\"a\"]\ntop_k = 0\n"), &["top_k is 0"]);
    }
}
