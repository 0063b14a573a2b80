//! Scalars about a frame, spread over a row.

use super::band::Band;
use super::layout::FACT_WIDTH;
use super::sequences::Sequences;
use super::stretch::Stretch;

/// Lengths are given as decades of this many samples.
const SAMPLES: f32 = 1024.0;

/// Keeps decades finite.
const FLOOR: f32 = 0.01;

/// Most decades of signal over noise.
const MAX_SNR: f32 = 6.0;

/// What the facts are about.
pub(super) struct Facts<'a> {
    pub stretch: &'a Stretch,
    pub band: &'a Band,
    /// The bins that were zoomed at.
    pub zoomed: usize,
    pub z: &'a Sequences,
}

impl Facts<'_> {
    /// Writes each fact into its columns, zeros into the rest.
    pub(super) fn fill(&self, row: &mut [f32]) {
        let Self { stretch, band, zoomed, z } = self;
        let summary = &z.summary;
        let from_zero = band.centre.min(band.size - band.centre);
        let facts = [
            (band.occupied as f32 / band.size as f32).log10(),
            from_zero as f32 / band.size as f32,
            (stretch.re.len() as f32 / SAMPLES).log10(),
            (band.snr + FLOOR).log10().min(MAX_SNR),
            (stretch.peak + FLOOR).log10(),
            stretch.constant,
            (z.len() as f32 / SAMPLES).log10(),
            band.occupied as f32 / *zoomed as f32,
            (summary.peak + FLOOR).log10(),
            summary.mean,
            summary.on,
            summary.coherence,
            (band.peak + FLOOR).log10(),
        ];
        row.fill(0.0);
        for (columns, fact) in row.chunks_exact_mut(FACT_WIDTH).zip(facts) {
            columns.fill(fact);
        }
    }
}
