"""Writes a test set of TorchSig's signals: the outside judge of `modulation`, never trained on.

    python torchsig_set.py FOLDER --seed 7001

FOLDER gets `samples.npy` (complex64 [n, 8192]) and `labels.jsonl`, one object a frame: `class` (TorchSig's
name), `family` (a label of the model, or `unknown` for a chirp, which has none), `snr_db` (null for noise),
`impaired`, `inside`, `outside_because`, `bandwidth` (99 % of the power, cycles per sample), `centre` and
`whole` (the signal fills the frame). Bandwidth and centre are those before the receiver's impairments, of
which some mirror the spectrum. A frame depends on the seed and its number alone.

Families take turns. Of each four frames of a family two are impaired, and one of these and one of the others
is drawn again until it is inside the definitions of the model's card. Half of the signals fill the frame, the
others take 80 to 100 % of it, as TorchSig has it. All stand anywhere in the band.

SNR is the card's: power of the signal while it is on (above 1 % of its peak; OFDM as a whole) over that of
the noise, both in the whole sampled band, uniform from -5 to 30 dB. TorchSig has it within the signal's
bandwidth and up to 50 dB. It is set after the transmitter's and the channel's impairments, before the
receiver's.

Impaired is `Impairments(2)`: its signal transforms on the signal, its dataset transforms on signal plus noise
at TorchSig's own level of noise. Noise gets the latter alone. Clean is neither.

Inside the definitions (crates/scene/src/waveforms), by the waveform alone; impairments do not count:

* noise: always, white.
* tone: fills the frame; at less than 2e-3 from the centre at 12 dB or more, for it would be the receiver's.
* am: a carrier with both sidebands (`am-dsb`) that fills the frame, of depth 0.35 to 1, the sidebands 0.005
  to 0.16 wide together; the centre as for a tone. TorchSig's depth is 0.64 to 16. Suppressed carrier and
  single sideband keep the label am, outside.
* fm: a message below 0.003 to 0.08, peak deviation 1 to 6 times that and at most 0.3. The message is
  measured: one of the crate's below c has 99 % of its power within c / 1.6. TorchSig's deviation is often
  less.
* ook: chips of 2 to 400 samples, rectangular; `adsb` is Manchester code with a preamble. Root raised cosine
  is outside: its level goes below zero.
* fsk: 2 or 4 tones, 2 to 100 samples a symbol, index 0.3 or more; a Gaussian pulse of BT 0.3 or more. MSK and
  GMSK are fsk. DMR and P25 are outside (index below 0.3, root raised cosine), as are 8 and 16 tones.
* psk: BPSK, QPSK, 8-PSK, 16-QAM at 2 to 64 samples a symbol, rectangular or with a roll-off of 0.15 or more,
  DVB-S2 of these among them. Higher orders, APSK, ASK (linear, on both sides of zero) and ZigBee's half-sine
  pulse (it is also MSK) keep the label psk, outside.
* ofdm: 36 to 1024 subcarriers, a symbol of 64 to 4096 samples, bandwidth 0.1375 or more, a cyclic prefix of
  1/32 to 1/4 of the symbol. The half of TorchSig's OFDM that has no prefix is outside.
* unknown: never. Chirps are at least 0.1 wide, so the frame has most of a sweep; LoRa's symbols fit into it.

Made with TorchSig 2.2.0; needs torch and torchaudio of one version (2.11.0) and numpy 2.4.6.
"""

import argparse
import copy
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torchsig.signals.builders.adsb import adsb_modulator
from torchsig.signals.builders.am import am_modulator
from torchsig.signals.builders.btle import btle_modulator
from torchsig.signals.builders.cellular import gsm_modulator
from torchsig.signals.builders.chirpss import chirpss_modulator
from torchsig.signals.builders.constellation import constellation_modulator
from torchsig.signals.builders.dvb import DVBS2_CONSTELLATIONS, DVBS2_ROLLOFFS, dvbs2_modulator
from torchsig.signals.builders.fm import fm_modulator
from torchsig.signals.builders.fsk import fsk_modulator, fsk_random_params, fsk_symbol_timing
from torchsig.signals.builders.lfm import lfm_modulator
from torchsig.signals.builders.lmr import DMR_SYNC_PATTERNS, dmr_modulator, hex_sync_to_levels, p25_modulator
from torchsig.signals.builders.lora import lora_modulator
from torchsig.signals.builders.ofdm import ofdm_modulator
from torchsig.signals.builders.tone import tone_modulator
from torchsig.signals.builders.wifi import wifi_80211a_modulator
from torchsig.signals.builders.zigbee import zigbee_modulator
from torchsig.signals.signal_types import Signal
from torchsig.transforms.impairments import Impairments

