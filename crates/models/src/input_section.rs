//! The `[features]` table of a bundle and its `[[inputs]]`: what the model is given.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use sferic_actors::tensor::Dtype;
use sferic_features::{CorrelationConfig, FeatureConfig, Kind, Weighting};

/// One input of a model, as `model.toml` has it.
#[derive(Debug, Clone, PartialEq)]
pub struct InputConfig {
    /// The ONNX file's name of it; `None` with `[features]`, for the only input.
    pub name: Option<String>,
    /// Where its values come from.
    pub source: InputSource,
}

/// Where the values of an input come from.
#[derive(Debug, Clone, PartialEq)]
pub enum InputSource {
    /// Computed from the samples of a frame.
    Features(FeatureConfig),
    /// A tensor of the frame, as it is.
    Tensor(TensorConfig),
    /// What only the frames of a session together say.
    Gathered(GatheredConfig),
}

/// An input that only a gathered model has.
#[derive(Debug, Clone, PartialEq)]
pub enum GatheredConfig {
    /// 1 where a receiver is there, else 0.
    Mask,
    /// Metres east, north and, where the file takes three, up of the origin.
    Receivers,
    /// Seconds after the earliest arrival.
    Arrival,
    /// Correlations of each pair of receivers.
    Correlation(CorrelationConfig),
    /// Seconds from one lag of the correlation to the next.
    LagStep,
    /// Standard error of the lag of each pair, seconds.
    Scatter,
}

/// An input of `kind = "tensor"`.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorConfig {
    /// Without the batch axis.
    pub shape: Vec<usize>,
    /// As frames have it. Absent: that of the ONNX file.
    pub dtype: Option<Dtype>,
}

impl TensorConfig {
    /// A tensor of this shape and, where it is given, this type.
    pub fn new(shape: Vec<usize>, dtype: Option<Dtype>) -> Self {
        Self { shape, dtype }
    }
}

impl InputConfig {
    /// The features, where it is computed.
    pub fn features(&self) -> Option<&FeatureConfig> {
        if let InputSource::Features(features) = &self.source { Some(features) } else { None }
    }

    /// Checks what it says by itself.
    ///
    /// # Errors
    /// In words.
    pub fn validate(&self) -> Result<(), String> {
        match &self.source {
            InputSource::Features(features) => features.validate().map_err(|error| error.to_string()),
            InputSource::Tensor(TensorConfig { shape, .. }) => {
                let length = shape.iter().try_fold(1usize, |length, &axis| length.checked_mul(axis));
                match length {
                    Some(1..=MAX_ELEMENTS) => Ok(()),
                    _ => Err(format!("shape is {shape:?}, must have 1 to {MAX_ELEMENTS} elements")),
                }
            }
            InputSource::Gathered(GatheredConfig::Correlation(correlation)) => correlation.validate(),
            InputSource::Gathered(_) => Ok(()),
        }
    }
}

impl Default for InputConfig {
    fn default() -> Self {
        Self { name: None, source: InputSource::Features(FeatureConfig::default()) }
    }
}

/// Most elements of a tensor that frames bring.
const MAX_ELEMENTS: usize = 1 << 28;

/// The kinds by name.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InputKind {
    LogMel,
    LogSpectrum,
    Iq,
    Power,
    Signature,
    Tensor,
    Mask,
    Receivers,
    Arrival,
    Correlation,
    LagStep,
    Scatter,
}

/// What is no key of features.
#[derive(Default)]
struct Own {
    name: Option<String>,
    kind: Option<InputKind>,
    shape: Option<Vec<usize>>,
    dtype: Option<String>,
    correlation: CorrelationKeys,
    /// The first key of correlations.
    of_correlation: Option<&'static str>,
    /// The first key of features.
    other: Option<String>,
}

