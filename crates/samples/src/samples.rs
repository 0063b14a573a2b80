//! IQ samples as they arrived, read in place.

use num_complex::Complex32;

use crate::{Datatype, SamplesError};

/// Number of samples converted and weighted together.
const GROUP: usize = 128;

/// A borrowed frame: SigMF interleaving, per sample instant `I0 Q0 I1 Q1 …`, one pair a channel.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    bytes: &'a [u8],
    datatype: Datatype,
    channels: usize,
}

impl<'a> Samples<'a> {
    /// Wraps `bytes` without copying.
    ///
    /// # Errors
    /// [`SamplesError::Channels`] for no channels, [`SamplesError::Empty`] for no bytes and
    /// [`SamplesError::Misaligned`] for a length that is no whole number of sample instants.
    pub fn new(bytes: &'a [u8], datatype: Datatype, channels: usize) -> Result<Self, SamplesError> {
        let instant = channels.checked_mul(datatype.bytes_per_sample()).filter(|&n| n > 0);
        let Some(instant) = instant else {
            return Err(SamplesError::Channels(channels));
        };
        if bytes.is_empty() {
            return Err(SamplesError::Empty);
        }
        if !bytes.len().is_multiple_of(instant) {
            return Err(SamplesError::Misaligned { bytes: bytes.len(), instant, channels, datatype });
        }
        Ok(Self { bytes, datatype, channels })
    }

    /// Sample instants: the length of each channel.
    #[allow(clippy::len_without_is_empty)] // never empty by construction
    pub fn len(&self) -> usize {
        self.bytes.len() / (self.channels * self.datatype.bytes_per_sample())
    }

    /// Channels sampled together.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// How each component is stored.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The payload.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that every component of the frame is a finite float32, including those that no window covers.
    ///
    /// # Errors
    /// [`SamplesError::NonFinite`] with the first sample at fault. Integer datatypes cannot fail.
    pub fn check_finite(&self) -> Result<(), SamplesError> {
        match self.datatype {
            Datatype::Cf32Le => self.check_components::<Cf32Le>(|b| f64::from(Cf32Le::read(b))),
            Datatype::Cf32Be => self.check_components::<Cf32Be>(|b| f64::from(Cf32Be::read(b))),
            Datatype::Cf64Le => self.check_components::<Cf64Le>(Cf64Le::read_wide),
            Datatype::Ci32Le
            | Datatype::Ci16Le
            | Datatype::Ci16Be
            | Datatype::Cu16Le
            | Datatype::Ci8
            | Datatype::Cu8 => Ok(()),
        }
    }

    fn check_components<D: Component>(&self, wide: impl Fn(&[u8]) -> f64) -> Result<(), SamplesError> {
        // No early exit: the scan stays a plain reduction that vectorises, and bad frames are rare.
        let components = self.bytes.chunks_exact(D::BYTES);
        let finite = components.clone().fold(true, |finite, b| finite & D::read(b).is_finite());
        if finite {
            return Ok(());
        }
        for (index, b) in components.enumerate() {
            if !D::read(b).is_finite() {
                return Err(SamplesError::NonFinite { instant: index / (2 * self.channels), value: wide(b) });
            }
        }
        Ok(())
    }

    /// Returns one sample as complex float32; for the few at the ends, which are reflected. `D` is the
    /// component of the frame's datatype.
    pub fn get<D: Component>(&self, instant: usize, channel: usize) -> Complex32 {
        let at = (instant * self.channels + channel) * 2 * D::BYTES;
        Complex32::new(
            D::read(&self.bytes[at..at + D::BYTES]),
            D::read(&self.bytes[at + D::BYTES..at + 2 * D::BYTES]),
        )
    }

    /// Writes `weigh(sample, weight)` for `out.len()` samples of `channel` from instant `start` on. `D` is
    /// the component of the frame's datatype.
    #[inline(always)]
    pub fn read_run<D: Component, T>(
        &self,
        start: usize,
        channel: usize,
        out: &mut [T],
        weights: &[f32],
        weigh: impl Fn(Complex32, f32) -> T,
    ) {
        if self.channels > 1 {
            for (k, (out, &weight)) in out.iter_mut().zip(weights).enumerate() {
                *out = weigh(self.get::<D>(start + k, channel), weight);
            }
            return;
        }
        let run = &self.bytes[start * 2 * D::BYTES..(start + out.len()) * 2 * D::BYTES];
        if D::IS_F32 {
            let samples = run.chunks_exact(2 * D::BYTES);
            for ((out, &weight), b) in out.iter_mut().zip(weights).zip(samples) {
                *out = weigh(Complex32::new(D::read(b), D::read(&b[D::BYTES..])), weight);
            }
            return;
        }
        // Two plain loops, conversion and weighting: the compiler vectorises each, and not the two in one.
        let mut components = [0.0f32; 2 * GROUP];
        let groups = out.chunks_mut(GROUP).zip(weights.chunks(GROUP)).zip(run.chunks(2 * GROUP * D::BYTES));
        for ((out, weights), run) in groups {
            for (component, b) in components.iter_mut().zip(run.chunks_exact(D::BYTES)) {
                *component = D::read(b);
            }
            for ((out, &weight), [i, q]) in out.iter_mut().zip(weights).zip(components.as_chunks::<2>().0) {
                *out = weigh(Complex32::new(*i, *q), weight);
            }
        }
    }
}