LEN = 8192
RATE = 10e6
SNR_DB = (-5.0, 30.0)
FAMILIES = ("noise", "tone", "am", "fm", "ook", "fsk", "psk", "ofdm")
# TorchSig's floor: 0 dB is the mean, in dB, of spectra by a Blackman window of 512 samples without a scale.
NOISE_POWER = 10 ** (2.51 / 10) / 155.96


@dataclass
class Drawn:
    """A waveform of TorchSig, and what puts it outside the card's definitions."""

    name: str
    samples: np.ndarray
    outside: list = field(default_factory=list)


def pick(rng, choices):
    """One of `choices`, as it is."""
    return choices[rng.integers(len(choices))]


def log_uniform(rng, low, high):
    """Each ratio as likely as any other of the same size."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def unless(**conditions):
    """The names of the conditions that do not hold."""
    return [name.replace("_", " ") for name, holds in conditions.items() if not holds]


def occupied(samples):
    """Width of the middle 99 % of the power, cycles per sample."""
    spectrum = np.abs(np.fft.fftshift(np.fft.fft(samples))) ** 2
    share = np.cumsum(spectrum) / spectrum.sum()
    return float(np.searchsorted(share, 0.995) - np.searchsorted(share, 0.005) + 1) / len(samples)


def tone(rng, take):
    """A carrier."""
    return Drawn("tone", take(tone_modulator))


def am(rng, take):
    """Noise as the message of a carrier, of two sidebands without one, or of one sideband."""
    mode = pick(rng, ["dsb", "dsb", "dsb", "dsb-sc", "usb", "lsb"])
    width = log_uniform(rng, 0.005, 0.25)
    samples = take(lambda n: am_modulator(mode, width * RATE, RATE, n, rng))
    if mode != "dsb":
        return Drawn(f"am-{mode}", samples, ["no carrier"])
    carrier = samples.real.mean()
    message = samples.real - carrier
    depth = np.abs(message).max() / max(abs(carrier), 1e-9)
    sidebands = occupied(message)
    return Drawn("am-dsb", samples, unless(depth=0.35 <= depth <= 1, bandwidth=0.005 <= sidebands <= 0.16))


def fm(rng, take):
    """Noise as the message of frequency modulation."""
    width = log_uniform(rng, 0.01, 0.5)
    samples = take(lambda n: fm_modulator(width * RATE, RATE, n, rng))
    frequency = np.angle(samples[1:] * samples[:-1].conj()) / (2 * np.pi)
    highest, deviation = occupied(frequency) / 2 * 1.6, np.abs(frequency).max()
    faults = unless(
        message=0.003 <= highest <= 0.08, index=1 <= deviation / highest <= 6, deviation=deviation <= 0.3
    )
    return Drawn("fm", samples, faults)


def ook(rng, take):
    """On-off keying, and Mode S."""
    width = log_uniform(rng, 1 / 500, 0.5)
    name = pick(rng, ["ook", "ook", "adsb-long", "adsb-short"])
    if name == "ook":
        shape = pick(rng, ["rectangular", "rectangular", "srrc"])
        samples = take(lambda n: linear("ook", shape, width, n, rng.uniform(0.1, 0.5), rng))
    else:
        shape = "rectangular"
        samples = take(lambda n: adsb_modulator(name.removeprefix("adsb-"), width * RATE, RATE, n, rng))
    return Drawn(name, samples, unless(pulse=shape == "rectangular", chip=2 <= 1 / width <= 400))


def linear(name, shape, width, n, rolloff, rng):
    """TorchSig's linear modulation at a symbol rate of `width`."""
    rolloff = rolloff if shape == "srrc" else None
    return constellation_modulator(name, shape, width * RATE, RATE, n, rolloff, rng)


