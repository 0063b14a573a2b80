//! How strong a frame is.

use sferic_samples::{Cf32Be, Cf32Le, Cf64Le, Ci8, Ci16Be, Ci16Le, Ci32Le, Component, Cu8, Cu16Le, Datatype};

/// The mean power of samples of all channels, dB over full scale: a complex tone of amplitude 1 has 0 dB,
/// samples that are all 0 minus infinity.
///
/// ```
/// use sferic_live::level;
/// use sferic_samples::Datatype;
/// let level = level(&[64, 0, 0, 192].map(|byte: u8| byte), Datatype::Ci8);
/// assert!((level - -6.02).abs() < 0.01);
/// ```
pub fn level(bytes: &[u8], datatype: Datatype) -> f64 {
    let (sum, components) = match datatype {
        Datatype::Cf32Le => power::<Cf32Le>(bytes),
        Datatype::Cf32Be => power::<Cf32Be>(bytes),
        Datatype::Cf64Le => power::<Cf64Le>(bytes),
        Datatype::Ci32Le => power::<Ci32Le>(bytes),
        Datatype::Ci16Le => power::<Ci16Le>(bytes),
        Datatype::Ci16Be => power::<Ci16Be>(bytes),
        Datatype::Cu16Le => power::<Cu16Le>(bytes),
        Datatype::Ci8 => power::<Ci8>(bytes),
        Datatype::Cu8 => power::<Cu8>(bytes),
    };
    10.0 * (2.0 * sum / components as f64).log10()
}

/// Whether a frame is over the squelch, dB of full scale; without one, all are. So is one whose level is no
/// number: who is to say what is wrong with its samples is the daemon.
pub fn is_over(squelch: Option<f64>, bytes: &[u8], datatype: Datatype) -> bool {
    squelch.is_none_or(|squelch| {
        let level = level(bytes, datatype);
        level > squelch || level.is_nan()
    })
}

/// The sum of the components' squares, and how many there are. In groups, so that the sum of many is exact
/// enough in float32 and the compiler vectorises it.
fn power<D: Component>(bytes: &[u8]) -> (f64, usize) {
    let groups = bytes.chunks(128 * D::BYTES).map(|group| {
        group.chunks_exact(D::BYTES).map(D::read).map(|component| component * component).sum::<f32>()
    });
    (groups.map(f64::from).sum(), bytes.len() / D::BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_of_full_scale_has_no_decibels() {
        let tone = |scale: f64| {
            (0..8192).map(move |n| (n as f64 * 0.37).sin_cos()).map(move |(q, i)| (scale * i, scale * q))
        };
        let cf32: Vec<u8> =
            tone(1.0).flat_map(|(i, q)| [i as f32, q as f32]).flat_map(f32::to_le_bytes).collect();
        assert!(level(&cf32, Datatype::Cf32Le).abs() < 1e-4);
        let ci16: Vec<u8> =
            tone(0.1 * 32768.0).flat_map(|(i, q)| [i as i16, q as i16]).flat_map(i16::to_le_bytes).collect();
        assert!((level(&ci16, Datatype::Ci16Le) + 20.0).abs() < 0.01);
        let cu8: Vec<u8> = tone(12.75).flat_map(|(i, q)| [(127.5 + i) as u8, (127.5 + q) as u8]).collect();
        assert!((level(&cu8, Datatype::Cu8) + 20.0).abs() < 0.3);
        assert_eq!(level(&[0; 32], Datatype::Cf64Le), f64::NEG_INFINITY);
        let over = |squelch| is_over(squelch, &cu8, Datatype::Cu8);
        assert!(over(None) && over(Some(-21.0)) && !over(Some(-19.0)));
        assert!(is_over(Some(0.0), &f32::NAN.to_le_bytes().repeat(2), Datatype::Cf32Le));
    }
}
