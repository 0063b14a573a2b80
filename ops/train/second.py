"""Makes clean waveforms of most families with liquid-dsp: a second opinion on what a family looks like.

The modulators, pulse shapes and the resampler are those of liquid-dsp (MIT, wheel `liquid-dsp` from PyPI),
not of the crate `sferic-scene`. The wheel's own Python classes leave out the analogue and the frequency-shift
modulators, so this calls the C functions that its library exports. Symbols and messages are drawn by NumPy
from `--seed`: waveform `i` depends on the seed and `i` alone.

    second.py --out FOLDER --count 7000 --seed 3 --samples 8192

writes `samples.npy` (complex64 [n, L], unit power while on, centred at 0 Hz), `family.npy` (float32 [n, 1],
the index in FAMILIES) and `bandwidth.npy` (float32 [n, 1], cycles per sample). Noise and tones are not made:
there is nothing to modulate.
"""

import argparse
import ctypes
import functools
import sys
from pathlib import Path

import liquid
import numpy as np

FAMILIES = ["noise", "tone", "am", "fm", "ook", "fsk", "psk", "ofdm", "unknown"]

# Values of the enumerations in liquid.h, version 1.8.3.
RCOS, ARKAISER, RRC = 3, 7, 9
CPFSK_SQUARE, CPFSK_RCOS_FULL, CPFSK_RCOS_PARTIAL, CPFSK_GMSK = range(4)
NULL, PILOT, DATA = range(3)
DSB, USB, LSB = range(3)

PSK = [
    "bpsk",
    "bpsk",
    "qpsk",
    "qpsk",
    "psk8",
    "psk16",
    "psk32",
    "psk64",
    "pi4dqpsk",
    "dpsk2",
    "dpsk4",
    "dpsk8",
]
QAM = [
    "qam16",
    "qam16",
    "qam32",
    "qam64",
    "qam128",
    "qam256",
    "sqam32",
    "sqam128",
    "apsk16",
    "apsk32",
    "apsk64",
]
ASK = ["ask4", "ask4", "ask8", "ask16", "ask32", "ask64"]

library = ctypes.CDLL(liquid.__file__)


class Object:
    """An object of the C library, destroyed with the `with` block that made it."""

    def __init__(self, kind, create, *arguments):
        function = getattr(library, f"{kind}_{create}")
        function.restype = ctypes.c_void_p
        self.kind, self.pointer = kind, function(*map(plain, arguments))
        if not self.pointer:
            raise ValueError(f"liquid-dsp refuses {kind}_{create}{arguments}: see liquid.h for the limits")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        getattr(library, f"{self.kind}_destroy")(ctypes.c_void_p(self.pointer))

    def __call__(self, method, *arguments):
        function = getattr(library, f"{self.kind}_{method}")
        function.restype = ctypes.c_int
        return function(ctypes.c_void_p(self.pointer), *map(plain, arguments))


def plain(value):
    """What C takes for a Python number or an array."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_float(value) if isinstance(value, (float, np.floating)) else ctypes.c_int(int(value))


def log_uniform(random, low, high):
    """A number between `low` and `high`, uniform in its logarithm."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def modulate(kind, modulator, symbols, step):
    """`step` samples for each of the symbols."""
    out = np.zeros((len(symbols), step), np.complex64)
    function = getattr(library, f"{kind}_modulate")
    pointer, address = ctypes.c_void_p(modulator.pointer), out.ctypes.data
    for number, symbol in enumerate(symbols.tolist()):
        function(pointer, ctypes.c_uint(symbol), ctypes.c_void_p(address + 8 * step * number))
    return out.ravel()


@functools.cache
def resampler():
    """The one resampler: its design takes longer than a whole waveform.

    A bank of 256 filters places a sample to 1/256. Its pass band is that of its input, so at a rate below 1
    only a signal that fits the output's band is not aliased: sharp pulses are, as in any sampled rectangle.
    """
    return Object("resamp_crcf", "create", 1.0, 12, 0.47, 60.0, 256)