def fsk(rng, take):
    """FSK, MSK and their Gaussian kin, and four services that use them."""
    width = log_uniform(rng, 0.012, 0.5)
    kind = pick(rng, ["fsk", "gfsk", "msk", "gmsk"] * 4 + ["btle", "gsm", "dmr", "p25"])
    if kind == "dmr":
        sync = hex_sync_to_levels(pick(rng, sorted(DMR_SYNC_PATTERNS.values())))
        return Drawn("dmr", take(lambda n: dmr_modulator(width * RATE, RATE, n, sync, rng)), ["index"])
    if kind in ("btle", "gsm", "p25"):
        modulator = {"btle": btle_modulator, "gsm": gsm_modulator, "p25": p25_modulator}[kind]
        samples = take(lambda n: modulator(width * RATE, RATE, n, rng))
        return Drawn(kind, samples, unless(index=kind != "p25", symbol=2 <= 1 / width <= 100))
    tones = pick(rng, [2, 2, 4, 8, 16])
    # The modulator's first draws, which it does not tell.
    index, bt, span = fsk_random_params(kind, copy.deepcopy(rng))
    symbol = fsk_symbol_timing(tones, 4, index, bt, span)[0] / width
    samples = take(lambda n: fsk_modulator(tones, kind, width * RATE, RATE, n, rng))
    faults = unless(tones=tones <= 4, index=index >= 0.3, BT=bt is None or bt >= 0.3,
                    symbol=2 <= symbol <= 100)  # fmt: skip
    return Drawn(f"{tones}{kind}", samples, faults)


def psk(rng, take):
    """Linear modulation of every order, and two services that use it."""
    width = log_uniform(rng, 1 / 100, 0.5)
    name = pick(rng, pick(rng, PSK))
    if name == "zigbee":
        return Drawn(name, take(lambda n: zigbee_modulator(width * RATE, RATE, n, rng)), ["pulse"])
    shape, rolloff = pick(rng, ["rectangular", "srrc"]), rng.uniform(0.1, 0.5)
    order = name
    if name == "dvbs2":
        shape, rolloff, order = "srrc", pick(rng, DVBS2_ROLLOFFS), pick(rng, DVBS2_CONSTELLATIONS)
        pilots = pick(rng, [False, True])
        samples = take(
            lambda n: dvbs2_modulator(order, "normal", pilots, rolloff, width * RATE, RATE, n, rng)
        )
    else:
        samples = take(lambda n: linear(order, shape, width, n, rolloff, rng))
    faults = unless(order=order in ("bpsk", "qpsk", "8psk", "16qam"), symbol=2 <= 1 / width <= 64,
                    pulse=shape == "rectangular" or rolloff >= 0.15)  # fmt: skip
    return Drawn(name, samples, faults)


# Each group is as likely as any other.
PSK = [
    ["bpsk"], ["qpsk"], ["8psk"], ["16qam"], ["dvbs2"], ["16psk", "32psk", "64psk"], ["16apsk", "32apsk"],
    ["32qam", "32qam_cross", "64qam", "128qam_cross", "256qam", "512qam_cross", "1024qam"],
    ["4ask", "8ask", "16ask", "32ask", "64ask"], ["zigbee"],
]  # fmt: skip
CARRIERS = [64, 72, 128, 180, 256, 300, 512, 600, 900, 1024, 1200, 2048]


