#!/usr/bin/env python3
"""Makes the golden vectors: features of random parameter sets by torchaudio, librosa and scipy.

    pip install torch==2.11.0 torchaudio==2.11.0 librosa==0.11.0 scipy==1.17.1 numpy==2.4.6
    python make.py            # writes pool.bin, golden.bin and golden.json beside itself

pool.bin    one complex64 recording; a case reads `instants * channels` samples from `offset` on
golden.bin  float32 outputs of all cases, one after another
golden.json {"versions": ..., "cases": [{reference, features, sample_rate, offset, instants, shape}, ...]}

`features` is the [features] table of a model.toml. What is common to all references (folding, the order of
the two halves, crop and reflection) is numpy; the rest is the references' own.
"""
import json
import pathlib
import random
import warnings

import librosa
import numpy as np
import scipy
import scipy.signal
import scipy.stats
import torch
import torchaudio

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
DEFAULTS = dict(
    kind="log_mel",
    num_channels=1,
    input="complex",
    n_fft=1024,
    window="hann",
    center=False,
    sides="two_sided",
    power=2.0,
    n_mels=128,
    f_min_hz=0.0,
    mel_scale="htk",
    mel_norm="none",
    log="ln",
    floor=1e-10,
)
N_FFTS = [16, 17, 20, 25, 31, 32, 48, 60, 63, 64, 75, 100, 101, 127, 128, 150, 175, 200, 243, 256, 300, 375]


def recording(n):
    """Noise with a slope, two tones and a chirp: no deep nulls, and nothing symmetric about 0 Hz."""
    rng = np.random.default_rng(3)
    t = np.arange(n)
    noise = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    sloped = scipy.signal.lfilter([1], [1, -0.5 * np.exp(-1.2j)], noise)
    tones = 2 * np.exp(0.7j * t) + np.exp(-1.9j * t) + np.exp(1j * (2.0 * t - 3e-4 * t * t))
    return (0.05 * (sloped + tones)).astype(np.complex64)


class Torch:
    """torch.stft on complex input and torchaudio's banks, float32."""

    def stft(self, x, c):
        n, win = c["n_fft"], c["win_length"]
        window = {
            "hann": torch.hann_window,
            "hamming": torch.hamming_window,
            "blackman": torch.blackman_window,
            "hann_symmetric": lambda k: torch.hann_window(k, periodic=False),
            "rectangular": torch.ones,
        }[c["window"]](win)
        onesided = not np.iscomplexobj(x)
        return torch.stft(torch.from_numpy(x), n, c["hop_length"], win, window, c["center"], "reflect",
                          onesided=onesided, return_complex=True).numpy()

    def bank(self, power, c, rate, bands):
        f_max = c.get("f_max_hz", rate / 2)
        bins = c["n_fft"] // 2 + 1
        if c["mel_scale"] == "linear":
            bank = torchaudio.functional.linear_fbanks(bins, c["f_min_hz"], f_max, bands, int(rate))
        else:
            norm = None if c["mel_norm"] == "none" else "slaney"
            bank = torchaudio.functional.melscale_fbanks(
                bins, c["f_min_hz"], f_max, bands, int(rate), norm, c["mel_scale"]
            )
        return (torch.from_numpy(np.ascontiguousarray(power)).mT @ bank).mT.numpy()

    def log(self, x, c):
        x = torch.from_numpy(np.ascontiguousarray(x))
        if c["log"] == "db":
            return torchaudio.functional.amplitude_to_DB(x, 10.0, c["floor"], 0.0).numpy()
        return {"ln": torch.log, "log10": torch.log10}[c["log"]](x + c["floor"]).numpy()

    def standardize(self, x):
        x = torch.from_numpy(x)
        return ((x - x.mean()) / x.std(correction=0)).numpy()


