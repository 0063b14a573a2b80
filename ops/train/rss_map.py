"""The data of `rss`, their split by place, and the radio map: the level of each place at each receiver."""

import json
import math
import os
from pathlib import Path

import numpy as np
import torch
from geographiclib.geodesic import Geodesic
from torch import nn

import common

FOLDER = Path(os.environ.get("SFERIC_POWDER", common.ROOT.parent / "shared" / "loc" / "powder"))
# Latitude and longitude from which metres are counted; the same as in model.toml.
ORIGIN = (40.7665, -111.8420)
CELL = 150  # metres: the side of a cell of the split
CAMPAIGNS = ("2022-04", "2022-07", "2022-11")
MONTHS = ("April", "July", "November")
STEP, REACH = 40.0, 200.0  # metres: the candidate places, and how far they go beyond the trained fixes
NEAR = 20.0  # metres: added to a distance in squares, so that a level stays finite
BIN = 25.0  # metres: fixes of one receiver this near to each other are averaged
DB = math.log(10.0) / 10.0


def cells(places):
    """Column and row of the cell of each place [N, 2] in metres."""
    return np.floor(np.asarray(places) / CELL).astype(np.int64)


def cell_hash(column, row):
    """The hash by which cells are assigned, 0 to 2**32 - 1; products and XOR are of signed integers."""
    return ((column * 73856093) ^ (row * 19349663)) & 0xFFFFFFFF


def is_test(east, north):
    """Whether a place, in metres from the origin, is in a cell that only tests."""
    column, row = cells(np.stack([east, north], axis=-1)).T
    return cell_hash(column, row) % 5 == 0


def metres(place):
    """Metres east and north of the origin: length and azimuth of the geodesic, WGS 84."""
    line = Geodesic.WGS84.Inverse(*ORIGIN, *place)
    azimuth = math.radians(line["azi1"])
    return line["s12"] * math.sin(azimuth), line["s12"] * math.cos(azimuth)


class Data:
    """The fixes as arrays; slots are the receivers' names in sorted order, absent slots 0.

    power [N, R] in dB, mask [N, R], receivers [N, R, 2] and place [N, 2] in metres, campaign [N] (0, 1, 2).
    """

    def __init__(self):
        fixes = [json.loads(line) for line in (FOLDER / "fixes.jsonl").open()]
        fixed = json.loads((FOLDER / "fixed_receivers.json").read_text())
        self.names = sorted(set(fixed) | {name for fix in fixes for name in fix["receivers"]})
        self.fixed = np.array([name in fixed for name in self.names])
        self.stands = np.array([metres(fixed.get(name, ORIGIN)) for name in self.names])
        shape = (len(fixes), len(self.names))
        self.power = np.zeros(shape, np.float32)
        self.mask = np.zeros(shape, np.float32)
        self.receivers = np.zeros((*shape, 2), np.float32)
        self.unplaced = 0
        for row, fix in enumerate(fixes):
            for name, (level, *place) in fix["receivers"].items():
                slot = self.names.index(name)
                if place == [0, 0]:
                    self.unplaced += 1
                    continue
                self.power[row, slot], self.mask[row, slot] = level, 1
                self.receivers[row, slot] = metres(place) if place else self.stands[slot]
        self.place = np.array([metres(fix["emitter"]) for fix in fixes])
        self.campaign = np.array([CAMPAIGNS.index(fix["time"][:7]) for fix in fixes])
        self.test = is_test(*self.place.T)
        hashes = cell_hash(*cells(self.place).T)
        # The fifth of the cells that a fix is in, and for a training fix its fold in cross-validation.
        self.fifth, self.fold = hashes % 5, hashes // 5 % 5

    def inputs(self, rows, mask=None):
        """The model's three inputs for `rows`, as the daemon makes them; `mask` drops further receivers."""
        mask = self.mask[rows] if mask is None else mask
        power, receivers = self.power[rows] * mask, self.receivers[rows] * mask[:, :, None]
        return power[:, :, None].astype(np.float32), mask.astype(np.float32), receivers.astype(np.float32)


