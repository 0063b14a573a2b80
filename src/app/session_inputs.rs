//! The inputs of a gathered model from the frames of a session.

use bytes::Bytes;
use sferic_actors::frame::{Content, Slot};
use sferic_actors::gather::{Arrival, against_others, inconsistent};
use sferic_actors::outcome::{Failure, FailureCode, LeftOut, LeftOutReason};
use sferic_actors::tensor::{ClockError, Dtype, Input, InputTensor};
use sferic_features::{CorrelationConfig, Correlations, NoOverlap, Stream};
use sferic_models::{GatheredInput, GatheredKind, LocalOrigin, check_range, frame_failure, from_origin};
use sferic_samples::{Geolocation, Samples};

/// Lags of pairs, and times by all of them, may differ by so many steps where clocks are learned of them.
const STEPS: f64 = 3.0;

/// The frames of a session by slot, and what several inputs share of them.
pub struct SessionInputs<'a> {
    /// Those that are used.
    slots: Vec<Option<&'a Slot>>,
    origin: Option<LocalOrigin>,
    correlations: Option<Correlations>,
    left_out: Vec<LeftOut>,
    clocks: Vec<ClockError>,
}

impl<'a> SessionInputs<'a> {
    /// For these frames. `origin` is that of the model's metres.
    pub fn new(slots: &'a [Option<Slot>], origin: Option<LocalOrigin>) -> Self {
        let slots = slots.iter().map(Option::as_ref).collect();
        Self { slots, origin, correlations: None, left_out: Vec::new(), clocks: Vec::new() }
    }

    /// Frames that turned out to be of no use, and what an emitter of known place says of clocks.
    pub fn found(self) -> (Vec<LeftOut>, Vec<ClockError>) {
        (self.left_out, self.clocks)
    }

