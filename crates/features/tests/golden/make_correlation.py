#!/usr/bin/env python3
"""Makes correlation.json: small frame sets and what the reference ops/train/correlation.py says of them.

    pip install numpy==2.4.6
    python make_correlation.py            # writes correlation.json beside itself

Samples are ci16 / 32768, I then Q, one flat list for a receiver; null is an empty slot. `start_ns` is a
string, as an integer of 61 bits does not survive every JSON reader. `correlation` has a row for every pair
of slots (0, 1), (0, 2) ... and is rounded to 9 digits; `scatter` is in seconds.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
START = 1_700_000_000_123_456_789
TONES = 160


def load(path):
    """A module by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up here.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


sys.dont_write_bytecode = True
reference = load(HERE.parents[3] / "ops/train/correlation.py")


def source(rng, width):
    """Noise within ±`width` hertz as a sum of tones: it can be evaluated at any instant, in seconds."""
    hertz = rng.uniform(-width, width, TONES)
    heights = rng.normal(size=TONES) + 1j * rng.normal(size=TONES)
    return lambda t: (heights * np.exp(2j * np.pi * np.outer(t, hertz))).sum(1) / np.sqrt(2 * TONES)


def recorded(rng, emission, slot, rate, count, begin, delay, noise):
    """A receiver's ci16 samples [count, 2] and its first sample's instant in ns: emission, carrier, noise."""
    since = round(begin * 1e9)
    t = since * 1e-9 + np.arange(count) / rate
    x = 0.25 * emission(t - delay) * np.exp(0.7j * slot) + 0.3 * np.exp(1j * slot)
    x = x + noise * (rng.normal(size=count) + 1j * rng.normal(size=count))
    samples = np.clip(np.round(np.stack([x.real, x.imag], 1) * 32768), -32768, 32767).astype(int)
    return samples, START + since


def case(name, seed, settings, noise, receivers):
    """One case; `receivers` has (rate, count, begin, delay) in hertz and seconds, or None where empty."""
    rng = np.random.default_rng(seed)
    emission = source(rng, 0.3 * min(r[0] for r in receivers if r))
    frames, written = [], []
    for slot, receiver in enumerate(receivers):
        if receiver is None:
            frames.append(None)
            written.append(None)
            continue
        rate, count, begin, delay = receiver
        samples, start = recorded(rng, emission, slot, rate, count, begin, delay, noise)
        frames.append(reference.Frame((samples[:, 0] + 1j * samples[:, 1]) / 32768, rate, start))
        written.append({"sample_rate": rate, "start_ns": str(start), "ci16": samples.reshape(-1).tolist()})
    correlation, _, scatter, _ = reference.correlation(frames, settings)
    check(name, receivers, correlation, settings)
    return {
        "name": name,
        "band_hz": list(settings.band_hz),
        "max_lag_s": settings.max_lag_s,
        "lags": settings.lags,
        "windows": settings.windows,
        "weighting": settings.weighting,
        "frames": written,
        "correlation": [[round(value, 9) for value in row] for row in correlation.tolist()],
        "scatter": scatter.tolist(),
    }


def check(name, receivers, correlation, settings):
    """Every peak has to be within half a lag step of the delay that the case was made with."""
    pairs = [(i, j) for i in range(len(receivers)) for j in range(i + 1, len(receivers))]
    for row, (i, j) in zip(correlation, pairs):
        if receivers[i] and receivers[j]:
            error = reference.peak_lag(row, settings.lag_step) - (receivers[j][3] - receivers[i][3])
            print(f"{name} {i}-{j}: height {row.max():.3f}, off by {error * 1e6:.2f} µs", file=sys.stderr)
            assert abs(error) < 0.5 * settings.lag_step, (name, i, j, error)


def main():
    cases = [
        case(
            "two, one window",
            1,
            reference.Settings((-4000.0, 4000.0), 1e-3, 33, 1),
            0.02,
            [(12000.0, 400, 0.0, 0.0), (12000.0, 400, 0.0021, 0.00013)],
        ),
        case(
            "three rates, four windows",
            2,
            reference.Settings((-3500.0, 3000.0), 6e-4, 25, 4),
            0.05,
            [
                (12001.0843, 420, 0.0004, 0.0),
                (12001.0256, 410, 0.0, 0.00031),
                (12003.0, 400, 0.00123, -0.00022),
            ],
        ),
        case(
            "phat, an empty slot, a faster receiver",
            3,
            reference.Settings((-2500.0, 2500.0), 5e-4, 21, 4, "phat"),
            0.02,
            [
                (10000.0, 400, 0.0, 0.0),
                None,
                (10003.0, 500, 0.0007, 0.00027),
                (10000.4, 400, 0.001, -0.00011),
            ],
        ),
    ]
    text = json.dumps({"cases": cases}, separators=(",", ":"))
    (HERE / "correlation.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