/// One stored component and how it becomes a float of ±1 full scale.
pub trait Component {
    /// Its size.
    const BYTES: usize;
    /// Nothing to convert but the order of bytes.
    const IS_F32: bool = false;
    /// Reads the first `BYTES` bytes of `b`.
    fn read(b: &[u8]) -> f32;
}

/// A component of `cf32_le`.
pub struct Cf32Le;
/// A component of `cf32_be`.
pub struct Cf32Be;
/// A component of `cf64_le`.
pub struct Cf64Le;
/// A component of `ci32_le`.
pub struct Ci32Le;
/// A component of `ci16_le`.
pub struct Ci16Le;
/// A component of `ci16_be`.
pub struct Ci16Be;
/// A component of `cu16_le`.
pub struct Cu16Le;
/// A component of `ci8`.
pub struct Ci8;
/// A component of `cu8`.
pub struct Cu8;

impl Component for Cf32Le {
    const BYTES: usize = 4;
    const IS_F32: bool = true;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        f32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }
}

impl Component for Cf32Be {
    const BYTES: usize = 4;
    const IS_F32: bool = true;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        f32::from_be_bytes([b[0], b[1], b[2], b[3]])
    }
}

impl Cf64Le {
    #[inline(always)]
    fn read_wide(b: &[u8]) -> f64 {
        f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }
}

impl Component for Cf64Le {
    const BYTES: usize = 8;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        Self::read_wide(b) as f32
    }
}

impl Component for Ci32Le {
    const BYTES: usize = 4;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32 * (1.0 / 2_147_483_648.0)
    }
}

impl Component for Ci16Le {
    const BYTES: usize = 2;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        f32::from(i16::from_le_bytes([b[0], b[1]])) * (1.0 / 32768.0)
    }
}

impl Component for Ci16Be {
    const BYTES: usize = 2;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        f32::from(i16::from_be_bytes([b[0], b[1]])) * (1.0 / 32768.0)
    }
}

impl Component for Cu16Le {
    const BYTES: usize = 2;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        (f32::from(u16::from_le_bytes([b[0], b[1]])) - 32767.5) * (1.0 / 32767.5)
    }
}

impl Component for Ci8 {
    const BYTES: usize = 1;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        f32::from(b[0] as i8) * (1.0 / 128.0)
    }
}

impl Component for Cu8 {
    const BYTES: usize = 1;
    #[inline(always)]
    fn read(b: &[u8]) -> f32 {
        (f32::from(b[0]) - 127.5) * (1.0 / 127.5)
    }
}

/// Runs `$body` with the type `$D` standing for the component of `$datatype`.
#[macro_export]
macro_rules! with_component {
    ($datatype:expr, $D:ident => $body:expr) => {{
        use $crate as s;
        match $datatype {
            $crate::Datatype::Cf32Le => {
                type $D = s::Cf32Le;
                $body
            }
            $crate::Datatype::Cf32Be => {
                type $D = s::Cf32Be;
                $body
            }
            $crate::Datatype::Cf64Le => {
                type $D = s::Cf64Le;
                $body
            }
            $crate::Datatype::Ci32Le => {
                type $D = s::Ci32Le;
                $body
            }
            $crate::Datatype::Ci16Le => {
                type $D = s::Ci16Le;
                $body
            }
            $crate::Datatype::Ci16Be => {
                type $D = s::Ci16Be;
                $body
            }
            $crate::Datatype::Cu16Le => {
                type $D = s::Cu16Le;
                $body
            }
            $crate::Datatype::Ci8 => {
                type $D = s::Ci8;
                $body
            }
            $crate::Datatype::Cu8 => {
                type $D = s::Cu8;
                $body
            }
        }
    }};
}
