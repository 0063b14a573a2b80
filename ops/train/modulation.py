"""Trains the bundle `modulation`: the family of modulation in a single-channel frame at any sample rate."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

import common
from frontend import Frontend

SEED = 2
LABELS = ["noise", "tone", "am", "fm", "ook", "fsk", "psk", "ofdm"]
# Frames per split and samples per frame; the short ones are there because a frame may be short.
TRAIN = {8192: 36_000, 2048: 6_000, 512: 5_000, 128: 3_000}
CALIBRATION, TEST, TEST_SHORT = 4_000, 12_000, 4_000
EPOCHS = 3
BATCH = 64

# What the captures hold, by folder; the first is the family, any other counts as right too.
CAPTURES = {
    "dump1090": ("ook",), "rtl_sdr_lte": ("ofdm",), "openofdm": ("ofdm",), "rc_car": ("fsk",),
    "kiwi_tdoa": ("am", "tone"),
}


def convolution(kind, inputs, outputs, size, stride):
    """Convolution, normalisation over the batch, rectifier."""
    conv, norm = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d)}[kind]
    return nn.Sequential(
        conv(inputs, outputs, size, stride=stride, padding=size // 2, bias=False), norm(outputs), nn.ReLU()
    )


class Pooled(nn.Module):
    """Layers, then mean and maximum over all positions: takes any length and returns one vector."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        x = self.layers(x).flatten(2)
        return torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)


class Head(nn.Module):
    """The learned part: three small convolutional networks, one per representation, and two dense layers."""

    def __init__(self):
        super().__init__()
        self.spectra = Pooled(
            convolution(1, 7, 32, 7, 2), nn.MaxPool1d(2), convolution(1, 32, 48, 5, 2), nn.MaxPool1d(2),
            convolution(1, 48, 64, 3, 1),
        )
        self.stream = Pooled(
            convolution(1, 4, 24, 9, 4), convolution(1, 24, 32, 9, 4), convolution(1, 32, 48, 5, 2),
        )
        self.spectrogram = Pooled(
            convolution(2, 1, 16, 3, 2), convolution(2, 16, 24, 3, 2), convolution(2, 24, 32, 3, 2),
        )
        self.dense = nn.Sequential(nn.Linear(288, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, len(LABELS)))

    def forward(self, spectra, stream, spectrogram):
        return self.dense(
            torch.cat([self.spectra(spectra), self.stream(stream), self.spectrogram(spectrogram)], dim=1)
        )


class Model(nn.Module):
    """The exported network: features to `logits` [B, 8]. A temperature calibrates the softmax's scores."""

    def __init__(self, head, temperature=1.0):
        super().__init__()
        self.frontend, self.head, self.temperature = Frontend(), head, temperature

    def forward(self, features):
        return self.head(*self.frontend(features)) / self.temperature


