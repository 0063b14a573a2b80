//! Single-channel frames of one modulation family, as real receivers record them.

use std::f32::consts::TAU;

use rand::RngExt;
use rustfft::num_complex::Complex32;

use crate::conditions::{Conditions, Impairment};
use crate::dsp;
use crate::impairments::{self, GainSteps, Quantiser};
use crate::rng::{self, SimRng, log_uniform, pick};
use crate::waveforms::{self, Family, Waveform};

/// A frame with its truth.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The samples as the daemon decodes them.
    pub samples: Vec<Complex32>,
    /// Modulation family of the signal.
    pub family: Family,
    /// Power of the signal while it is on over that of the noise, both in the whole sampled band, dB. `None`
    /// for [`Family::Noise`].
    pub snr_db: Option<f32>,
}

impl Frame {
    /// The samples as `cf32_le` bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()]).flatten().collect()
    }
}

/// Simulates labelled frames of `len` samples. Frame `i` depends only on the seed and `i`.
#[derive(Clone, Copy, Debug)]
pub struct FrameSimulator {
    seed: u64,
    len: usize,
}

impl FrameSimulator {
    /// Frames of `len` samples, at least 64.
    pub fn new(seed: u64, len: usize) -> Self {
        Self { seed, len: len.max(64) }
    }

    /// Frame number `index`; the families take turns, so any run of nine has one of each.
    pub fn frame(&self, index: u64) -> Frame {
        let family = Family::ALL[(index % Family::ALL.len() as u64) as usize];
        let waveform = waveforms::generate(family, self.len, &mut rng::stream(self.seed, index));
        self.receive(index, family, waveform)
    }

    /// Sends a clean waveform through the propagation, the noise and the recorder of frame `index`: what
    /// [`FrameSimulator::frame`] does with its own. The waveform has unit power while it is on and lies
    /// around 0 Hz; it is cut to the simulator's length, or silent after its end. One of [`Family::Noise`]
    /// is not used, for noise alone is received.
    pub fn receive(&self, index: u64, family: Family, waveform: Waveform) -> Frame {
        // Not the stream that `frame` draws the waveform from.
        let rng = &mut rng::stream(!self.seed, index);
        let conditions = Conditions::draw(family, rng);
        let mut path = Path::draw(&conditions, family, rng);
        let (mut samples, snr_db) = if family == Family::Noise {
            (path.noise(self.len, 1.0, rng), None)
        } else {
            let mut waveform = waveform;
            waveform.samples.resize(self.len, Complex32::default());
            let snr_db = draw_snr_db(family, &waveform, rng);
            let (samples, snr_db) = path.received(waveform, snr_db, rng);
            (samples, Some(snr_db))
        };
        path.record(&mut samples, rng);
        Frame { samples, family, snr_db }
    }
}

/// Draws the power of the signal while on over that of the noise, dB.
fn draw_snr_db(family: Family, waveform: &Waveform, rng: &mut SimRng) -> f32 {
    // −5 to 30 dB is the range the card reports; one in eight is stronger still, as a broadcaster is.
    let snr_db: f32 =
        if rng.random_bool(0.125) { rng.random_range(30.0..70.0) } else { rng.random_range(-5.0..30.0) };
    // Rare impulses that are too weak would be noise: at 5 dB one that is on for 5 % of the frame has as much
    // energy as a signal of −8 dB that is always on.
    match family {
        Family::Unknown if dsp::mean_power(&waveform.samples) < 0.1 => snr_db.abs().max(5.0),
        _ => snr_db,
    }
}

/// A response over frequency in cycles per sample.
type Response = Box<dyn Fn(f32) -> Complex32>;

/// What happens to one frame between the modulator and the recording.
struct Path<'a> {
    conditions: &'a Conditions,
    family: Family,
    /// Share of the band that the recording keeps.
    share: f32,
    /// What shapes the signal and what shapes the noise.
    responses: [Vec<Response>; 2],
}