def candidates(places):
    """The places on a grid of STEP that are within REACH of some trained fix, [G, 2] in metres."""
    low, high = places.min(axis=0) - REACH, places.max(axis=0) + REACH
    axes = [np.arange(a, b, STEP) for a, b in zip(low, high)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    near = [np.hypot(*(row[None] - places).T).min() < REACH for row in grid]
    return grid[near]


def log_distance(squared):
    """log10 of a distance in metres, from its square; never below that of NEAR."""
    return 0.5 * torch.log10(squared + NEAR**2)


def propagation(law, logs):
    """Mean level and its standard deviation, in dB, at log10 distances.

    `law` [..., 5]: level at 1 m, ln of the path-loss exponent, noise floor, and ln of the deviations at the
    floor and above it. At the floor a level tells that the emitter is far, and hardly varies.
    """
    one_metre, exponent, floor, quiet, loud = law.unbind(-1)
    signal = one_metre - 10.0 * torch.exp(exponent) * logs
    # ln(e^a + e^b) as max + ln(1 + e^-|a-b|): the form that ONNX has operators for.
    mean = torch.maximum(signal, floor) + torch.log1p(torch.exp(-DB * torch.abs(signal - floor))) / DB
    return mean, torch.exp(quiet) + torch.exp(loud) * torch.sigmoid((signal - floor) / 4.0)


def fit_propagation(squared, level):
    """The law of one receiver by Gaussian likelihood, with weak priors for those heard at few fixes."""
    logs, level = log_distance(torch.tensor(squared)), torch.tensor(level, dtype=torch.float64)
    floor = torch.quantile(level, 0.03)
    start = [(level + 30 * logs).mean(), math.log(3.0), floor, math.log(1.5), math.log(5.0)]
    law = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([law], max_iter=150, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        mean, deviation = propagation(law, logs)
        spread = torch.stack([law[1] - math.log(3.0), law[2] - floor, law[3] - math.log(1.5)])
        prior = 0.5 * (spread / torch.tensor([0.3, 3.0, 0.7])).square().sum() / 50
        total = (torch.log(deviation) + 0.5 * ((level - mean) / deviation) ** 2).mean() + prior
        total.backward()
        return total

    optimizer.step(loss)
    return law.detach()


def binned(places, residual, campaign):
    """Means over squares of BIN: places, campaigns, residuals, numbers of fixes."""
    squares = np.floor(places / BIN).astype(np.int64)
    _, index, count = np.unique(
        np.column_stack([squares, campaign]), axis=0, return_inverse=True, return_counts=True
    )
    columns = [np.bincount(index, values) / count for values in (*places.T, campaign, residual)]
    east, north, campaign, residual = torch.tensor(np.array(columns))
    return torch.stack([east, north], dim=1), campaign, residual, torch.tensor(count, dtype=torch.float64)


class Kernel:
    """Covariance of the residuals, in units of the law's deviation; one for all receivers.

    Two exponential terms of distance (a street, a neighbourhood), one term for fixes of one campaign (gains
    were changed between the campaigns), one for a square, and one for a fix.
    """

    START = [math.log(value) for value in (0.3, 40.0, 0.5, 250.0, 0.2, 0.05, 0.2)]

    def __init__(self, values=None):
        self.values = torch.tensor(self.START if values is None else values, dtype=torch.float64)

    def near(self, a, b):
        short, short_length, long, long_length, *_ = torch.exp(self.values)
        distance = torch.cdist(a, b)
        return short * torch.exp(-distance / short_length) + long * torch.exp(-distance / long_length)

    def factor(self, places, campaign, count):
        """Cholesky factor of the covariance of the observed squares."""
        *_, gain, square, fix = torch.exp(self.values)
        same = (campaign[:, None] == campaign).double()
        return torch.linalg.cholesky(
            self.near(places, places) + gain * same + torch.diag(square + fix / count)
        )

    def fit(self, observed, steps=30):
        """Adam on the marginal likelihood of several receivers' residuals."""
        self.values.requires_grad_(True)
        optimizer = torch.optim.Adam([self.values], lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            for places, campaign, residual, count in observed:
                factor = self.factor(places, campaign, count)
                white = torch.linalg.solve_triangular(factor, residual[:, None], upper=False)
                loss = (0.5 * white.square().sum() + torch.log(torch.diag(factor)).sum()) / len(residual)
                loss.backward()
            optimizer.step()
        self.values = self.values.detach()
        return self


class Survey:
    """The laws and residuals of a set of fixes, from which maps are made."""

    def __init__(self, data, rows):
        self.data, self.laws, self.observed = data, [], []
        for slot in range(len(data.names)):
            heard = rows[data.mask[rows, slot] > 0]
            squared = np.square(data.place[heard] - data.receivers[heard, slot]).sum(axis=1)
            law = fit_propagation(squared, data.power[heard, slot])
            mean, deviation = propagation(law, log_distance(torch.tensor(squared)))
            residual = (data.power[heard, slot] - mean.numpy()) / deviation.numpy()
            self.laws.append(law)
            # Beyond 4 deviations a level is a fault or interference rather than the place's.
            self.observed.append(binned(data.place[heard], residual.clip(-4, 4), data.campaign[heard]))

    def kernel(self, squares=400):
        """Fits the kernel to every second fixed receiver, at so many random squares each."""
        generator = torch.Generator().manual_seed(1)
        chosen = []
        for slot in np.flatnonzero(self.data.fixed)[::2]:
            size = len(self.observed[slot][0])
            if size > squares // 2:
                keep = torch.randperm(size, generator=generator)[:squares]
                chosen.append([values[keep] for values in self.observed[slot]])
        return Kernel().fit(chosen)

    def maps(self, kernel, grid):
        """Mean and deviation [campaigns, fixed receivers, G] of a level, in dB, at the candidate places."""
        means, deviations = [], []
        places = torch.tensor(grid)
        short, _, long, _, gain, square, fix = torch.exp(kernel.values)
        for slot in np.flatnonzero(self.data.fixed):
            squared = torch.tensor(np.square(grid - self.data.stands[slot]).sum(axis=1))
            mean, scale = propagation(self.laws[slot], log_distance(squared))
            at, campaign, residual, count = self.observed[slot]
            factor = kernel.factor(at, campaign, count)
            of_campaign = gain * (campaign[:, None] == torch.arange(len(CAMPAIGNS))).double()
            stacked = torch.cat([kernel.near(at, places), of_campaign, residual[:, None]], dim=1)
            white = torch.linalg.solve_triangular(factor, stacked, upper=False)
            by_place, by_campaign, right = white.split([len(grid), len(CAMPAIGNS), 1], dim=1)
            both = by_place[:, None] + by_campaign[:, :, None]
            variance = short + long + gain - both.square().sum(dim=0) + square + fix
            means.append(mean + scale * torch.einsum("nkg,n->kg", both, right[:, 0]))
            deviations.append(scale * torch.sqrt(variance))
        return torch.stack(means, dim=1).float(), torch.stack(deviations, dim=1).float()


class RadioMap(nn.Module):
    """Log likelihood [B, G] of the levels at each candidate place.

    What the fixed receivers hear comes from the maps, what the buses hear from the law alone. All levels may
    be off by a common amount (the radio's power, how it is held), which is marginalised, as is the campaign.
    """

    OFFSET = 2.0  # dB: standard deviation of the common amount

    def __init__(self, survey, kernel, grid):
        super().__init__()
        data = survey.data
        mean, deviation = survey.maps(kernel, grid)
        # Half precision is 0.03 dB at −90 dB, and halves the file.
        self.register_buffer("mean", mean.half())
        self.register_buffer("deviation", deviation.half())
        self.register_buffer("grid", torch.tensor(grid, dtype=torch.float32))
        self.register_buffer("fixed", torch.tensor(np.flatnonzero(data.fixed)))
        self.register_buffer("moving", torch.tensor(np.flatnonzero(~data.fixed)))
        laws = torch.stack([survey.laws[slot] for slot in np.flatnonzero(~data.fixed)])
        self.register_buffer("laws", laws.float())

    def forward(self, power, mask, receivers):
        away = self.grid - receivers[:, self.moving][:, :, None]
        moving = propagation(self.laws[:, None], log_distance(away.square().sum(dim=3)))
        moving = self.sums(power[:, self.moving], mask[:, self.moving], *moving)
        likelihoods = []
        for campaign in range(len(CAMPAIGNS)):
            mean, deviation = self.mean[campaign].float(), self.deviation[campaign].float()
            fixed = self.sums(power[:, self.fixed], mask[:, self.fixed], mean, deviation)
            total, linear, square, logs = [a + b for a, b in zip(fixed, moving)]
            square = square - linear * linear / (total + self.OFFSET**-2)
            likelihoods.append(logs - 0.5 * (torch.log1p(self.OFFSET**2 * total) + square))
        return torch.logsumexp(torch.stack(likelihoods, dim=1), dim=1)

    @staticmethod
    def sums(power, mask, mean, deviation):
        """Sums over receivers: precision, that times residual and its square, ln of its root."""
        precision = mask[:, :, None] / (deviation * deviation)
        residual = power[:, :, None] - mean
        logs = -(mask[:, :, None] * torch.log(deviation)).sum(dim=1)
        linear = precision * residual
        return precision.sum(dim=1), linear.sum(dim=1), (linear * residual).sum(dim=1), logs
