"""Trains the bundle `localization`: three receivers, one emitter, position and its uncertainty in metres."""

import math

import numpy as np
import torch
from torch import nn

import common

SEED = 1
TRAIN, CALIBRATION, TEST = 100_000, 10_000, 10_000
EPOCHS = 12
# Levels for which the card gives coverage; the ellipse's scale is sqrt(-2 ln(1 - p)).
LEVELS = (0.50, 0.68, 0.90, 0.95)


class Pool(nn.Module):
    """[B, 3, bands, T] in tens of decibels to the mean power of each band over time, on the same scale.

    The mean power over time is all that matters about a band; taking it before anything is learned lets
    frames have any length.
    """

    def forward(self, x):
        return torch.log10(torch.exp(math.log(10.0) * x).mean(dim=3))


class Head(nn.Module):
    """[B, 3, bands] to [B, 5]: east and north in kilometres, and the logarithm of the covariance matrix.

    The last three, (m, d, o), stand for the symmetric matrix [[m + d, o], [o, m - d]], whose exponential is
    the covariance: any three numbers give a valid one.
    """

    def __init__(self, width=32, hidden=128):
        super().__init__()
        self.bands = nn.Sequential(
            nn.Conv1d(3, width, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GELU(),
        )
        self.dense = nn.Sequential(
            nn.Linear(2 * width + 3, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 5),
        )

    def forward(self, levels):
        bands = self.bands(levels)
        # The received power itself, all bands together, beside what the convolutions find in the bands.
        total = torch.log10(torch.exp(math.log(10.0) * levels).mean(dim=2))
        return self.dense(torch.cat([bands.mean(dim=2), bands.amax(dim=2), total], dim=1))


def likelihood(output, truth):
    """Negative log likelihood of a two-dimensional Gaussian, without its constant; `truth` in kilometres."""
    m, d, o = output[:, 2], output[:, 3], output[:, 4]
    east, north = (truth - output[:, :2]).unbind(1)
    # exp of minus the matrix: exp(-m) (cosh r - sinh r / r [[d, o], [o, -d]]), with r the half difference of
    # its eigenvalues.
    r = torch.sqrt(d * d + o * o + 1e-8)
    turned = d * (east * east - north * north) + 2 * o * east * north
    square = torch.exp(-m) * (torch.cosh(r) * (east * east + north * north) - torch.sinh(r) / r * turned)
    return (m + 0.5 * square).mean()


class Model(nn.Module):
    """The exported network: features to `positions` [B, 2] and `uncertainties` [B, 3] (two sigmas, theta)."""

    def __init__(self, head, scale=1.0):
        super().__init__()
        self.pool, self.head, self.scale = Pool(), head, scale

    def forward(self, features):
        output = self.head(self.pool(features))
        m, d, o = output[:, 2], output[:, 3], output[:, 4]
        r = torch.sqrt(d * d + o * o + 1e-8)
        # The long axis is turned by half the angle of (d, o). ONNX has no atan2, and each half-angle formula
        # loses its digits on one side.
        theta = torch.where(
            d >= 0, torch.atan(o / (r + d)), torch.atan((r - d) / torch.where(o == 0, 1e-12, o))
        )
        sigmas = 1000.0 * self.scale * torch.exp(0.5 * torch.stack([m + r, m - r], dim=1))
        theta = theta[:, None] * (180.0 / math.pi)
        return 1000.0 * output[:, :2], torch.cat([sigmas, theta], dim=1)


def pooled(folder):
    """Returns the pooled features of a split, computed once."""
    features = common.load(folder, "features")
    pool = Pool()
    parts = [
        pool(torch.from_numpy(np.array(features[at : at + 1024]))) for at in range(0, len(features), 1024)
    ]
    return torch.cat(parts)


def train(levels, truth):
    """Adam with a cosine schedule on the Gaussian likelihood."""
    head = Head()
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=1e-3)
    batch = 512
    steps = len(levels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(levels))
        total = 0.0
        for step in range(steps):
            index = order[step * batch : (step + 1) * batch]
            loss = likelihood(head(levels[index]), truth[index])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        common.say(f"epoch {epoch + 1} of {EPOCHS}: loss {total / steps:.4f}")
    return head


def calibrate(squared):
    """Finds the factor on all sigmas with which the 68 and 95 % ellipses cover closest to nominal."""
    factors = np.linspace(0.7, 1.5, 801)
    gap = [
        sum(abs(np.mean(squared / f**2 < -2 * math.log(1 - p)) - p) for p in (0.68, 0.95)) for f in factors
    ]
    return float(factors[int(np.argmin(gap))])


def main():
    clock = common.Clock()
    common.settle(SEED)
    folder = common.bundle("localization")
    splits = {"train": (TRAIN, 101), "calibration": (CALIBRATION, 102), "test": (TEST, 103)}
    paths = {
        split: common.generate("localization", split, "scenes", "--count", count, "--seed", seed)
        for split, (count, seed) in splits.items()
    }
    generated = str(clock)
    levels = pooled(paths["train"])
    truth = torch.from_numpy(np.array(common.load(paths["train"], "truth"))) / 1000.0
    head = train(levels, truth)

    example = torch.from_numpy(np.array(common.load(paths["test"], "features")[:2]))
    outputs = ["positions", "uncertainties"]
    path = folder / "model.onnx"
    common.export(Model(head), example, path, outputs, 3)
    positions, uncertainties = common.Onnx(path)(common.load(paths["calibration"], "features"))
    scale = calibrate(
        common.squared_distances(positions, uncertainties, common.load(paths["calibration"], "truth"))
    )
    size = common.export(Model(head, scale), example, path, outputs, 3)
    digest = common.seal(folder)
    card(folder, paths, scale, size, digest, generated, clock)