/// The table is flat: of a table tagged by `kind`, serde would lose the positions of errors.
impl<'de> Deserialize<'de> for InputConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = InputConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InputConfig, A::Error> {
        let own = RefCell::new(Own::default());
        let features =
            FeatureConfig::deserialize(MapAccessDeserializer::new(FeatureKeys { map, own: &own }))?;
        let Own { name, kind, shape, dtype, correlation, of_correlation, other } = own.into_inner();
        let kind = kind.unwrap_or(InputKind::LogMel);
        if let Some(key) = of_correlation.filter(|_| kind != InputKind::Correlation) {
            return Err(A::Error::custom(format_args!("{key} is a key of kind = \"correlation\" only")));
        }
        let gathered = match kind {
            InputKind::Mask => Some(GatheredConfig::Mask),
            InputKind::Receivers => Some(GatheredConfig::Receivers),
            InputKind::Arrival => Some(GatheredConfig::Arrival),
            InputKind::Correlation => {
                Some(GatheredConfig::Correlation(correlation.config().map_err(A::Error::custom)?))
            }
            InputKind::LagStep => Some(GatheredConfig::LagStep),
            InputKind::Scatter => Some(GatheredConfig::Scatter),
            _ => None,
        };
        if let Some(gathered) = gathered {
            let not_its = shape.map(|_| "shape").or(dtype.map(|_| "dtype"));
            if let Some(key) = not_its.or(other.as_deref()) {
                return Err(A::Error::custom(format_args!("{key} is no key of this kind of input")));
            }
            return Ok(InputConfig { name, source: InputSource::Gathered(gathered) });
        }
        let kind = match kind {
            InputKind::LogMel => Kind::LogMel,
            InputKind::LogSpectrum => Kind::LogSpectrum,
            InputKind::Iq => Kind::Iq,
            InputKind::Power => Kind::Power,
            InputKind::Signature => Kind::Signature,
            _ => {
                if let Some(key) = other {
                    return Err(A::Error::custom(format_args!(
                        "{key} is a key of features, not of kind = \"tensor\""
                    )));
                }
                let shape = shape.ok_or_else(|| A::Error::custom("kind = \"tensor\" needs shape"))?;
                let dtype = dtype.map(|name| named(&name).map_err(A::Error::custom)).transpose()?;
                return Ok(InputConfig {
                    name,
                    source: InputSource::Tensor(TensorConfig::new(shape, dtype)),
                });
            }
        };
        if let Some(key) = shape.map(|_| "shape").or(dtype.map(|_| "dtype")) {
            return Err(A::Error::custom(format_args!("{key} is a key of kind = \"tensor\" only")));
        }
        Ok(InputConfig { name, source: InputSource::Features(FeatureConfig { kind, ..features }) })
    }
}

/// The type of this name.
fn named(name: &str) -> Result<Dtype, String> {
    Dtype::named(name).ok_or_else(|| {
        let names = Dtype::ALL.map(Dtype::name).join(", ");
        format!("dtype is {name:?}, must be one of {names}")
    })
}

/// The keys of features in a table; the others are put aside.
struct FeatureKeys<'a, A> {
    map: A,
    own: &'a RefCell<Own>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for FeatureKeys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            let asked = Key { seed: &mut seed, own: self.own };
            match self.map.next_key_seed(asked)? {
                None => return Ok(None),
                Some(Ok(value)) => return Ok(Some(value)),
                Some(Err(own)) => {
                    let mut to = self.own.borrow_mut();
                    match own {
                        OwnKey::Name => to.name = Some(self.map.next_value()?),
                        OwnKey::Kind => to.kind = Some(self.map.next_value()?),
                        OwnKey::Shape => to.shape = Some(self.map.next_value()?),
                        OwnKey::Dtype => to.dtype = Some(self.map.next_value()?),
                        OwnKey::Correlation(key) => {
                            to.of_correlation = Some(key);
                            let keys = &mut to.correlation;
                            match key {
                                "band_hz" => keys.band_hz = Some(self.map.next_value()?),
                                "max_lag_s" => keys.max_lag_s = Some(self.map.next_value()?),
                                "lags" => keys.lags = Some(self.map.next_value()?),
                                "windows" => keys.windows = Some(self.map.next_value()?),
                                _ => keys.weighting = Some(self.map.next_value()?),
                            }
                        }
                    }
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum OwnKey {
    Name,
    Kind,
    Shape,
    Dtype,
    Correlation(&'static str),
}

/// The keys of a correlation.
#[derive(Default)]
struct CorrelationKeys {
    band_hz: Option<[f64; 2]>,
    max_lag_s: Option<f64>,
    lags: Option<usize>,
    windows: Option<usize>,
    weighting: Option<Weighting>,
}

const CORRELATION_KEYS: [&str; 5] = ["band_hz", "max_lag_s", "lags", "windows", "weighting"];

impl CorrelationKeys {
    fn config(self) -> Result<CorrelationConfig, String> {
        let needs = |key: &str| format!("kind = \"correlation\" needs {key}");
        Ok(CorrelationConfig {
            band_hz: self.band_hz.ok_or_else(|| needs("band_hz"))?,
            max_lag_s: self.max_lag_s.ok_or_else(|| needs("max_lag_s"))?,
            lags: self.lags.ok_or_else(|| needs("lags"))?,
            windows: self.windows.unwrap_or(1),
            weighting: self.weighting.unwrap_or_default(),
        })
    }
}

/// Reads one key: an own one, or what the seed makes of it.
struct Key<'a, K> {
    seed: &'a mut Option<K>,
    own: &'a RefCell<Own>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Result<K::Value, OwnKey>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        Ok(match key.as_str() {
            "name" => Err(OwnKey::Name),
            "kind" => Err(OwnKey::Kind),
            "shape" => Err(OwnKey::Shape),
            "dtype" => Err(OwnKey::Dtype),
            own if CORRELATION_KEYS.contains(&own) => {
                let own = CORRELATION_KEYS.into_iter().find(|key| *key == own);
                Err(OwnKey::Correlation(own.unwrap_or_default()))
            }
            _ => {
                let Some(seed) = self.seed.take() else { return Err(D::Error::custom("a key twice")) };
                self.own.borrow_mut().other.get_or_insert_with(|| key.clone());
                Ok(seed.deserialize(serde::de::value::StringDeserializer::<D::Error>::new(key))?)
            }
        })
    }
}
