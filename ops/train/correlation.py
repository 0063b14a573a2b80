"""Numpy reference of the input kind `correlation`: pairwise generalised cross-correlation of aligned frames.

Everything is float64 and written for reading, not for speed.
"""

from dataclasses import dataclass

import numpy as np

# Resampling: half the kernel's length in samples of the lower rate, and the Kaiser window's beta. The error
# is -76 dB or less up to 0.42 of the lower rate.
HALF = 16
BETA = 8.0
# A window shorter than this many times the largest lag has too little in common with its shifted partner.
MIN_WINDOW = 4


@dataclass
class Frame:
    """One receiver's frame: complex samples, the rate in hertz, and its first sample's instant.

    `start_ns` is an integer with the receiver's configured delay already subtracted.
    """

    samples: np.ndarray
    rate: float
    start_ns: int


@dataclass
class Settings:
    """The bundle's keys: hertz from the centre, seconds, counts."""

    band_hz: tuple
    max_lag_s: float
    lags: int
    windows: int
    weighting: str = "none"

    @property
    def lag_step(self):
        """Seconds from one lag to the next."""
        return 2.0 * self.max_lag_s / (self.lags - 1)


def kernel(u, cutoff):
    """The low-pass interpolation kernel at `u` samples of the stream, cut off at `cutoff` of its Nyquist."""
    v = u * cutoff
    shape = np.i0(BETA * np.sqrt(np.maximum(0.0, 1.0 - (v / HALF) ** 2))) / np.i0(BETA)
    return np.where(np.abs(v) < HALF, cutoff * np.sinc(v) * shape, 0.0)


def common_span(frames, settings):
    """Returns the common rate in hertz, the seconds from each frame's start to the first instant, and the
    samples a window.

    The kernel never reaches over a frame's end, so nothing is made up at the edges.
    """
    rate = min(f.rate for f in frames)
    origin = min(f.start_ns for f in frames)
    # Integers are subtracted before they become floating point: nanoseconds since 1970 have 61 bits.
    offsets = [(f.start_ns - origin) * 1e-9 for f in frames]
    first = max(o + HALF / rate for o in offsets)
    last = min(o + (len(f.samples) - 1) / f.rate - HALF / rate for o, f in zip(offsets, frames))
    # A millionth of a sample, so that rounding does not decide about a sample.
    total = max(0, int(np.floor((last - first) * rate + 1e-6)) + 1)
    return rate, [first - o for o in offsets], total // settings.windows


def long_enough(frames, settings):
    """Whether the frames' windows are long enough for the largest lag."""
    rate, _, window = common_span(frames, settings)
    return window >= MIN_WINDOW * settings.max_lag_s * rate


def resampled(frame, begin, rate, count):
    """`count` samples at `rate`, the first `begin` seconds after the frame's first sample."""
    at = (begin + np.arange(count) / rate) * frame.rate
    cutoff = rate / frame.rate
    reach = int(np.ceil(HALF / cutoff))
    base = np.floor(at).astype(int)
    out = np.zeros(count, complex)
    for k in range(1 - reach, reach + 1):
        index = base + k
        inside = (index >= 0) & (index < len(frame.samples))
        value = frame.samples[np.clip(index, 0, len(frame.samples) - 1)]
        out += np.where(inside, value * kernel(at - index, cutoff), 0.0)
    return out


def spectra(stream, window, settings, rate):
    """The windows' spectra [windows, bins], bins of the band only, and the bins' frequencies in hertz."""
    size = 1
    while size < window + 2.0 * settings.max_lag_s * rate:
        size *= 2
    parts = stream[: window * settings.windows].reshape(settings.windows, window)
    # The carrier: the mean of every window.
    parts = parts - parts.mean(axis=1, keepdims=True)
    hertz = np.fft.fftfreq(size, 1.0 / rate)
    band = (hertz >= settings.band_hz[0]) & (hertz <= settings.band_hz[1])
    return np.fft.fft(parts, size, axis=1)[:, band], hertz[band]


def parabola(before, peak, after):
    """Where a parabola through three points has its vertex, in steps from the middle one, -0.5 to 0.5."""
    curve = before - 2.0 * peak + after
    return np.where(
        curve < 0.0, np.clip(0.5 * (before - after) / np.where(curve < 0, curve, 1.0), -0.5, 0.5), 0
    )


def peak_lag(magnitude, step):
    """The lag of the largest magnitude, seconds; at either end the end itself."""
    m = int(np.argmax(magnitude))
    shift = 0.0
    if 0 < m < len(magnitude) - 1:
        shift = float(parabola(*magnitude[m - 1 : m + 2]))
    return (m - len(magnitude) // 2 + shift) * step


def pair(one, other, hertz, window, rate, settings):
    """Magnitudes [windows, lags] of one pair from its two spectra: 1 where two equal signals meet."""
    energies = np.sqrt((np.abs(one) ** 2).sum(axis=1) * (np.abs(other) ** 2).sum(axis=1))
    cross = np.conj(one) * other
    if settings.weighting == "phat":
        size = np.abs(cross)
        # The carrier's bin holds rounding errors.
        there = size > 1e-12 * size.mean(axis=1, keepdims=True)
        cross = np.divide(cross, size, out=np.zeros_like(cross), where=there)
        energies = there.sum(axis=1).astype(float)
    lags = (np.arange(settings.lags) - settings.lags // 2) * settings.lag_step
    turned = cross @ np.exp(2j * np.pi * np.outer(hertz, lags))
    return np.abs(turned) / np.where(energies > 0, energies, 1.0)[:, None]


def correlation(frames, settings):
    """Returns correlation [P, L], lag_step, scatter [P] and mask [R].

    `frames` has a Frame for every slot, or None where a receiver is absent.
    """
    pairs = [(i, j) for i in range(len(frames)) for j in range(i + 1, len(frames))]
    out = np.zeros((len(pairs), settings.lags))
    scatter = np.zeros(len(pairs))
    mask = np.zeros(len(frames))
    slots = [i for i, f in enumerate(frames) if f is not None]
    mask[slots] = 1.0
    if len(slots) < 2:
        return out, settings.lag_step, scatter, mask
    if not long_enough([frames[i] for i in slots], settings):
        raise ValueError("the frames have too little time in common")
    rate, begins, window = common_span([frames[i] for i in slots], settings)
    found = {}
    for i, begin in zip(slots, begins):
        stream = resampled(frames[i], begin, rate, window * settings.windows)
        found[i], hertz = spectra(stream, window, settings, rate)
    for p, (i, j) in enumerate(pairs):
        if i not in found or j not in found:
            continue
        magnitude = pair(found[i], found[j], hertz, window, rate, settings)
        out[p] = magnitude.mean(axis=0)
        if settings.windows > 1:
            peaks = [peak_lag(row, settings.lag_step) for row in magnitude]
            scatter[p] = np.std(peaks, ddof=1) / np.sqrt(settings.windows)
    return out, settings.lag_step, scatter, mask
