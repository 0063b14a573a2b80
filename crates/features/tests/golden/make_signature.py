#!/usr/bin/env python3
"""Makes signature.json, signature.pool and signature.bin: frames, and their `kind = "signature"` by NumPy.

    pip install numpy==2.4.6
    python make_signature.py            # writes the three files beside itself

`signature` below is the definition, in float64 and without regard to speed. signature.pool has the bytes of
all frames one after another, signature.bin the tensors [20, 512] as little-endian float32.
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
COLUMNS, STRETCH, ZOOMED, SHOWN = 512, 8192, 4096, 1024
SIZES = sorted([64 << k for k in range(8)] + [96 << k for k in range(7)])


def loudest(energies):
    """The place of the loudest; a later one has to be louder by a twentieth than the one before it."""
    best = 0
    for place, energy in enumerate(energies):
        if energy > 1.05 * energies[best]:
            best = place
    return best


def stretch(x):
    """The loudest 8192 samples at unit mean power; None for silence."""
    if len(x) > STRETCH:
        last = len(x) - STRETCH
        starts = sorted({*range(0, last + 1, STRETCH // 2), last})
        start = starts[loudest([(abs(x[s : s + STRETCH]) ** 2).sum() for s in starts])]
        x = x[start : start + STRETCH]
    power = (abs(x) ** 2).mean()
    return x / np.sqrt(power) if power > 0 else None


def level(power, length):
    """Decades against their mean, of spectra of windows of this length."""
    decades = np.log10(power / (power.mean() + 1e-2 * 0.375 * length) + 1e-6)
    return decades - decades.mean()


def welch(x, size=COLUMNS):
    """Power spectra [blocks, size] of blocks that overlap by half; a short sequence is a block of its own."""
    n = min(len(x), size)
    window = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    starts = range(0, max(len(x) - size, 0) + 1, size // 2)
    return np.array([abs(np.fft.fft(x[s : s + n] * window, size)) ** 2 for s in starts])


def mean_and_maximum(x):
    """Two rows in rising frequency."""
    power = np.fft.fftshift(welch(x), axes=1)
    length = min(len(x), COLUMNS)
    return level(power.mean(0), length), level(power.max(0), length * len(power))


def real_spectrum(x):
    """The spectrum of a real sequence without its mean, 0 to half of the rate."""
    power = welch(x - x.mean(), 2 * COLUMNS).mean(0)
    return level(power[:COLUMNS], min(len(x), 2 * COLUMNS))


def shortest_arc(excess):
    """Start and length of the shortest arc with 98 % of the excess; of equal ones the one with most."""
    n, total = len(excess), excess.sum()
    twice = np.concatenate([excess, excess])
    for length in range(1, n + 1):
        sums = np.array([twice[start : start + length].sum() for start in range(n)])
        if total > 0 and sums.max() >= 0.98 * total and length <= 0.95 * n:
            return int(sums.argmax()), length
    return n - n // 2, n


def find_band(power):
    """The occupied band of powers of mean 1."""
    size = len(power)
    width = min(max(size // 128, 4), 16)
    cells = power.reshape(-1, width).mean(1)
    near = 0.25 * (np.roll(cells, 1) + np.roll(cells, -1)) + 0.5 * cells
    floor = np.sort(near)[len(near) // 5]
    gains = (near / (near + 2 * floor + 1e-9)) ** 2
    excess = np.maximum(near - 2 * floor - 1e-6, 0)
    start, length = shortest_arc(excess + 0.05 / len(cells) * np.minimum(near, floor))
    inside = np.concatenate([near, near])[start : start + length].mean()
    return {
        "width": width,
        "cells": cells,
        "gains": gains,
        "centre": (start * width + length * width // 2) % size,
        "occupied": length * width,
        "snr": max((inside - floor) / (floor + 1e-6), 0),
        "peak": cells.max(),
    }


def zoom(spectrum, band, length):
    """The bins about the middle of the band as a stream, and their places."""
    size, width = len(spectrum), band["width"]
    wanted = min(max(band["occupied"] + (band["occupied"] + 1) // 2, 128), size)
    zoomed = next(n for n in SIZES if n >= wanted)
    bins = (band["centre"] - zoomed // 2 + np.arange(zoomed)) % size
    middles = (np.arange(-1, size // width + 1) + 0.5) * width - 0.5
    gains = np.interp(np.arange(size), middles, np.pad(band["gains"], 1, mode="wrap"))
    stream = np.fft.ifft(np.fft.ifftshift((spectrum * gains)[bins]))
    return stream[: -(-length * zoomed // size)], bins


def repetition(power, band, bins, length):
    """Autocorrelation of the whitened bins in standard deviations under noise."""
    size, width = len(power), band["width"]
    cells = band["cells"]
    reach = min(max(band["occupied"] // width // 8, 1), 8, (len(cells) - 1) // 2)
    wide = np.mean([np.roll(cells, k) for k in range(-reach, reach + 1)], axis=0)
    gains = band["gains"][bins // width]
    white = (power[bins] / (wide[bins // width] + 1e-12) - 1) * gains
    lags = abs(np.fft.fft(white))[1 : len(bins) // 2 + 1]
    lags = lags / np.sqrt((gains**2).sum() * size / length + 1e-12)
    lags = np.pad(np.minimum(lags, 30) / 4, (0, 4096 - len(lags)))
    return lags[:COLUMNS], lags[COLUMNS:].reshape(COLUMNS, 7).max(1)


def histogram(amplitude, cosine, sine):
    """Square roots of shares, 16 amplitudes by 32 phase steps."""
    bins = np.minimum((amplitude * 6.5).astype(int), 15)
    steps = np.round(np.arctan2(sine, cosine) / (2 * np.pi / 32)).astype(int)
    counts = np.bincount(bins * 32 + (steps + 16) % 32, minlength=COLUMNS)
    return np.sqrt(counts / len(amplitude))


def at_unit_level(stream):
    """The loudest 4096 samples, at unit level while they are on."""
    if len(stream) > ZOOMED:
        starts = range(0, len(stream) - ZOOMED + 1, 256)
        start = 256 * loudest([(abs(stream[s : s + ZOOMED]) ** 2).sum() for s in starts])
        stream = stream[start : start + ZOOMED]
    power = abs(stream) ** 2
    return stream / np.sqrt((power**2).mean() / power.mean())


def steps(z):
    """Phase steps from the mean step, fading where the stream is weak, and how much alike they are."""
    step = z[1:] * z[:-1].conj()
    step = np.concatenate([step[:1], step])
    mean = step.mean()
    coherence = abs(mean) / abs(step).mean()
    return step * mean.conj() / abs(mean) / (abs(step) + 0.05), coherence


def shown(z):
    """Where the loudest 1024 samples are."""
    starts = range(0, max(len(z) - SHOWN, 0) + 1, 256)
    start = 256 * loudest([(abs(z[s : s + SHOWN]) ** 2).sum() for s in starts])
    return slice(start, start + SHOWN)


def facts(x, band, bins, size, z, coherence):
    """Thirteen scalars, 32 columns each."""
    power = abs(z) ** 2
    values = [
        np.log10(band["occupied"] / size),
        min(band["centre"], size - band["centre"]) / size,
        np.log10(len(x) / 1024),
        min(np.log10(band["snr"] + 0.01), 6),
        np.log10((abs(x) ** 2).max() + 0.01),
        abs(x.mean()) ** 2,
        np.log10(len(z) / 1024),
        band["occupied"] / len(bins),
        np.log10(power.max() + 0.01),
        power.mean(),
        (power > 0.25).mean(),
        coherence,
        np.log10(band["peak"] + 0.01),
    ]
    return np.pad(np.repeat(values, 32), (0, COLUMNS - 32 * len(values)))


def signature(x):
    """The tensor [20, 512] of one channel."""
    x = stretch(x)
    if x is None:
        return np.zeros((20, COLUMNS))
    size = max(1 << (len(x) - 1).bit_length(), 64)
    spectrum = np.fft.fft(x, size)
    power = abs(spectrum) ** 2 / len(x)
    band = find_band(power)
    stream, bins = zoom(spectrum, band, len(x))
    z = at_unit_level(stream)
    amplitude = abs(z)
    turned, coherence = steps(z)
    rows = [*mean_and_maximum(x), *mean_and_maximum(z), facts(x, band, bins, size, z, coherence)]
    rows += [real_spectrum(amplitude**2), real_spectrum(turned.imag)]
    rows.append(mean_and_maximum(z**2 / (amplitude + 1e-3))[0])
    rows.append(mean_and_maximum(z**4 / (amplitude**3 + 1e-3))[0])
    rows += repetition(power, band, bins, len(x))
    run = shown(z)
    for values in (np.minimum(amplitude, 4), np.log10(amplitude + 0.02), turned.real, turned.imag):
        values = values[run]
        rows += np.pad(values, (0, SHOWN - len(values))).reshape(2, COLUMNS).tolist()
    rows.append(histogram(amplitude, turned.real, turned.imag))
    return np.array(rows)


def noise(rng, count, level):
    """Complex white noise of this mean power."""
    return np.sqrt(level / 2) * (rng.normal(size=count) + 1j * rng.normal(size=count))


def shaped(rng, symbols, samples, offset, count):
    """Symbols with a raised-cosine pulse of so many samples a symbol, at an offset in cycles per sample."""
    t = np.arange(-6 * samples, 6 * samples + 1) / samples
    pulse = np.sinc(t) * np.cos(0.35 * np.pi * t) / (1 - (0.7 * t) ** 2 + 1e-9)
    chips = np.zeros((count // samples + 16) * samples, complex)
    chips[::samples] = rng.choice(symbols, len(chips) // samples)
    x = np.convolve(chips, pulse)[6 * samples :][:count]
    return x / np.sqrt((abs(x) ** 2).mean()) * np.exp(2j * np.pi * offset * np.arange(count))


def ofdm(rng, carriers, prefix, spacing, count):
    """QPSK on so many carriers, `spacing` bins in the transform, with a cyclic prefix."""
    parts = []
    while sum(map(len, parts)) < count:
        bins = np.zeros(spacing, complex)
        bins[np.arange(-carriers // 2, carriers // 2)] = rng.choice([1, 1j, -1, -1j], carriers)
        symbol = np.fft.ifft(bins)
        parts.append(np.concatenate([symbol[-prefix:], symbol]))
    x = np.concatenate(parts)[:count]
    return x / np.sqrt((abs(x) ** 2).mean())


def cases(rng):
    """Name, datatype and samples of ±1 full scale."""
    bpsk, qpsk = np.array([1, -1]), np.exp(0.25j * np.pi * np.array([1, 3, 5, 7]))
    yield "noise", "ci16_le", 0.1 * noise(rng, 3000, 1)
    yield "narrow bpsk", "ci16_le", 0.1 * (shaped(rng, bpsk, 40, 0.1713, 8192) + noise(rng, 8192, 0.3))
    x = ofdm(rng, 52, 16, 128, 6000) * np.exp(2j * np.pi * 0.4687 * np.arange(6000))
    yield "ofdm across the ends", "ci16_le", 0.1 * (x + noise(rng, 6000, 0.01))
    yield "short qpsk", "ci16_le", 0.2 * (shaped(rng, qpsk, 3, -0.07, 128) + noise(rng, 128, 0.02))
    burst = np.zeros(20000, complex)
    burst[13000:16000] = shaped(rng, qpsk, 8, -0.21, 3000)
    yield "burst", "cu8", 0.3 * (burst + noise(rng, 20000, 0.005))
    frequency = np.repeat(rng.choice([-0.05, 0.05], 400), 24)[:8192] - 0.12
    fsk = np.exp(2j * np.pi * np.cumsum(frequency))
    yield "fsk", "cu8", 0.4 * (fsk + noise(rng, 8192, 0.05))


def stored(x, datatype):
    """The bytes, and the samples as they are read from them."""
    pairs = np.stack([x.real, x.imag], 1)
    if datatype == "cu8":
        pairs = np.clip(np.round(pairs * 127.5 + 127.5), 0, 255).astype(np.uint8)
        values = (pairs - 127.5) / 127.5
    else:
        pairs = np.clip(np.round(pairs * 32768), -32768, 32767).astype("<i2")
        values = pairs / 32768.0
    return pairs.tobytes(), values[:, 0] + 1j * values[:, 1]


def main():
    listed, pool, tensors = [], b"", b""
    for name, datatype, x in cases(np.random.default_rng(7)):
        frame, x = stored(x, datatype)
        listed.append({"name": name, "datatype": datatype, "bytes": len(frame)})
        pool += frame
        tensors += signature(x).astype("<f4").tobytes()
    (HERE / "signature.json").write_text(json.dumps(listed, indent=1) + "\n")
    (HERE / "signature.pool").write_bytes(pool)
    (HERE / "signature.bin").write_bytes(tensors)


if __name__ == "__main__":
    main()