def resample(samples, rate):
    """The samples at `rate` times their own rate."""
    if abs(rate - 1.0) < 1e-6:
        return samples
    out = np.zeros(int(2 + 2 * rate * len(samples)) + 64, np.complex64)
    count = np.zeros(1, np.uint32)
    samples = np.ascontiguousarray(samples, np.complex64)
    resampler()("reset")
    resampler()("set_rate", float(rate))
    resampler()("execute_block", samples, len(samples), out, count)
    return out[: int(count[0])]


def cut(samples, length, random):
    """`length` samples from the middle of a longer stretch, with the filters' transients outside."""
    room = len(samples) - length
    if room < 0:
        raise ValueError(f"a modulator gave {len(samples)} samples, {length} are needed")
    start = room // 2 + int(random.integers(0, room // 4 + 1))
    return samples[start : start + length]


def constellation(name, count, random):
    """`count` random points of one of the library's modulation schemes."""
    scheme = library.liquid_getopt_str2mod(name.encode())
    with Object("modemcf", "create", scheme) as modem:
        order = 1 << modem("get_bps")
        return modulate("modemcf", modem, random.integers(0, order, count), 1)


def pulses(points, sps, random):
    """Points through a pulse shape at any number of samples a symbol; also returns the excess bandwidth."""
    whole = max(2, int(np.ceil(sps)))
    beta = random.uniform(0.1, 0.6)
    shape = random.choice([RRC, RRC, RRC, RRC, RCOS, ARKAISER, 0])
    if shape == 0 and sps >= 3:
        shaped = np.repeat(points, whole)
    else:
        shape, shaped = shape or RRC, np.zeros(len(points) * whole, np.complex64)
        reach = int(random.integers(4, 13))
        with Object("firinterp_crcf", "create_prototype", shape, whole, reach, beta, 0.0) as filter_:
            filter_("execute_block", points, len(points), shaped)
    return resample(shaped, sps / whole), beta


def symbol_count(length, sps):
    """Symbols for a stretch with room for the filters' transients."""
    return int(length / sps) + 64


def linear(names, length, random, longest=64.0):
    """Linear modulation by one of the named constellations."""
    sps = log_uniform(random, 1.6, min(longest, max(length / 16, 1.7)))
    points = constellation(random.choice(names), symbol_count(length, sps), random)
    samples, beta = pulses(points, sps, random)
    return cut(samples, length, random), min((1 + beta) / sps, 1.0)


def psk(length, random):
    """PSK, differential PSK, QAM, APSK and bipolar ASK."""
    return linear(PSK if random.random() < 0.45 else QAM if random.random() < 0.7 else ASK, length, random)