    /// Correlates the samples, and leaves out a receiver whose time does not fit that of the others.
    ///
    /// # Errors
    /// The failure of the session.
    pub fn correlate(
        &mut self,
        config: &CorrelationConfig,
        correlate: impl FnOnce(&[Option<Stream<'_>>]) -> Result<Correlations, NoOverlap>,
    ) -> Result<(), Failure> {
        let streams = self.slots.iter().map(|slot| slot.map(|slot| stream(&slot.content)).transpose());
        let streams = streams.collect::<Result<Vec<_>, _>>()?;
        let too_short = |error| Failure::new(FailureCode::NotEnoughSamples, format!("{error}"));
        let mut correlations = correlate(&streams).map_err(too_short)?;
        let there: Vec<usize> = (0..self.slots.len()).filter(|&slot| self.slots[slot].is_some()).collect();
        let pairs = self.pairs(&correlations, config);
        let arrivals = pairs.as_ref().and_then(|pairs| self.arrivals_of(pairs, config, &there));
        if let Some((pairs, arrivals)) = pairs.as_ref().zip(arrivals.as_ref())
            && is_clear(pairs, arrivals, &there, STEPS * config.lag_step())
        {
            self.clocks = self.clock_errors(arrivals, &there);
        }
        let wrong = arrivals.and_then(|of| inconsistent(&of));
        if let Some(slot) = wrong.map(|at| there[at])
            && let Some(out) = self.slots[slot].take()
        {
            let pairs = pairs_of(self.slots.len()).enumerate();
            for (pair, _) in pairs.filter(|(_, (i, j))| *i == slot || *j == slot) {
                correlations.magnitudes[pair * config.lags..(pair + 1) * config.lags].fill(0.0);
                correlations.scatter[pair] = 0.0;
            }
            self.left_out.push(LeftOut { source: out.source.clone(), reason: LeftOutReason::Inconsistent });
        }
        self.correlations = Some(correlations);
        Ok(())
    }

    /// What the pairs of receivers that are there have in common; `None` where one of them heard nothing.
    fn pairs(&self, correlations: &Correlations, config: &CorrelationConfig) -> Option<Vec<Pair>> {
        pairs_of(self.slots.len())
            .enumerate()
            .filter(|(_, (i, j))| self.slots[*i].is_some() && self.slots[*j].is_some())
            .map(|(pair, slots)| {
                let scatter = f64::from(correlations.scatter[pair]);
                Some(Pair { slots, lag: correlations.lag(pair, config)?, scatter })
            })
            .collect()
    }

    /// When the signal arrived at each of these receivers, by the lags of all their pairs, with a timing
    /// error of one step where nothing is configured; `None` where a place is not known.
    fn arrivals_of(
        &self,
        pairs: &[Pair],
        config: &CorrelationConfig,
        there: &[usize],
    ) -> Option<Vec<Arrival>> {
        let mut times = vec![0.0; self.slots.len()];
        let mut scatters = vec![0f64; self.slots.len()];
        let count = there.len() as f64;
        for &Pair { slots: (i, j), lag, scatter } in pairs {
            // The least squares of all differences.
            times[j] += lag / count;
            times[i] -= lag / count;
            scatters[i] = scatters[i].max(scatter);
            scatters[j] = scatters[j].max(scatter);
        }
        let arrival = |&slot: &usize| {
            let of = self.slots[slot]?;
            let Geolocation::Point { coordinates } = of.place.as_ref()?;
            let [longitude, latitude] = [coordinates.first()?, coordinates.get(1)?];
            let place = from_origin(self.origin?, *latitude, *longitude);
            let sigma = of.sigma.unwrap_or_else(|| config.lag_step()).hypot(scatters[slot]);
            Some(Arrival { place, time: times[slot], sigma })
        };
        there.iter().map(arrival).collect()
    }

    /// How late each clock was, where the emitter's place is known.
    fn clock_errors(&self, arrivals: &[Arrival], there: &[usize]) -> Vec<ClockError> {
        let late = |(arrival, &slot): (&Arrival, &usize)| {
            let of = self.slots[slot]?;
            // What was taken off is put back.
            Some(((of, arrival.sigma), arrival.time + of.clock_s - of.expected_s?, of.clock))
        };
        let error = |((of, sigma_s), late_s): ((&Slot, f64), f64)| {
            let at_ns = of.content.begun_ns.unwrap_or_default();
            ClockError { source: of.source.clone(), at_ns, late_s, sigma_s }
        };
        let late = arrivals.iter().zip(there).filter_map(late).collect();
        against_others(late).into_iter().map(error).collect()
    }

    /// One input. `features` computes those of one frame into its part.
    ///
    /// # Errors
    /// The failure of the session.
    pub fn input(
        &self,
        name: &str,
        input: &GatheredInput,
        mut features: impl FnMut(&Content, &mut [f32]) -> Result<(), Failure>,
    ) -> Result<Input, Failure> {
        let tensor = |dtype, data: Bytes| {
            Input::Given(InputTensor { name: name.to_owned(), dtype, shape: input.shape.clone(), data })
        };
        let floats = |values: Vec<f32>| {
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            tensor(Dtype::Float32, bytes.into())
        };
        let doubles = |values: Vec<f64>| {
            let bytes: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
            tensor(Dtype::Float64, bytes.into())
        };
        Ok(match &input.kind {
            GatheredKind::Computed(_, known) => {
                let mut values = vec![0.0; input.len()];
                let each = input.len() / self.slots.len().max(1);
                for (slot, part) in self.slots.iter().zip(values.chunks_exact_mut(each.max(1))) {
                    let Some(slot) = slot else { continue };
                    features(&slot.content, part)?;
                    known.check_range(part)?;
                }
                floats(values)
            }
            GatheredKind::Given(given) => {
                let each = given.dtype.size() * given.shape.iter().product::<usize>();
                let mut bytes = vec![0; each * self.slots.len()];
                for (slot, part) in self.slots.iter().zip(bytes.chunks_exact_mut(each.max(1))) {
                    let tensors = slot.iter().flat_map(|slot| &slot.content.tensors);
                    if let Some(own) = tensors.into_iter().find(|tensor| tensor.name == name) {
                        check_range(own, given.onnx_dtype)?;
                        part.copy_from_slice(&own.data);
                    }
                }
                tensor(given.dtype, bytes.into())
            }
            GatheredKind::Mask => {
                floats(self.slots.iter().map(|slot| if slot.is_some() { 1.0 } else { 0.0 }).collect())
            }
            GatheredKind::Receivers => doubles(self.receivers(input.shape.last().copied().unwrap_or(2))),
            GatheredKind::Arrival => doubles(self.arrivals()),
            GatheredKind::Correlation(_) => floats(self.correlations()?.magnitudes.clone()),
            GatheredKind::Scatter => floats(self.correlations()?.scatter.clone()),
            GatheredKind::LagStep(config) => doubles(vec![config.lag_step()]),
        })
    }

    /// Metres east, north and, of three, up of the origin.
    fn receivers(&self, dimensions: usize) -> Vec<f64> {
        let metres = |slot: &Option<&Slot>| {
            let place = slot.and_then(|slot| slot.place.as_ref());
            let (Some(origin), Some(Geolocation::Point { coordinates })) = (self.origin, place) else {
                return [0.0; 3];
            };
            let degrees = |at: usize| coordinates.get(at).copied().unwrap_or_default();
            let [east, north] = from_origin(origin, degrees(1), degrees(0));
            [east, north, degrees(2)]
        };
        self.slots.iter().flat_map(|slot| metres(slot).into_iter().take(dimensions)).collect()
    }

    /// Seconds after the earliest arrival. Subtracted as integers: nanoseconds since 1970 have 61 bits.
    fn arrivals(&self) -> Vec<f64> {
        let arrival = |slot: &Option<&Slot>| slot.and_then(|slot| slot.content.arrival_ns);
        let earliest = self.slots.iter().filter_map(arrival).min().unwrap_or_default();
        let after = |slot| arrival(slot).map_or(0.0, |ns| ns.abs_diff(earliest) as f64 / 1e9);
        self.slots.iter().map(after).collect()
    }

    fn correlations(&self) -> Result<&Correlations, Failure> {
        let missing = || Failure::new(FailureCode::Internal, "there are no correlations");
        self.correlations.as_ref().ok_or_else(missing)
    }
}

/// Two receivers that are there.
struct Pair {
    slots: (usize, usize),
    /// Seconds from the arrival at the first to that at the second.
    lag: f64,
    /// By how much that differs between windows, seconds.
    scatter: f64,
}

/// Whether every pair has a peak that stands still and agrees with those of the others, to so many seconds.
fn is_clear(pairs: &[Pair], arrivals: &[Arrival], there: &[usize], within: f64) -> bool {
    let time = |slot: usize| {
        let at = there.iter().position(|&at| at == slot)?;
        arrivals.get(at).map(|arrival| arrival.time)
    };
    pairs.iter().all(|&Pair { slots: (i, j), lag, scatter }| {
        let agrees = |(first, second): (f64, f64)| (lag - (second - first)).abs() <= within;
        scatter <= within && time(i).zip(time(j)).is_some_and(agrees)
    })
}

/// The pairs of so many slots, in order.
fn pairs_of(slots: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..slots).flat_map(move |i| (i + 1..slots).map(move |j| (i, j)))
}

/// The samples of a frame that the model has accepted.
fn stream(content: &Content) -> Result<Stream<'_>, Failure> {
    let lacks = || Failure::new(FailureCode::Internal, "a frame of the session has no samples with a time");
    let samples = content.samples.as_ref().ok_or_else(lacks)?;
    let (rate_hz, begun_ns) = samples.sample_rate.zip(content.begun_ns).ok_or_else(lacks)?;
    let view = Samples::new(&samples.bytes, samples.datatype, samples.channels)
        .and_then(|view| view.check_finite().map(|()| view))
        .map_err(|error| frame_failure(&error.into()))?;
    Ok(Stream { samples: view, rate_hz, begun_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: LocalOrigin = LocalOrigin { latitude: 45.0, longitude: 7.6 };

    fn slot(content: Content, place: Option<Geolocation>) -> Option<Slot> {
        Some(Slot {
            source: "rx".into(),
            content,
            place,
            sigma: None,
            clock_s: 0.0,
            clock: None,
            expected_s: None,
        })
    }

    #[test]
    fn places_are_metres_from_the_origin_and_arrivals_seconds_after_the_first() {
        let at = |ns: i64| Content { arrival_ns: Some(ns), ..Content::default() };
        let up = Geolocation::Point { coordinates: vec![7.6, 45.0, 120.0] };
        let slots = [
            slot(at(1_700_000_000_000_000_250), Some(up)),
            None,
            slot(at(1_700_000_000_000_000_000), Some(Geolocation::point(7.61, 45.0))),
        ];
        let inputs = SessionInputs::new(&slots, Some(ORIGIN));
        let metres = inputs.receivers(3);
        assert_eq!(metres[..6], [0.0, 0.0, 120.0, 0.0, 0.0, 0.0]);
        // A degree of longitude is 78,847 m there; the geodesic leaves a little to the north.
        assert!((metres[6] - 788.47).abs() < 0.05 && metres[7].abs() < 0.1, "{metres:?}");
        assert_eq!(inputs.receivers(2).len(), 6);
        assert_eq!(inputs.arrivals(), [250e-9, 0.0, 0.0]);
    }
}