def rows(array, index):
    """Rows of a mapped array as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array[np.sort(index)]))


def train(folders):
    """AdamW with a one-cycle schedule on the cross entropy; every batch has frames of one length."""
    frontend, head = Frontend(), Head()
    sets = [
        (common.load(f, "features"), np.array(common.load(f, "family"))[:, 0].astype(int)) for f in folders
    ]
    random = np.random.default_rng(SEED)
    steps = sum(len(family) // BATCH for _, family in sets)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=EPOCHS * steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    for epoch in range(EPOCHS):
        batches = []
        for number, (_, family) in enumerate(sets):
            order = random.permutation(len(family))
            batches += [(number, order[at:at + BATCH]) for at in range(0, len(order) - BATCH + 1, BATCH)]
        random.shuffle(batches)
        seen, right, total = 0, 0, 0.0
        for step, (number, index) in enumerate(batches):
            features, family = sets[number]
            with torch.no_grad():
                pictures = frontend(rows(features, index))
            truth = torch.from_numpy(family[np.sort(index)])
            logits = head(*pictures)
            loss = loss_of(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen, total = seen + len(index), total + loss.item() * len(index)
            right += (logits.argmax(1) == truth).sum().item()
            if (step + 1) % 100 == 0 or step + 1 == steps:
                common.say(f"epoch {epoch + 1} of {EPOCHS}, step {step + 1} of {steps}: "
                           f"loss {total / seen:.3f}, {right / seen:.1%} right")
                seen, right, total = 0, 0, 0.0
    return head.eval()


def softmax(logits):
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibrate(logits, family):
    """The temperature with the highest likelihood on frames that were not trained on."""
    candidates = np.geomspace(0.5, 3.0, 181)
    at = np.arange(len(family))
    likelihood = [np.log(softmax(logits / t)[at, family] + 1e-12).mean() for t in candidates]
    return float(candidates[int(np.argmax(likelihood))])


def main():
    clock = common.Clock()
    common.settle(SEED)
    folder = common.bundle("modulation")

    def make(split, count, seed, samples):
        return common.generate(
            "modulation", split, "frames", "--count", count, "--seed", seed, "--samples", samples)

    training = [make(f"train-{n}", count, 200 + i, n) for i, (n, count) in enumerate(TRAIN.items())]
    calibration = make("calibration", CALIBRATION, 210, 8192)
    tests = {8192: make("test", TEST, 220, 8192)}
    tests |= {
        n: make(f"test-{n}", TEST_SHORT, 220 + i, n) for i, n in enumerate((4096, 2048, 1024, 512, 128), 1)
    }
    generated = str(clock)
    head = train(training)

    path = folder / "model.onnx"
    example = torch.from_numpy(np.array(common.load(tests[8192], "features")[:2]))
    common.export(Model(head), example, path, ["logits"], 3)
    family = np.array(common.load(calibration, "family"))[:, 0].astype(int)
    temperature = calibrate(common.Onnx(path)(common.load(calibration, "features"))[0], family)
    model = Model(head, temperature)
    size = common.export(model, example, path, ["logits"], 3)
    with torch.no_grad():
        difference = np.abs(common.Onnx(path)(example.numpy())[0] - model(example).numpy()).max()
    common.say(f"exported file and trained model differ by {difference:.1e} at most")
    if difference > 1e-2:
        raise SystemExit("the exported file computes something else")
    digest = common.seal(folder)
    card(folder, tests, temperature, size, digest, generated, clock)


def card(folder, tests, temperature, size, digest, generated, clock):
    """Measures the exported file on the test frames and the captures, and writes the card."""
    onnx = common.Onnx(folder / "model.onnx")
    features = common.load(tests[8192], "features")
    family = np.array(common.load(tests[8192], "family"))[:, 0].astype(int)
    snr = np.array(common.load(tests[8192], "snr"))[:, 0]
    scores = softmax(onnx(features)[0])
    answer = scores.argmax(axis=1)
    right = answer == family

    by_snr = []
    for low, high in [(-5, 0), (0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 30), (30, 70)]:
        at = (snr >= low) & (snr < high)
        each = [f"{np.mean(right[at & (family == k)]):.0%}" for k in range(1, len(LABELS))]
        by_snr.append([f"{low} to {high} dB", at.sum(), f"{right[at].mean():.1%}", *each])
    confusion = [
        [f"**{name}**", *(f"{np.mean(answer[family == k] == j):.0%}" for j in range(len(LABELS)))]
        for k, name in enumerate(LABELS)
    ]
    lengths = [["8192", f"{right.mean():.1%}"]]
    for samples, path in tests.items():
        if samples != 8192:
            truth = np.array(common.load(path, "family"))[:, 0].astype(int)
            lengths.append(
                [samples, f"{np.mean(onnx(common.load(path, 'features'))[0].argmax(1) == truth):.1%}"]
            )
    within = (snr >= -5) & (snr < 30) | np.isnan(snr)
    best = scores.max(axis=1)
    stated = [
        [f"{low:.1f} to {low + 0.1:.1f}", at.sum(), f"{best[at].mean():.0%}", f"{right[at].mean():.0%}"]
        for low in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        if (at := (best >= low) & (best < low + 0.1 + 1e-6)).sum() >= 30
    ]
    counts = " + ".join(f"{count} of {samples} samples" for samples, count in TRAIN.items())
    (folder / "CARD.md").write_text(
        CARD.format(
            counts=counts,
            calibration=CALIBRATION,
            test=TEST,
            epochs=EPOCHS,
            temperature=temperature,
            accuracy=f"{right[within].mean():.1%}",
            size=size,
            digest=digest,
            milliseconds=onnx.milliseconds(features),
            clock=clock,
            generated=generated,
            by_snr=common.table(["SNR", "frames", "right", *LABELS[1:]], by_snr),
            confusion=common.table(["sent", *LABELS], confusion),
            lengths=common.table(["samples", "right"], lengths),
            stated=common.table(["score of the answer", "frames", "mean score", "right"], stated),
            captures=captures(onnx),
        )
    )
    common.say((folder / "CARD.md").read_text())


def captures(onnx):
    """Returns the predictions for the real captures as a table."""
    source = Path(os.environ.get("SFERIC_CAPTURES", common.ROOT.parent / "shared" / "iq"))
    if not source.is_dir():
        return "The captures were not there when this card was written."
    folder = common.generate("modulation", "captures", "captures", source)
    answers = softmax(onnx(common.load(folder, "features"))[0]).argmax(axis=1)
    lines = []
    for entry in common.read_json(folder / "captures.json"):
        expected = CAPTURES.get(entry["file"].split("/")[0])
        if expected is None or not entry["frames"]:
            continue
        said = [LABELS[k] for k in answers[entry["first"]:entry["first"] + entry["frames"]]]
        counts = sorted(((said.count(name), name) for name in set(said)), reverse=True)
        share = sum(name in expected for name in said) / len(said)
        lines.append([
            f"`{entry['file']}`", " or ".join(expected), len(said),
            ", ".join(f"{name} {count}" for count, name in counts), f"{share:.0%}",
            "right" if counts[0][1] in expected else "**wrong**",
        ])
    return common.table(
        ["capture", "holds", "frames", "the model says", "frames right", "most frames"], lines
    )


CARD = """# modulation, version 1