def ook(length, random):
    """On-off keying: non-return to zero, or Manchester."""
    if random.random() < 0.7:
        return linear(["ook"], length, random)
    sps = log_uniform(random, 2.0, min(64.0, max(length / 24, 2.1)))
    bits = random.integers(0, 2, symbol_count(length, sps) // 2 + 32)
    chips = np.stack([bits, 1 - bits], axis=1).ravel().astype(np.complex64)
    whole = int(np.ceil(sps))
    return cut(resample(np.repeat(chips, whole), sps / whole), length, random), min(2 / sps, 1.0)


def fsk(length, random):
    """Continuous-phase FSK of 2 to 16 tones, MSK and GMSK, and FSK of unrelated tones."""
    draw = random.random()
    bits = int(random.choice([1, 1, 1, 2, 2, 3, 4]))
    sps = log_uniform(random, max(2.0, 1.1 * (2**bits - 1) * 0.35), max(min(128.0, length / 10), 6.0))
    whole = 2 * max(1, int(np.ceil(sps / 2)))
    count = symbol_count(length, sps)
    widest = 0.85 * sps / (2**bits - 1)
    index = log_uniform(random, 0.3, float(np.clip(widest, 0.35, 6.0)))
    if draw < 0.1:
        kind, arguments, bits, index = "cpfskmod", ("create_msk", whole), 1, 0.5
    elif draw < 0.3:
        bits, index = 1, 0.5
        product = random.uniform(0.2, 0.5)
        kind, arguments = "cpfskmod", ("create_gmsk", whole, 3, product)
        if random.random() < 0.5:
            kind, arguments = "gmskmod", ("create", whole, 3, product)
    elif draw < 0.45 and whole >= 2 ** (bits + 1):
        # The tones stand at fixed frequencies and the phase jumps between them.
        width = min(0.45, 0.5 * (2**bits - 1) * max(index, 0.5) / whole)
        kind, arguments = "fskmod", ("create", bits, whole, width)
        index = 2 * width * whole / (2**bits - 1)
    else:
        shape = int(
            random.choice([CPFSK_SQUARE, CPFSK_SQUARE, CPFSK_RCOS_FULL, CPFSK_RCOS_PARTIAL, CPFSK_GMSK])
        )
        kind, arguments = "cpfskmod", ("create", bits, index, whole, 3, random.uniform(0.25, 0.9), shape)
    with Object(kind, *arguments) as modulator:
        samples = modulate(kind, modulator, random.integers(0, 2**bits, count), whole)
    bandwidth = ((2**bits - 1) * index + 1) / sps
    return cut(resample(samples, sps / whole), length, random), min(bandwidth, 1.0)


def ofdm(length, random):
    """OFDM symbols: 64 to 2048 subcarriers, with a prefix, oversampled or not, tapered or not."""
    largest = max(6, int(np.log2(length / 6)))
    carriers = 1 << int(random.integers(6, min(11, largest) + 1))
    prefix = carriers // int(random.choice([4, 8, 16, 32]))
    taper = int(random.integers(0, prefix // 2 + 1)) if random.random() < 0.5 else 0
    oversampling = (
        1.0 if random.random() < 0.4 else log_uniform(random, 1.0, min(16.0, length / (3 * carriers)))
    )
    # Guard bands at either side, and at times nothing in the middle.
    half = int(carriers * random.uniform(0.25, 0.5))
    kinds = np.full(carriers, NULL, np.uint8)
    used = np.r_[1:half, carriers - half + 1 : carriers]
    kinds[used] = DATA
    kinds[0] = DATA if random.random() < 0.3 else NULL
    kinds[used[:: int(random.choice([6, 12, 16]))]] = PILOT
    name = random.choice(["bpsk", "qpsk", "qam16", "qam64", "qam256"])
    step = carriers + prefix
    count = int(length / (oversampling * step)) + 8
    out = np.zeros((count, step), np.complex64)
    points = constellation(name, count * carriers, random).reshape(count, carriers)
    with Object("ofdmframegen", "create", carriers, prefix, taper, kinds) as generator:
        for number in range(count):
            generator("writesymbol", points[number], out[number])
    return cut(resample(out.ravel(), oversampling), length, random), 2 * half / carriers / oversampling


def message(length, cutoff, random):
    """Speech-like sound within ±1: noise, or a buzz of glottal pulses, through a low-pass of the library."""
    source = random.standard_normal(length + 4000).astype(np.float32)
    if random.random() < 0.5:
        pitch = log_uniform(random, 0.08, 0.3) * cutoff
        phase = np.cumsum(pitch * (1 + 0.1 * np.sin(np.arange(len(source)) * pitch / 30)))
        source = (0.1 * source + 3 * (np.diff(np.floor(phase), prepend=0) > 0)).astype(np.float32)
    out = np.zeros_like(source)
    with Object("iirfilt_rrrf", "create_lowpass", int(random.integers(5, 9)), float(cutoff)) as filter_:
        filter_("execute_block", source, len(source), out)
    out = out[-length:] - out[-length:].mean()
    # Syllables.
    rate, phase = log_uniform(random, 0.3, 10), random.uniform(0, 2 * np.pi)
    loudness = 1 + random.uniform(0, 0.8) * np.sin(2 * np.pi * rate * np.arange(length) / length + phase)
    out = out * loudness
    return (out / np.abs(out).max()).astype(np.float32)


def am(length, random):
    """AM with its carrier, without it, and single sidebands."""
    cutoff = log_uniform(random, max(0.004, min(8 / length, 0.08)), 0.1)
    kind, suppressed = [(DSB, 0), (DSB, 0), (DSB, 1), (USB, 1), (LSB, 1)][random.integers(5)]
    sound = message(length + 200, cutoff, random)
    samples = np.zeros(len(sound), np.complex64)
    with Object("ampmodem", "create", random.uniform(0.2, 1.0), kind, suppressed) as modulator:
        modulator("modulate_block", sound, len(sound), samples)
    samples = samples[-length:]
    if kind == DSB:
        return samples, 2 * cutoff
    # Centred: the sideband goes from the carrier to the cutoff.
    turn = np.exp((-1j if kind == USB else 1j) * np.pi * cutoff * np.arange(length))
    return (samples * turn).astype(np.complex64), cutoff


def swept(frequency, deviation):
    """A constant amplitude whose frequency follows a message within ±1."""
    out = np.zeros(len(frequency), np.complex64)
    with Object("freqmod", "create", float(deviation)) as modulator:
        modulator("modulate_block", np.ascontiguousarray(frequency, np.float32), len(frequency), out)
    return out


def fm(length, random):
    """FM by sound, with a deviation of 0.6 to 8 times its highest frequency."""
    cutoff = log_uniform(random, max(0.003, min(16 / length, 0.05)), 0.08)
    deviation = min(0.3, cutoff * log_uniform(random, 0.6, 8))
    return swept(message(length, cutoff, random), deviation), min(2 * (deviation + cutoff), 1.0)


def unknown(length, random):
    """Linear chirps, or two signals of different families on different carriers."""
    if random.random() < 0.4:
        bandwidth = log_uniform(random, float(np.clip(24 / (0.6 * length), 0.03, 0.7)), 0.85)
        period = log_uniform(random, min(24 / bandwidth, 0.6 * length), 0.6 * length)
        place = np.arange(length) / period + random.uniform()
        saw = 2 * (place % 1) - 1
        shape = [saw, -saw, 1 - 2 * np.abs(2 * (place / 2 % 1) - 1)][random.integers(3)]
        return swept(shape, bandwidth / 2), bandwidth
    first, second = random.choice(len(MAKERS) - 1, 2, replace=False)
    parts = []
    for family in (first, second):
        for _ in range(8):
            samples, bandwidth = list(MAKERS.values())[family](length, random)
            if bandwidth <= 0.4:
                break
        parts.append((normalise(samples), bandwidth))
    (one, width), (other, other_width) = parts
    apart = (width + other_width) / 2 + random.uniform(0.02, 0.2)
    turn = np.exp(1j * np.pi * apart * np.arange(length))
    level = 10 ** (random.uniform(-6, 6) / 20)
    mixed = one * turn.conj() + level * other * turn
    return mixed.astype(np.complex64), min(apart + max(width, other_width), 1.0)


MAKERS = {"am": am, "fm": fm, "ook": ook, "fsk": fsk, "psk": psk, "ofdm": ofdm, "unknown": unknown}


def normalise(samples):
    """Unit power over the samples above a tenth of the peak."""
    power = np.abs(samples) ** 2
    level = power[power > 0.01 * power.max()].mean()
    if not np.isfinite(level) or level <= 0:
        raise ValueError("a modulator gave no finite signal")
    return samples / np.float32(np.sqrt(level))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the arrays; is made")
    parser.add_argument("--count", type=int, required=True, help="number of waveforms")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--samples", type=int, default=8192, help="samples of each, at least 256")
    options = parser.parse_args()
    if options.samples < 256:
        parser.error(f"--samples is {options.samples}, at least 256 are needed")
    options.out.mkdir(parents=True, exist_ok=True)

    def array(name, kind, width):
        path = options.out / f"{name}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(options.count, width))

    samples = array("samples", np.complex64, options.samples)
    family, bandwidth = array("family", np.float32, 1), array("bandwidth", np.float32, 1)
    names = list(MAKERS)
    for number in range(options.count):
        random = np.random.default_rng([options.seed, number])
        name = names[number % len(names)]
        waveform, bandwidth[number] = MAKERS[name](options.samples, random)
        samples[number], family[number] = normalise(waveform), FAMILIES.index(name)
        if (number + 1) % 100 == 0 or number + 1 == options.count:
            print(f"\r{number + 1} of {options.count} waveforms", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for mapped in (samples, family, bandwidth):
        mapped.flush()


if __name__ == "__main__":
    main()
