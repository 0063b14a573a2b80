#!/usr/bin/env python3
"""Times log-mel front ends side by side; started by ops/bench/features, which see.

The complex ones do the whole two-sided job: 64 bands over each half, ln(x + 1e-10), z-score. librosa and
torchaudio refuse complex input and are shown on the real part: half the transforms' work, and not the same
features. Every complex variant is checked against a float64 reference before it is timed.
"""
import argparse
import json
import statistics
import subprocess
import time
import warnings

import librosa
import numpy as np
import scipy.fft
import scipy.signal
import torch
import torchaudio

warnings.filterwarnings("ignore")
N_FFT, HOP, BANDS, RATE, FLOOR = 1024, 256, 128, 192_000, 1e-10
SIZES = [16384, 65536, 262144]
WINDOW = scipy.signal.get_window("hann", N_FFT).astype(np.float32)


def two_sided_bank(dtype=np.float32):
    """(n_fft, 128): torchaudio's bank of 64 bands for each half, rows in FFT order"""
    half = torchaudio.functional.melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, BANDS // 2, RATE).numpy()
    bank = np.zeros((N_FFT, BANDS), dtype)
    bank[:N_FFT // 2 + 1, BANDS // 2:] = half
    bank[-np.arange(N_FFT // 2 + 1) % N_FFT, :BANDS // 2] = half[:, ::-1]
    return bank


def finish(bands):
    """(T, bands) powers -> (bands, T)"""
    x = np.log(bands + np.float32(FLOOR)).T
    return (x - x.mean()) / x.std()


def frames(x):
    return np.lib.stride_tricks.sliding_window_view(x, N_FFT)[::HOP] * WINDOW


def power(x):
    return x.real * x.real + x.imag * x.imag


def reference(x):
    return finish(np.abs(np.fft.fft(frames(x.astype(np.complex128)))) ** 2 @ two_sided_bank(np.float64))


def variants():
    """name -> (takes complex, function of a numpy array)"""
    bank, window = two_sided_bank(), torch.from_numpy(WINDOW)
    bank_t = torch.from_numpy(bank.T.copy())
    real_bank = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=BANDS, htk=True, norm=None)
    audio = torchaudio.transforms.MelSpectrogram(RATE, N_FFT, hop_length=HOP, n_mels=BANDS, center=False)
    short = scipy.signal.ShortTimeFFT(WINDOW, HOP, fs=1.0, fft_mode="twosided")

    def torch_stft(x):
        with torch.inference_mode():
            options = dict(center=False, onesided=False, return_complex=True)
            s = torch.stft(torch.from_numpy(x), N_FFT, HOP, window=window, **options)
            m = (bank_t @ (s.real.square() + s.imag.square())).add_(FLOOR).log_()
            return ((m - m.mean()) / m.std(correction=0)).numpy()

    def torchaudio_real(x):
        with torch.inference_mode():
            m = audio(torch.from_numpy(x)).add_(FLOOR).log_()
            return ((m - m.mean()) / m.std(correction=0)).numpy()

    def scipy_short(x):
        columns = 1 + (len(x) - N_FFT) // HOP
        first = N_FFT // 2 // HOP
        return finish(power(short.stft(x, p0=first, p1=first + columns, k_offset=0)).T @ bank)

    def librosa_real(x):
        return finish((real_bank @ power(librosa.stft(x, n_fft=N_FFT, hop_length=HOP, center=False))).T)

    return {
        "torch.stft + matmul": (True, torch_stft),
        "scipy.fft + matmul": (
            True,
            lambda x: finish(power(scipy.fft.fft(frames(x), workers=1, overwrite_x=True)) @ bank),
        ),
        "scipy ShortTimeFFT + matmul": (True, scipy_short),
        "torchaudio MelSpectrogram (real part)": (False, torchaudio_real),
        "librosa.stft + cached bank (real part)": (False, librosa_real),
        "librosa.feature.melspectrogram (real part)": (
            False,
            lambda x: finish(
                librosa.feature.melspectrogram(
                    y=x, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=BANDS, center=False
                ).T
            ),
        ),
    }


def median_us(function, x, seconds=0.25):
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def ours(binary, size):
    out = subprocess.run([binary, str(size)], check=True, capture_output=True, text=True).stdout
    return {row["variant"]: row["us"] for row in map(json.loads, out.splitlines())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", required=True, help="the timing binary")
    parser.add_argument(
        "--rounds", type=int, default=9, help="each figure is the median over so many rounds in turn"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    peers = variants()
    for size in SIZES:
        iq = (rng.standard_normal(size) + 1j * rng.standard_normal(size)).astype(np.complex64)
        real = np.ascontiguousarray(iq.real)
        truth = reference(iq)
        for name, (is_complex, function) in peers.items():
            out = function(iq if is_complex else real)  # also warms it
            if is_complex and not np.abs(out - truth).max() < 2e-3:
                raise SystemExit(f"{name} does not compute these features")
        rounds = {}
        for _ in range(args.rounds):
            for name, us in ours(args.ours, size).items():
                rounds.setdefault(name, []).append(us)
            for name, (is_complex, function) in peers.items():
                rounds.setdefault(name, []).append(median_us(function, iq if is_complex else real))
        us = {name: statistics.median(values) for name, values in rounds.items()}
        fastest = min(us[name] for name, (is_complex, _) in peers.items() if is_complex)
        report(args.json, size, us, fastest)


def report(as_json, size, us, fastest):
    names = {
        "fft_alone": "FFTs alone (rustfft)",
        "log_mel": "**sferic** cf32_le",
        "log_mel_ci8": "**sferic** ci8",
        "log_mel_envelope": "**sferic** envelope",
    }
    if not as_json:
        print(f"\n| N = {size} | µs | of its FFTs | of sferic |\n| --- | ---: | ---: | ---: |")
    for name, value in us.items():
        of_fft, of_ours = value / us["fft_alone"], value / us["log_mel"]
        if as_json:
            ratios = dict(of_fft=round(of_fft, 3), of_sferic=round(of_ours, 3))
            print(json.dumps(dict(samples=size, variant=name, us=round(value, 2)) | ratios))
        else:
            print(f"| {names.get(name, name)} | {value:.0f} | {of_fft:.2f} | {of_ours:.2f} |")
    if not as_json:
        print(f"\nsferic takes {us['log_mel'] / us['fft_alone']:.2f} x its FFTs, "
              f"1/{fastest / us['log_mel']:.1f} of the fastest complex variant in Python.")


if __name__ == "__main__":
    main()