impl<'a> Path<'a> {
    fn draw(conditions: &'a Conditions, family: Family, rng: &mut SimRng) -> Self {
        let mut path = Self { conditions, family, share: 1.0, responses: [Vec::new(), Vec::new()] };
        if conditions.has(Impairment::Ripple) {
            // In the antenna on the signal, in the receiver on both, or the noise alone.
            let (on_signal, on_noise) =
                pick(rng, &[(true, false), (false, true), (true, true), (true, true)]);
            let ripple = impairments::ripple(rng);
            if on_signal {
                path.responses[0].push(Box::new(ripple));
            }
            if on_noise {
                path.responses[1].push(Box::new(ripple));
            }
        }
        if conditions.has(Impairment::BandLimit) {
            // Noise in less than half of the band could be a jammer.
            let least = if family == Family::Noise { 0.5 } else { 0.3 };
            path.share = if rng.random_bool(0.4) { 0.5 } else { rng.random_range(least..0.95) };
            let limit = impairments::band_limit(path.share, rng);
            path.responses[0].push(Box::new(limit));
            path.responses[1].push(Box::new(limit));
        }
        path
    }

    fn has(&self, impairment: Impairment) -> bool {
        self.conditions.has(impairment)
    }

    /// Returns the receiver's noise of mean power `power`.
    fn noise(&mut self, len: usize, power: f32, rng: &mut SimRng) -> Vec<Complex32> {
        let mut noise = if self.has(Impairment::NoiseColour) {
            impairments::noise(len, power, rng)
        } else {
            dsp::white_noise(rng, len, power)
        };
        for response in &self.responses[1] {
            dsp::shape(&mut noise, response);
        }
        noise
    }

    /// Returns the signal after propagation, with the receiver's noise, and its SNR in dB.
    fn received(&mut self, waveform: Waveform, snr_db: f32, rng: &mut SimRng) -> (Vec<Complex32>, f32) {
        let Waveform { mut samples, bandwidth } = waveform;
        let mut snr_db = snr_db;
        self.transmit(&mut samples, bandwidth, rng);
        self.propagate(&mut samples, rng);

        // Wholly above, wholly below or astride the centre; one in five close to it.
        let room = 0.5 * (self.share - bandwidth).max(0.0);
        let mut offset = rng.random_range(-1.0..=1.0) * room;
        if rng.random_bool(0.2) {
            offset = offset.clamp(-0.02, 0.02) * rng.random_range(0.0..1.0);
        }
        // A weak carrier at the very centre is any receiver's own leakage; only a strong one is a signal.
        if matches!(self.family, Family::Tone | Family::Am) && offset.abs() < 2e-3 {
            snr_db = snr_db.abs().max(12.0);
        }
        dsp::shift(&mut samples, offset, rng.random_range(0.0..TAU));
        for response in &self.responses[0] {
            dsp::shape(&mut samples, response);
        }
        if self.has(Impairment::Neighbour) {
            add_neighbour(&mut samples, self.share, rng);
        }
        let noise = self.noise(samples.len(), dsp::from_db(-snr_db), rng);
        samples.iter_mut().zip(noise).for_each(|(x, n)| *x += n);
        (samples, snr_db)
    }

    /// Applies what the transmitter does to a signal around 0 Hz.
    fn transmit(&self, samples: &mut [Complex32], bandwidth: f32, rng: &mut SimRng) {
        if self.has(Impairment::Amplifier) {
            impairments::amplifier(samples, rng);
        }
        if self.has(Impairment::TransmitFilter) && bandwidth < 0.9 {
            impairments::transmit_filter(samples, bandwidth, rng);
        }
        if self.has(Impairment::Drift) {
            let bins = log_uniform(rng, 0.5, 8.0);
            impairments::drift(samples, bins, rng);
        }
        if self.has(Impairment::Packets) {
            impairments::packets(samples, rng);
        }
        if self.has(Impairment::PartTime) {
            part_time(self.family, samples, rng);
        }
    }