Which family of modulation a single-channel frame holds: noise, tone, AM, FM, OOK, FSK, PSK (with QAM) or
OFDM, at any sample rate, level and length. Written by `ops/train/run modulation`; every number below is from
that run.

**Input** `features` `[B, 1, 2, N]`: the samples, I then Q; any N. **Output** `logits` `[B, 8]`, for a
softmax.

## Data

Simulated frames of the crate `sferic-scene`; no recording was trained on. The ranges of its parameters were
chosen to contain common services, those of the captures below among them. Received at −5 to 30 dB SNR, one in
eight at up to 70 dB (signal while it is on over noise, both in the whole band), anywhere in the band, whole
or in bursts; multipath, fading, coloured noise, IQ imbalance, DC offset, spurs, ci8/cu8/ci16 with few steps
or clipping, float of any level, runs of exact zeros. Training: {counts}; {calibration} frames to calibrate
and {test} to test, from different seeds.

## Method

A fixed part inside the ONNX graph turns the samples into three pictures: spectra (of the signal, its
envelope, its square and fourth power and its frequency, and the autocorrelation that a cyclic prefix shows
in), the filtered signal's amplitude and phase steps sample by sample, and a spectrogram. A small
convolutional network on each, averaged and maximised over all places, and two dense layers are trained with
the cross entropy, {epochs} epochs of AdamW. The logits are divided by a temperature, {temperature:.2f}, found
on the calibration frames. The features are computed by the daemon's own code.

## Measured on the {test} test frames of 8192 samples

{accuracy} are right, noise and all SNR from −5 to 30 dB together.

{by_snr}

Sent (rows) and said (columns), all SNR:

{confusion}

How much a stated score is worth:

{stated}

Shorter frames, all SNR:

{lengths}

## Real captures

Off-air recordings from public repositories, frame by frame of 8192 samples, none of them trained on. The
expected family is that of the signal the recording was made for; a frame that holds only noise or another
transmitter counts as wrong unless it is called by that family.

{captures}

## Limits

One answer per frame: of two signals at once it names one, mostly the stronger. A weak carrier at exactly 0 Hz
is taken for the receiver's own. What is none of the eight families gets one of their names all the same.

`model.onnx` has {size} bytes, SHA-256 `{digest}`. One frame of 8192 samples takes {milliseconds:.1f} ms on
one core. The run took {clock}, of which {generated} to simulate, on a machine of two cores shared with other
work.
"""

if __name__ == "__main__":
    main()
