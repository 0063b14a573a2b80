//! Scenes: one emitter somewhere among three receivers at known places, and the frame that they record
//! together.

use rand::RngExt;
use rand::distr::Distribution;
use rand_distr::StandardNormal;
use rustfft::num_complex::Complex32;

use crate::dsp;
use crate::geodesy::{GeoPoint, Offset};
use crate::rng::{self, SimRng};
use crate::waveforms::{self, Family};

/// Origin of every scene's offsets.
pub const ORIGIN: GeoPoint = GeoPoint { latitude: 45.0, longitude: 7.6 };

/// The three receivers.
pub const RECEIVERS: [Offset; 3] = [
    Offset { east_m: -2200.0, north_m: -1300.0 },
    Offset { east_m: 2300.0, north_m: -1200.0 },
    Offset { east_m: 100.0, north_m: 2500.0 },
];

/// Emitters lie within ± this many metres of the origin, east and north.
pub const AREA_HALF_M: f64 = 3000.0;

/// Samples per second of a scene's frame.
pub const SAMPLE_RATE_HZ: f64 = 192_000.0;

/// Centre frequency of a scene's frame.
pub const FREQUENCY_HZ: f64 = 868.3e6;

/// Sample instants in a frame.
pub const INSTANTS: usize = 4096;

/// Mean noise power of every receiver, relative to full scale squared: −60 dB. The receivers are
/// calibrated, so this is known to whoever evaluates their frames.
pub const NOISE_POWER: f32 = 1e-6;

/// Exponent of the path loss: between free space (2) and dense cities (4).
pub const PATH_LOSS_EXPONENT: f64 = 3.0;

/// Range of the SNR at each receiver, dB: from barely received to just undistorted.
pub const SNR_RANGE_DB: std::ops::RangeInclusive<f64> = -5.0..=30.0;

/// SNR at one kilometre without shadowing, dB: the spread of emitter powers.
pub const REFERENCE_SNR_DB: std::ops::Range<f64> = -5.0..45.0;

/// Standard deviation of the log-normal shadowing, dB; one value per scene, one draw per receiver.
pub const SHADOWING_DB: std::ops::Range<f64> = 4.0..8.0;

/// The truth of a scene: where its emitter is and what it sends.
#[derive(Clone, Debug)]
pub struct Truth {
    /// From [`ORIGIN`].
    pub offset: Offset,
    /// The same place in degrees.
    pub position: GeoPoint,
    /// Mean signal power over mean noise power at each receiver in the sampled band, dB.
    pub snr_db: [f64; 3],
    /// Standard deviation of this scene's shadowing, dB.
    pub shadowing_db: f64,
    /// SNR at one kilometre without shadowing, dB, which states the emitter's power.
    pub reference_snr_db: f64,
    /// What it sent.
    pub family: Family,
}

/// One recorded frame and its truth.
#[derive(Clone, Debug)]
pub struct Scene {
    /// [`INSTANTS`] × 3 samples, interleaved by receiver as SigMF interleaves channels.
    pub samples: Vec<Complex32>,
    /// The truth behind them.
    pub truth: Truth,
}

impl Scene {
    /// The samples as `cf32_le` bytes: I, Q per receiver, instant by instant.
    pub fn bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|x| [x.re.to_le_bytes(), x.im.to_le_bytes()]).flatten().collect()
    }

    /// Mean power at each receiver, relative to full scale squared.
    pub fn powers(&self) -> [f32; 3] {
        std::array::from_fn(|channel| {
            let sum: f64 =
                self.samples.iter().skip(channel).step_by(3).map(|x| f64::from(x.norm_sqr())).sum();
            (sum / (self.samples.len() / 3) as f64) as f32
        })
    }
}

/// Simulates an unlimited number of scenes. Scene `i` depends only on the seed and `i`.
#[derive(Clone, Debug)]
pub struct SceneSimulator {
    seed: u64,
    next: u64,
}

impl SceneSimulator {
    /// Starts at scene 0 of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// The next scene.
    pub fn next_scene(&mut self) -> Scene {
        self.next += 1;
        self.scene(self.next - 1)
    }