    /// Applies what happens between the antennas.
    fn propagate(&self, samples: &mut Vec<Complex32>, rng: &mut SimRng) {
        if self.has(Impairment::PhaseNoise) {
            // At worst two radians over 8192 samples: more would look like a modulation.
            let step = log_uniform(rng, 1e-4, 2e-2);
            impairments::phase_noise(samples, step, rng);
        }
        let spread = log_uniform(rng, 1.0, 32.0) as usize;
        if self.has(Impairment::Multipath) {
            impairments::multipath(samples, spread, rng);
        }
        if self.has(Impairment::Selective) {
            impairments::selective(samples, spread, rng);
        }
        if self.has(Impairment::Fading) {
            // Where the level is the message or should have none, it varies by less than marks do.
            let (rician, turns) = match self.family {
                Family::Tone | Family::Am => (pick(rng, &[10.0, 20.0, 50.0]), 2.0),
                Family::Ook => (pick(rng, &[4.0, 10.0]), 4.0),
                _ => (pick(rng, &[0.0, 0.0, 1.0, 4.0, 10.0]), 4.0),
            };
            let turns = turns * rng.random_range(0.1..1.0);
            impairments::fading(samples, rician, turns, rng);
        }
    }

    /// Adds the impairments of the receiver and of its file format.
    fn record(&self, samples: &mut [Complex32], rng: &mut SimRng) {
        if self.has(Impairment::BandLimit) && rng.random_bool(0.5) {
            // Interpolation by two leaves an image half the band away, 35 to 70 dB down.
            let image = dsp::from_db(rng.random_range(-70.0..-35.0)).sqrt();
            samples
                .iter_mut()
                .enumerate()
                .for_each(|(n, x)| *x *= if n % 2 == 0 { 1.0 + image } else { 1.0 - image });
        }
        if self.has(Impairment::GainSteps) {
            GainSteps::draw(self.family == Family::Tone, rng).apply(samples);
        }
        if self.has(Impairment::IqImbalance) {
            impairments::iq_imbalance(samples, rng);
        }
        if self.has(Impairment::DcOffset) {
            let relative_db = rng.random_range(-45.0..-12.0);
            impairments::dc_offset(samples, relative_db, rng);
        }
        if self.has(Impairment::Spur) {
            // Beside noise alone 25 dB down: at 20 it is a tone of −20 dB SNR, as weak as no tone is sent.
            let strongest = if self.family == Family::Noise { -25.0 } else { -20.0 };
            let relative_db = rng.random_range(-45.0..strongest);
            impairments::spur(samples, relative_db, rng);
        }
        if self.has(Impairment::Clip) {
            impairments::clip(samples, log_uniform(rng, 0.002, 0.1));
        }
        let quantiser = Quantiser::draw(rng);
        if self.has(Impairment::Coarse) {
            // Fewer steps than three would hide the sidebands of a shallow modulation.
            let weakest = if self.family == Family::Am { 3.0 } else { 0.8 };
            quantiser.apply_coarse(samples, weakest, rng);
        } else {
            quantiser.apply(samples, rng);
        }
        if self.has(Impairment::ZeroRun) {
            impairments::zero_run(samples, 0.4, rng);
        }
    }
}

/// Silences the signal outside one stretch. Amplitude modulation keeps its marks: the stretch has at least
/// half of the whole's variation, or the signal stays whole.
fn part_time(family: Family, samples: &mut [Complex32], rng: &mut SimRng) {
    let whole = samples.to_vec();
    for _ in 0..4 {
        let on = impairments::part_time(samples, rng);
        if family != Family::Am || variation(&whole[on]) >= 0.5 * variation(&whole) {
            return;
        }
        samples.copy_from_slice(&whole);
    }
}

/// Standard deviation of the power over its mean.
fn variation(samples: &[Complex32]) -> f32 {
    let mean = dsp::mean_power(samples).max(f32::MIN_POSITIVE);
    let sum: f32 = samples.iter().map(|x| (x.norm_sqr() / mean - 1.0).powi(2)).sum();
    (sum / samples.len().max(1) as f32).sqrt()
}