def card(folder, paths, scale, size, digest, generated, clock):
    """Measures the exported file on the test scenes and writes the card."""
    onnx = common.Onnx(folder / "model.onnx")
    features, truth = common.load(paths["test"], "features"), np.array(common.load(paths["test"], "truth"))
    positions, uncertainties = onnx(features)
    squared = common.squared_distances(positions, uncertainties, truth)
    error = np.hypot(*(positions - truth).T)
    baseline = np.hypot(*(common.load(paths["test"], "trilateration") - truth).T)
    weakest = np.array(common.load(paths["test"], "snr")).min(axis=1)

    def row(name, errors):
        return [
            name,
            *(f"{np.quantile(errors, q):.0f} m" for q in (0.5, 0.9)),
            f"{np.sqrt(np.mean(errors**2)):.0f} m",
        ]

    coverage = [[f"{p:.0%}", f"{np.mean(squared < -2 * math.log(1 - p)):.1%}"] for p in LEVELS]
    by_snr = []
    for low, high in [(-5, 0), (0, 5), (5, 10), (10, 20), (20, 30)]:
        at = (weakest >= low) & (weakest < high)
        if at.sum() >= 50:
            inside = [f"{np.mean(squared[at] < -2 * math.log(1 - p)):.1%}" for p in (0.68, 0.95)]
            by_snr.append(
                [
                    f"{low} to {high} dB",
                    at.sum(),
                    f"{np.median(error[at]):.0f} m",
                    f"{np.median(baseline[at]):.0f} m",
                    *inside,
                ]
            )
    heads = ["SNR at the weakest receiver", "scenes", "median error", "trilateration"]
    heads += ["68 % covers", "95 % covers"]
    (folder / "CARD.md").write_text(
        CARD.format(
            train=TRAIN,
            calibration=CALIBRATION,
            test=TEST,
            epochs=EPOCHS,
            scale=scale,
            size=size,
            digest=digest,
            generated=generated,
            clock=clock,
            milliseconds=onnx.milliseconds(features),
            sigma=np.median(uncertainties[:, :2]),
            errors=common.table(
                ["", "median error", "90 % error", "root mean square"],
                [row("this model", error), row("RSS trilateration", baseline)],
            ),
            coverage=common.table(["ellipse", "covers"], coverage),
            by_snr=common.table(heads, by_snr),
        )
    )
    common.say((folder / "CARD.md").read_text())


CARD = """# localization, version 1

Where an emitter is, from one frame that three receivers at known places recorded together. Written by
`ops/train/run localization`; every number below is from that run.

**Input** `features` `[B, 3, 64, T]`: power in 64 linear bands, in tens of decibels above the receivers'
noise; any number of columns. **Output** `positions` `[B, 2]`, metres east and north of 45° N 7.6° E, and
`uncertainties` `[B, 3]`: the sigmas along the ellipse's two axes in metres, and the first axis's turn from
east in degrees, counter-clockwise. It states no confidence: the ellipse says what there is to say.

## Data

Simulated scenes of the crate `sferic-scene`; nothing measured on the air. Three receivers, about 4.4 km
apart; the emitter is anywhere in 6 km × 6 km around them. Path loss with exponent 3 and log-normal shadowing,
independent per receiver, with a sigma of 4 to 8 dB that differs from scene to scene; the emitter's power is
unknown; every receiver hears it at −5 to 30 dB SNR (the whole scene is drawn again otherwise); tone, AM, FM,
OOK, FSK, PSK or OFDM anywhere in the band; per receiver the propagation delay, ±10 µs of clock and ±1 ppm of
oscillator. The receivers are calibrated: their noise power is known. {train} scenes to train, {calibration}
to calibrate, {test} to test, from different seeds.

## Method

The mean power of each band over time, two convolutions over the bands, three dense layers; position and the
logarithm of a full covariance matrix. The loss is the likelihood of a two-dimensional Gaussian; {epochs}
epochs of AdamW. The sigmas are then scaled by one factor, {scale:.3f}, found on the calibration scenes. The
features are computed by the daemon's own code.

## Measured on the {test} test scenes

{errors}

Trilateration is maximum likelihood under log-normal shadowing for an unknown power. It knows the path-loss
exponent, the noise power and the area, and gets the received power of the same frames.

{coverage}

{by_snr}

The median sigma is {sigma:.0f} m.

## Limits

The error is that of the shadowing: three levels that are each off by 4 to 8 dB tell no more. It holds for
these receivers' places, this path-loss exponent and calibrated levels; for other places, train anew. A frame
scaled by an unknown factor, or with a signal at one receiver only, is outside of what it has seen.

`model.onnx` has {size} bytes, SHA-256 `{digest}`. One frame takes {milliseconds:.2f} ms on one core.
The run took {clock}, of which {generated} to simulate, on a machine of two cores shared with other work.
"""

if __name__ == "__main__":
    main()