    /// Scene number `index`.
    pub fn scene(&self, index: u64) -> Scene {
        let mut rng = rng::stream(self.seed, index);
        let truth = draw_truth(&mut rng);
        let samples = record(&truth, &mut rng);
        Scene { samples, truth }
    }
}

impl Iterator for SceneSimulator {
    type Item = Scene;

    fn next(&mut self) -> Option<Scene> {
        Some(self.next_scene())
    }
}

/// Draws place, power and shadowing, and repeats until every receiver is within [`SNR_RANGE_DB`].
fn draw_truth(rng: &mut SimRng) -> Truth {
    // Everything that is one emission.
    let family = rng::pick(rng, &Family::EMISSIONS);
    loop {
        let offset = Offset {
            east_m: rng.random_range(-AREA_HALF_M..AREA_HALF_M),
            north_m: rng.random_range(-AREA_HALF_M..AREA_HALF_M),
        };
        let reference_snr_db = rng.random_range(REFERENCE_SNR_DB);
        let shadowing_db = rng.random_range(SHADOWING_DB);
        let snr_db = RECEIVERS.map(|receiver| {
            let shadow: f64 = StandardNormal.sample(rng);
            reference_snr_db - path_loss_db(offset.distance_m(receiver)) - shadowing_db * shadow
        });
        if snr_db.iter().all(|snr| SNR_RANGE_DB.contains(snr)) {
            let position = ORIGIN.at(offset);
            return Truth { offset, position, snr_db, shadowing_db, reference_snr_db, family };
        }
    }
}

/// Log-distance path loss relative to one kilometre, dB. Nearer than 50 m it no longer falls: antennas are on
/// masts.
pub fn path_loss_db(distance_m: f64) -> f64 {
    10.0 * PATH_LOSS_EXPONENT * (distance_m.max(50.0) / 1000.0).log10()
}

/// Records the scene at all receivers, each with its own delay, clock, oscillator and noise.
fn record(truth: &Truth, rng: &mut SimRng) -> Vec<Complex32> {
    /// Longest delay that any receiver can see, in samples, and half the interpolating filter's length.
    const GUARD: usize = 16;
    const HALF: usize = 8;
    let mut sent = waveforms::generate(truth.family, INSTANTS + 2 * GUARD, rng);
    // Narrower than the band, anywhere inside it.
    let room = (0.45 - sent.bandwidth / 2.0).max(0.0);
    dsp::shift(&mut sent.samples, rng.random_range(-1.0..=1.0) * room, 0.0);
    dsp::set_mean_power(&mut sent.samples[GUARD..GUARD + INSTANTS], 1.0);

    let mut samples = vec![Complex32::default(); 3 * INSTANTS];
    for (channel, receiver) in RECEIVERS.iter().enumerate() {
        // Propagation, plus clocks that agree to ±10 µs.
        let delay_s = truth.offset.distance_m(*receiver) / 299_792_458.0 + rng.random_range(-10e-6..10e-6);
        let delay = ((delay_s * SAMPLE_RATE_HZ) as f32).clamp(-6.0, 6.0);
        let whole = delay.round();
        let late = dsp::filter(&sent.samples, &dsp::low_pass(0.5, HALF, delay - whole));
        let first = (GUARD as f32 - whole) as usize;
        let mut heard = late[first..first + INSTANTS].to_vec();
        // Oscillators agree to ±1 part per million.
        let offset = (rng.random_range(-1e-6..1e-6) * FREQUENCY_HZ / SAMPLE_RATE_HZ) as f32;
        dsp::shift(&mut heard, offset, rng.random_range(0.0..std::f32::consts::TAU));
        dsp::set_mean_power(&mut heard, NOISE_POWER * dsp::from_db(truth.snr_db[channel] as f32));
        let noise = dsp::white_noise(rng, INSTANTS, NOISE_POWER);
        for (n, (x, noise)) in heard.into_iter().zip(noise).enumerate() {
            samples[3 * n + channel] = x + noise;
        }
    }
    samples
}

#[cfg(test)]
mod tests;