/// Adds a signal of some family at either edge of the recorded `share` of the band, 20 to 40 dB below a
/// signal of unit power.
fn add_neighbour(samples: &mut [Complex32], share: f32, rng: &mut SimRng) {
    let mut other = waveforms::generate(pick(rng, &Family::EMISSIONS), samples.len(), rng);
    let level = dsp::from_db(rng.random_range(-40.0..-20.0)).sqrt();
    // A wide one is only seen by its edge.
    let inside = (0.5 * other.bandwidth).min(0.05);
    let edge = 0.5 * share - inside - rng.random_range(0.0..0.05);
    // Nothing of it may come in on the other side.
    let cut = inside.max(0.01);
    dsp::shape(&mut other.samples, |f| Complex32::new(dsp::roll_off(f.abs(), cut, cut), 0.0));
    dsp::shift(&mut other.samples, edge * pick(rng, &[-1.0, 1.0]), rng.random_range(0.0..TAU));
    samples.iter_mut().zip(other.samples).for_each(|(x, y)| *x += y * level);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_depends_on_seed_and_index_alone() {
        let simulator = FrameSimulator::new(11, 1024);
        let later = simulator.frame(9);
        let _ = simulator.frame(3);
        assert_eq!(simulator.frame(9).samples, later.samples);
        assert_ne!(FrameSimulator::new(12, 1024).frame(9).samples, later.samples);
    }

    #[test]
    fn every_frame_is_finite_and_not_silent() {
        for len in [64, 100, 1024, 8192] {
            let simulator = FrameSimulator::new(4, len);
            for index in 0..160 {
                let frame = simulator.frame(index);
                assert_eq!(frame.samples.len(), len);
                assert!(frame.samples.iter().all(|x| x.is_finite()), "{:?} {index}", frame.family);
                assert!(dsp::mean_power(&frame.samples) > 0.0, "{:?} {index}", frame.family);
                assert_eq!(frame.snr_db.is_none(), frame.family == Family::Noise);
            }
        }
    }

    #[test]
    fn a_given_waveform_is_received_like_its_own() {
        let simulator = FrameSimulator::new(5, 1024);
        for index in 0..9 {
            let frame = simulator.frame(index);
            let waveform = waveforms::generate(frame.family, 1024, &mut rng::stream(5, index));
            assert_eq!(simulator.receive(index, frame.family, waveform).samples, frame.samples);
        }
        // One of another length fits too.
        let short = Waveform { samples: vec![Complex32::new(1.0, 0.0); 700], bandwidth: 1e-3 };
        let frame = simulator.receive(1, Family::Tone, short);
        assert_eq!(frame.samples.len(), 1024);
    }

    #[test]
    fn the_families_take_turns() {
        let simulator = FrameSimulator::new(6, 64);
        for (index, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(simulator.frame(index as u64).family, family);
        }
    }

    #[test]
    fn the_stated_snr_is_that_of_the_frame() {
        // A tone, clean: what remains beside its line is the noise.
        let mut errors = Vec::new();
        for index in 0..200 {
            let rng = &mut rng::stream(7, index);
            let conditions = Conditions::none();
            let mut path = Path::draw(&conditions, Family::Tone, rng);
            let waveform = Waveform { samples: vec![Complex32::new(1.0, 0.0); 4096], bandwidth: 1e-3 };
            let (samples, snr_db) = path.received(waveform, 3.0, rng);
            let power = dsp::mean_power(&samples);
            errors.push(dsp::to_db(power) - dsp::to_db(1.0 + dsp::from_db(-snr_db)));
        }
        assert!(errors.iter().all(|error| error.abs() < 0.5), "{errors:?}");
    }

    #[test]
    fn marks_stay_where_amplitude_modulation_is_part_time() {
        for index in 0..200 {
            let rng = &mut rng::stream(8, index);
            let mut samples = waveforms::generate(Family::Am, 2048, rng).samples;
            let before = variation(&samples);
            part_time(Family::Am, &mut samples, rng);
            let on: Vec<Complex32> = samples.into_iter().filter(|x| x.norm() > 0.0).collect();
            assert!(variation(&on) > 0.4 * before, "{index}");
        }
    }
}