def ofdm(rng, take):
    """OFDM with all its subcarriers, half of it with a cyclic prefix, and 802.11a."""
    width = log_uniform(rng, 0.05, 0.5)
    carriers = pick(rng, CARRIERS + [0])
    if carriers == 0:
        name, carriers, used, prefix = "80211a", 64, 52 / 64, 16
        mapping = pick(rng, ["bpsk", "qpsk", "16qam", "64qam"])
        samples = take(lambda n: wifi_80211a_modulator("data", mapping, width * RATE, RATE, n, rng))
    else:
        name, used = f"ofdm-{carriers}", 1.0
        prefix = int(rng.integers(2, carriers // 2)) if rng.random() < 0.5 else 0
        samples = take(lambda n: ofdm_modulator(carriers, width * RATE, RATE, n, rng, prefix))
    faults = unless(prefix=1 / 32 <= prefix / carriers <= 1 / 4, subcarriers=carriers <= 1024,
                    symbol=64 <= carriers / width <= LEN / 2, bandwidth=width * used >= 0.1375)  # fmt: skip
    return Drawn(name, samples, faults)


def chirp(rng, take):
    """Chirps of radar, of data and of spread spectrum."""
    width = log_uniform(rng, 0.1, 0.5)
    name = pick(rng, ["lfm-radar", "lfm-data", "chirpss", "lora"])
    if name == "lora":
        factor = int(rng.integers(7, int(np.log2(LEN * width)) + 1))
        samples = take(lambda n: lora_modulator(factor, width * RATE, RATE, n, rng))
    elif name == "chirpss":
        samples = take(lambda n: chirpss_modulator(width * RATE, RATE, n, rng))
    else:
        kind = name.removeprefix("lfm-")
        samples = take(lambda n: lfm_modulator(kind, width * RATE, RATE, n, rng))
    return Drawn(name, samples, ["no label"])


MAKERS = dict(zip(FAMILIES[1:] + ("unknown",), (tone, am, fm, ook, fsk, psk, ofdm, chirp)))


def signal(family, rng, only_inside):
    """A waveform of `family` with its centre and SNR, and what puts it outside the definitions."""
    while True:
        whole = bool(rng.random() < 0.5)
        steady = family in ("tone", "am")
        if whole or (steady and only_inside):
            whole, start = True, int(rng.integers(LEN // 2, 2 * LEN))
            # From the middle of something longer, so neither end shows.
            take = lambda make: make(3 * LEN)[start : start + LEN]  # noqa: E731
        else:
            length = int(rng.integers(int(0.8 * LEN), LEN + 1))
            take = lambda make: make(length)  # noqa: E731
        drawn = MAKERS[family](rng, take)
        if not np.any(drawn.samples):
            continue
        bandwidth = occupied(drawn.samples)
        centre = rng.uniform(-1, 1) * max(0.5 - bandwidth / 2, 0)
        snr_db = rng.uniform(*SNR_DB)
        if steady:
            drawn.outside += unless(fills_the_frame=whole, centre=abs(centre) >= 2e-3 or snr_db >= 12)
        if not (only_inside and drawn.outside):
            return drawn, whole, bandwidth, centre, snr_db


def power_while_on(samples, family):
    """Mean power of what is above 1 % of the peak, of OFDM as a whole."""
    power = np.abs(samples) ** 2
    return power.mean() if family == "ofdm" else power[power > 0.01 * power.max()].mean()


def frame(family, rng, impaired, only_inside):
    """The samples of one frame and its labels."""
    impairments = Impairments(2, seed=int(rng.integers(2**31)))

    def apply(transforms, data):
        length = len(data)
        data = transforms(Signal(data=data.astype(np.complex64), component_signals=[])).data
        if len(data) != length or not np.all(np.isfinite(data)):
            raise RuntimeError("an impairment changed the length or made what is no number")
        return data

    heard = rng.normal(0, np.sqrt(NOISE_POWER / 2), (2, LEN))
    heard = heard[0] + 1j * heard[1]
    labels = {"class": "noise", "family": family, "snr_db": None, "impaired": impaired, "inside": True,
              "outside_because": [], "bandwidth": 1.0, "centre": 0.0, "whole": True}  # fmt: skip
    if family != "noise":
        drawn, whole, bandwidth, centre, snr_db = signal(family, rng, only_inside)
        samples = apply(impairments.signal_transforms, drawn.samples) if impaired else drawn.samples
        samples = samples * np.sqrt(NOISE_POWER * 10 ** (snr_db / 10) / power_while_on(samples, family))
        turns = centre * np.arange(len(samples)) + rng.random()
        start = int(rng.integers(LEN - len(samples) + 1))
        heard[start : start + len(samples)] += samples * np.exp(2j * np.pi * turns)
        labels |= {"class": drawn.name, "snr_db": round(float(snr_db), 3), "inside": not drawn.outside,
                   "outside_because": drawn.outside, "bandwidth": round(bandwidth, 5),
                   "centre": round(float(centre), 5), "whole": whole}  # fmt: skip
    if impaired:
        heard = apply(impairments.dataset_transforms, heard)
    return heard.astype(np.complex64), labels


def main():
    """Writes the set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--per-family", type=int, default=140)
    parser.add_argument("--unknown", type=int, default=400)
    options = parser.parse_args()
    # TorchSig warns of its own defaults.
    warnings.filterwarnings("ignore", module="torchsig")

    turns = [(family, turn) for turn in range(options.per_family) for family in FAMILIES]
    turns += [("unknown", turn) for turn in range(options.unknown)]
    samples, labels = np.empty((len(turns), LEN), np.complex64), []
    for number, (family, turn) in enumerate(turns):
        rng = np.random.default_rng([options.seed, number])
        only_inside = family != "unknown" and turn % 4 < 2
        samples[number], label = frame(family, rng, turn % 2 == 1, only_inside)
        labels.append({"frame": number, **label})
    options.folder.mkdir(parents=True, exist_ok=True)
    np.save(options.folder / "samples.npy", samples)
    (options.folder / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))


if __name__ == "__main__":
    main()