class Librosa:
    """librosa's stft takes real input only; the complex one follows from it by linearity."""

    def stft(self, x, c):
        def real(x):
            # Padded here as librosa documents it: with center=True, 0.11 reflects the tail out of a slice
            # that is too short at some frame lengths, and then differs from the others in the last column.
            if c["center"]:
                x = np.pad(x, c["n_fft"] // 2, mode="reflect")
            return librosa.stft(x, n_fft=c["n_fft"], hop_length=c["hop_length"], win_length=c["win_length"],
                                window=self.window(c), center=False)

        if not np.iscomplexobj(x):
            return real(x)
        re, im = real(np.ascontiguousarray(x.real)), real(np.ascontiguousarray(x.imag))
        negative = (np.conj(re) + 1j * np.conj(im))[1:(c["n_fft"] + 1) // 2][::-1]
        return np.concatenate([re + 1j * im, negative])

    def window(self, c):
        name, win = c["window"], c["win_length"]
        if name == "hann_symmetric":
            return scipy.signal.get_window("hann", win, fftbins=False)
        return "boxcar" if name == "rectangular" else name

    def bank(self, power, c, rate, bands):
        norm = None if c["mel_norm"] == "none" else "slaney"
        edges = dict(n_mels=bands, fmin=c["f_min_hz"], fmax=c.get("f_max_hz"))
        scale = dict(htk=c["mel_scale"] == "htk", norm=norm)
        return librosa.filters.mel(sr=rate, n_fft=c["n_fft"], **edges, **scale) @ power

    def log(self, x, c):
        if c["log"] == "db":
            return librosa.power_to_db(x, ref=1.0, amin=c["floor"], top_db=None)
        return {"ln": np.log, "log10": np.log10}[c["log"]](x + np.float32(c["floor"]))

    def standardize(self, x):
        return (x - x.mean()) / x.std()


class Scipy:
    """scipy.signal.ShortTimeFFT, in float64; no filterbank."""

    def stft(self, x, c):
        n, win, hop = c["n_fft"], c["win_length"], c["hop_length"]
        name = c["window"].removesuffix("_symmetric").replace("rectangular", "boxcar")
        window = np.zeros(n)
        left = (n - win) // 2
        window[left:left + win] = scipy.signal.get_window(name, win, fftbins=c["window"] != "hann_symmetric")
        if c["center"]:
            x = np.pad(x, n // 2, mode="reflect")
        columns = 1 + (len(x) - n) // hop
        mode = "twosided" if np.iscomplexobj(x) else "onesided"
        wide = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
        # Column p starts at p * hop - n // 2: hop 1 in columns, every hop-th kept, so that any hop starts at
        # sample 0.
        stft = scipy.signal.ShortTimeFFT(window, 1, fs=1.0, fft_mode=mode)
        first = n // 2
        return stft.stft(wide, p0=first, p1=first + (columns - 1) * hop + 1, k_offset=0)[:, ::hop]

    def log(self, x, c):
        if c["log"] == "db":
            return 10 * np.log10(np.maximum(x, c["floor"]))
        return {"ln": np.log, "log10": np.log10}[c["log"]](x + c["floor"])

    def standardize(self, x):
        return scipy.stats.zscore(x, axis=None)


def fit(x, columns):
    """Centre crop or numpy's reflection of the last axis."""
    have = x.shape[-1]
    if columns <= have:
        left = (have - columns) // 2
        return x[..., left:left + columns]
    left = (columns - have) // 2
    mode = "edge" if have == 1 else "reflect"
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(left, columns - have - left)], mode=mode)


def features(ref, x, c, rate):
    """x: (channels, instants) complex64 -> (channels, rows, columns)"""
    if c["kind"] == "iq":
        out = np.stack([x.real, x.imag], axis=1)
    else:
        out = np.stack([rows(ref, channel, c, rate) for channel in x])
    if "frames" in c:
        out = fit(out, c["frames"])
    if c["kind"] != "iq":
        out = ref.log(out, c)
    normalize = c.get("normalize", "none" if c["kind"] == "iq" else "frame")
    if normalize == "frame":
        out = ref.standardize(np.ascontiguousarray(out))
    elif normalize == "channel":
        out = np.stack([ref.standardize(np.ascontiguousarray(channel)) for channel in out])
    elif normalize == "fixed":
        out = (out - c["mean"]) / c["std"]
    return np.ascontiguousarray(out, dtype=np.float32)


def rows(ref, x, c, rate):
    """One channel -> (rows, columns) of powers."""
    n, half = c["n_fft"], c["n_fft"] // 2
    if c["input"] == "envelope":
        power = np.abs(ref.stft(np.abs(x), c)) ** c["power"]
        positive, negative = power, power
    else:
        power = np.abs(ref.stft(x, c)) ** c["power"]
        positive, negative = power[:half + 1], power[-np.arange(half + 1) % n]
    if c["sides"] == "two_sided":
        if c["kind"] == "log_spectrum":
            whole = power if len(power) == n else np.concatenate([power, power[1:(n + 1) // 2][::-1]])
            return np.fft.fftshift(whole, axes=0)
        bands = c["n_mels"] // 2
        return np.concatenate([ref.bank(negative, c, rate, bands)[::-1], ref.bank(positive, c, rate, bands)])
    kept = positive if c["sides"] == "positive" else positive + negative
    return kept if c["kind"] == "log_spectrum" else ref.bank(kept, c, rate, c["n_mels"])


def draw(rng, name):
    """A random [features] table, rate and frame length; keys are left out at random, to try defaults too."""
    c = dict(n_fft=rng.choice(N_FFTS))
    c["kind"] = (
        rng.choices(["log_mel", "log_spectrum", "iq"], [8, 2, 1])[0] if name != "scipy" else "log_spectrum"
    )
    n = c["n_fft"]
    if name == "librosa" and n % 2 and c["kind"] == "log_mel":
        # Odd lengths: torchaudio stretches the grid, librosa does not; we follow torchaudio.
        c["n_fft"] = n = n + 1
    choose = lambda key, values: c.update({key: rng.choice(values)}) if rng.random() < 0.75 else None
    rate = rng.choice([8000, 16000, 44100, 48000, 192000, 250000, 2400000])
    if rng.random() < 0.5:
        c["sample_rate_hz"] = float(rate)
    choose("num_channels", [1, 1, 2, 3])
    choose("input", ["complex", "complex", "envelope"])
    choose("win_length", [n, max(4, n // 2), max(4, n * 2 // 3), n - 1])
    choose("hop_length", [n // 2, n // 3, n // 4, n, n + 5, 7])
    choose("window", ["hann", "hamming", "blackman", "hann_symmetric", "rectangular"])
    choose("center", [False, True])
    choose("sides", ["two_sided", "positive", "folded"])
    choose("power", [1.0, 2.0, round(rng.uniform(0.3, 3.0), 2)])
    c["n_mels"] = 2 * rng.randint(1, max(2, min(24, n // 6)))
    scales = ["htk", "slaney"] + (["linear"] if name == "torchaudio" else [])
    choose("mel_scale", scales)
    if c.get("mel_scale") != "linear":
        choose("mel_norm", ["none", "slaney"])
    if rng.random() < 0.4:
        c["f_min_hz"] = round(rng.uniform(0, 0.1) * rate, 1)
    if rng.random() < 0.4:
        c["f_max_hz"] = round(rng.uniform(0.25, 0.5) * rate, 1)
    choose("log", ["ln", "log10", "db"])
    choose("floor", [1e-10, 1e-8, 1e-6, 1e-3])
    choose("normalize", ["frame", "channel", "fixed", "none"])
    if c.get("normalize") == "fixed":
        c["mean"], c["std"] = round(rng.uniform(-20, 5), 3), round(rng.uniform(0.5, 8), 3)
    instants = n + rng.choice([0, 1, n // 2, n, 2 * n, 3 * n, 500])
    if rng.random() < 0.5:
        c["frames"] = rng.choice([1, 2, 5, 8, 17])
    return c, rate, instants


def main():
    rng = random.Random(20260)
    pool = recording(8192)
    pool.tofile(HERE / "pool.bin")
    torch.set_num_threads(1)
    references = {"torchaudio": Torch(), "librosa": Librosa(), "scipy": Scipy()}
    cases, outputs = [], []
    for name, count in [("torchaudio", 200), ("librosa", 100), ("scipy", 40)]:
        while count:
            table, rate, instants = draw(rng, name)
            full = DEFAULTS | table
            full.setdefault("win_length", full["n_fft"])
            full.setdefault("hop_length", full["n_fft"] // 4)
            channels = full["num_channels"]
            offset = rng.randrange(len(pool) - instants * channels)
            x = pool[offset:offset + instants * channels].reshape(instants, channels).T
            out = features(references[name], np.ascontiguousarray(x), full, rate)
            if out.size > 4000 or not out.std() > 1e-3:
                continue  # too large to keep, or everything at the floor
            count -= 1
            outputs.append(out)
            case = dict(reference=name, features=table, sample_rate=float(rate), offset=offset)
            cases.append(case | dict(instants=instants, shape=list(out.shape)))
    np.concatenate([out.ravel() for out in outputs]).tofile(HERE / "golden.bin")
    versions = {m.__name__: m.__version__ for m in (torch, torchaudio, librosa, scipy, np)}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "golden.json").write_text(f'{{"versions": {json.dumps(versions)},\n"cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases, {sum(out.size for out in outputs)} values")


if __name__ == "__main__":
    main()
