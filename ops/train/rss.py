"""Trains the bundle `rss`: where a hand-held radio is, from the levels at up to 37 receivers."""

import hashlib
import math
import re

import numpy as np
import onnx
import torch
from torch import nn

import common
from rss_card import card
from rss_map import MONTHS, STEP, Data, RadioMap, Survey, candidates

SEED = 1
NETWORKS, HIDDEN = 5, 128
STEPS, BATCH = 4000, 96
FOLDS = 5
LEVELS = (0.50, 0.68, 0.90, 0.95)
# Tried on the held-out folds: weights of map and networks in the logarithm of the posterior.
MAP_WEIGHTS = (0.3, 0.4, 0.5, 0.7)
NETWORK_WEIGHTS = (0.5, 0.7, 0.9, 1.2)
# Metres: standard deviation of what neither knows, as the error of the fixes themselves; it keeps sharp
# posteriors from claiming more than was measured on the held-out folds.
FIX_ERROR = 30.0
OUTPUTS = ["positions", "uncertainties"]


class Networks(nn.Module):
    """Levels and mask of the fixed receivers [B, F] to [K, B, 5], from K networks at once.

    East and north in kilometres and the logarithm of the covariance matrix, (m, d, o) for
    [[m + d, o], [o, m - d]], of which any three numbers give a valid one.
    """

    def __init__(self, receivers):
        super().__init__()
        sizes = [(2 * receivers, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 5)]
        # The last layer starts small: all fixes in the middle, with a sigma of a kilometre.
        gains = [1.0, 1.0, 0.1]
        self.weights = nn.ParameterList(
            torch.randn(NETWORKS, *size) * gain * math.sqrt(2 / size[0]) for size, gain in zip(sizes, gains)
        )
        self.biases = nn.ParameterList(torch.zeros(NETWORKS, 1, size[1]) for size in sizes)

    def forward(self, power, mask):
        x = torch.cat([(power + 80.0) / 15.0 * mask, mask], dim=-1)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            if layer > 0:
                x = nn.functional.dropout(nn.functional.gelu(x), 0.1, self.training)
            x = x @ weight + bias
        return x


def log_density(output, place):
    """Logarithm of each network's Gaussian at places in kilometres, without its constant."""
    m, d, o = output[..., 2], output[..., 3], output[..., 4]
    east, north = (place - output[..., :2]).unbind(-1)
    r = torch.sqrt(d * d + o * o + 1e-8)
    # exp of minus the matrix: exp(-m) (cosh r - sinh r / r [[d, o], [o, -d]]).
    short, long = torch.exp(r - m), torch.exp(-r - m)
    turned = d * (east * east - north * north) + 2 * o * east * north
    square = 0.5 * (short + long) * (east * east + north * north) - 0.5 * (short - long) / r * turned
    return -m - 0.5 * square


def train(data, rows, seed):
    """AdamW on the Gaussian likelihood; every network draws its own fixes.

    Receivers are dropped at random, so that a network does not tell the date, and with it the walk, from
    which receivers are there; all levels move by a common amount, since the radio's power is not known.
    Buses are left out: where they are is a clock, which tells a cell from its neighbours on the same walk.
    """
    torch.manual_seed(seed)
    fixed = np.flatnonzero(data.fixed)
    power, mask = (torch.from_numpy(values[rows][:, fixed]) for values in (data.power, data.mask))
    truth = torch.from_numpy(data.place[rows] / 1000.0).float()
    networks = Networks(len(fixed))
    optimizer = torch.optim.AdamW(networks.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        index = torch.randint(len(rows), (NETWORKS, BATCH))
        keep = 0.6 + 0.4 * torch.rand(NETWORKS, BATCH, 1)
        heard = mask[index] * (torch.rand(NETWORKS, BATCH, len(fixed)) < keep)
        level = power[index] + 1.5 * torch.randn(NETWORKS, BATCH, 1)
        level = level + 2.0 * torch.randn(NETWORKS, BATCH, len(fixed))
        loss = -log_density(networks(level, heard), truth[index]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    common.say(f"networks: loss {loss.item():.3f}")
    return networks.eval()


class Model(nn.Module):
    """The exported graph: a posterior over the candidate places, and its mean and covariance."""

    def __init__(self, radio_map, networks):
        super().__init__()
        self.map, self.networks, self.weights = radio_map, networks, (0.4, 0.5)

    def logarithms(self, power, mask, receivers):
        """Log likelihoods [B, G] of the map, and log densities of the networks' mixture."""
        power, fixed = power[:, :, 0], self.map.fixed
        output = self.networks(power[:, fixed], mask[:, fixed]).unsqueeze(2)
        densities = torch.logsumexp(log_density(output, self.map.grid / 1000.0), dim=0)
        return self.map(power, mask, receivers), densities

    def posterior(self, of_map, of_networks):
        """Positions [B, 2] and uncertainties [B, 3] from both logarithms."""
        weighted = self.weights[0] * of_map + self.weights[1] * of_networks
        share = torch.softmax(weighted, dim=1)
        position = share @ self.map.grid
        east, north = (self.map.grid - position[:, None]).unbind(2)
        # A place stands for a square of the grid's step, which has a variance of its own.
        own = STEP**2 / 12 + FIX_ERROR**2
        xx = (share * east * east).sum(dim=1) + own
        yy = (share * north * north).sum(dim=1) + own
        o = (share * east * north).sum(dim=1)
        m, d = 0.5 * (xx + yy), 0.5 * (xx - yy)
        r = torch.sqrt(d * d + o * o + 1e-6)
        # The long axis is turned by half the angle of (d, o). ONNX has no atan2, and each half-angle formula
        # loses its digits on one side.
        theta = torch.where(
            d >= 0, torch.atan(o / (r + d)), torch.atan((r - d) / torch.where(o == 0, 1e-12, o))
        )
        sigmas = torch.sqrt(torch.stack([m + r, (xx * yy - o * o) / (m + r)], dim=1))
        return position, torch.cat([sigmas, theta[:, None] * (180.0 / math.pi)], dim=1)

    def forward(self, power, mask, receivers):
        return self.posterior(*self.logarithms(power, mask, receivers))


def half(mask, seed):
    """The mask with a random half of its receivers, rounded up, per fix."""
    draw = np.where(mask > 0, np.random.default_rng(seed).random(mask.shape), 2.0)
    rank = draw.argsort(axis=1).argsort(axis=1)
    return (rank < np.ceil(mask.sum(axis=1, keepdims=True) / 2)).astype(np.float32)


def quantiles(squared):
    """Conformal quantiles of squared distances: the smallest that hold (n + 1) p of n fixes."""
    count = len(squared)
    return [float(np.sort(squared)[min(count, math.ceil((count + 1) * p)) - 1]) for p in LEVELS]


class Held:
    """What models that had not seen a fold say about its fixes, with all receivers and with half of them."""

    def __init__(self, data, kernel, grid):
        self.parts, self.truth = ([], []), []
        training = np.flatnonzero(~data.test)
        for fold in range(FOLDS):
            seen = training[data.fold[training] != fold]
            held = training[data.fold[training] == fold]
            model = Model(RadioMap(Survey(data, seen), kernel, grid), train(data, seen, SEED + 1 + fold))
            masks = (data.mask[held], half(data.mask[held], fold))
            for part, mask in zip(self.parts, masks):
                inputs = [torch.from_numpy(values) for values in data.inputs(held, mask)]
                with torch.no_grad():
                    for at in range(0, len(held), 16):
                        part.append(model.logarithms(*(values[at : at + 16] for values in inputs)))
            self.truth.append(data.place[held])
            common.say(f"fold {fold + 1} of {FOLDS}")
        self.truth = np.concatenate(self.truth)
        self.parts = [[torch.cat(values) for values in zip(*part)] for part in self.parts]

    def answers(self, model, part):
        """Positions and uncertainties with `model`'s weights; part 0 has all receivers, 1 half of them."""
        with torch.no_grad():
            pieces = zip(*(values.split(256) for values in self.parts[part]))
            both = [model.posterior(*piece) for piece in pieces]
        return [torch.cat(values).numpy() for values in zip(*both)]

    def fuse(self, model):
        """Chooses the weights by mean error plus radius of the calibrated 90 % ellipse, both in metres."""
        best = math.inf
        for weights in [(a, b) for a in MAP_WEIGHTS for b in NETWORK_WEIGHTS]:
            model.weights = weights
            cost = 0.0
            for part in (0, 1):
                positions, uncertainties = self.answers(model, part)
                error = np.hypot(*(positions - self.truth).T)
                radius = quantiles(common.squared_distances(positions, uncertainties, self.truth))[2]
                size = np.sqrt(radius * uncertainties[:, 0] * uncertainties[:, 1])
                # With half of the receivers all is about twice as large.
                cost += (error.mean() + np.median(size)) / (part + 1)
            common.say(f"weights {weights}: {cost:.1f}")
            if cost < best:
                best, chosen = cost, weights
        model.weights = chosen


def export(model, inputs, path):
    """Writes the graph as ONNX, opset 17, with a free batch axis; returns its size in bytes."""
    names = ["power", "mask", "receivers"]
    torch.onnx.export(
        model.eval(),
        tuple(torch.from_numpy(values) for values in inputs),
        path,
        input_names=names,
        output_names=OUTPUTS,
        dynamic_axes={name: {0: "batch"} for name in names + OUTPUTS},
        opset_version=17,
        do_constant_folding=False,  # the maps stay in half precision
        dynamo=False,
    )
    onnx.checker.check_model(str(path), full_check=True)
    size = path.stat().st_size
    if size >= 3_000_000:
        raise SystemExit(f"{path.name} has {size} bytes, more than 3 MB")
    return size


class Onnx(common.Onnx):
    """Runs the model file on one thread."""

    def __call__(self, inputs, batch=16):
        names = [node.name for node in self.session.get_inputs()]
        parts = [
            self.session.run(None, {name: values[at : at + batch] for name, values in zip(names, inputs)})
            for at in range(0, len(inputs[0]), batch)
        ]
        return [np.concatenate(part) for part in zip(*parts)]


def agreement(model, run, inputs):
    """The largest difference of ONNX Runtime from PyTorch, in units of the smaller sigma."""
    with torch.no_grad():
        expected = [values.numpy() for values in model(*(torch.from_numpy(values) for values in inputs))]
    positions, uncertainties = run(inputs)
    smaller = expected[1][:, 1:2]
    moved = np.abs(positions - expected[0]) / smaller
    grown = np.abs(uncertainties - expected[1])[:, :2] / smaller
    return float(max(moved.max(), grown.max()))


def answer(run, data, rows, path, mask=None):
    """Writes the offline answers for `rows`, and their inputs, for a test through the daemon."""
    power, mask, receivers = data.inputs(rows, mask)
    positions, uncertainties = run((power, mask, receivers))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        row=rows,
        power=power,
        mask=mask,
        receivers=receivers,
        positions=positions,
        uncertainties=uncertainties,
    )
    return positions, uncertainties


def seal(folder, radii, count):
    """Puts the digest and the calibration into model.toml; returns the digest."""
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    path = folder / "model.toml"
    text = re.sub(r'(?m)^sha256 = ".*"$', f'sha256 = "{digest}"', path.read_text())
    head = text.split("[output.calibration]")[0].rstrip()
    lines = [
        "# Measured squared radii, in units of the model's own covariance; written by ops/train/rss.py.",
        "[output.calibration]",
        f"levels = [{', '.join(f'{level:g}' for level in LEVELS)}]",
        f"radius_squared = [{', '.join(f'{radius:.3f}' for radius in radii)}]",
        'source = "POWDER FRS, cells of 150 m that were not trained on"',
        f"n = {count}",
    ]
    head = head.removesuffix(lines[0]).rstrip()
    path.write_text(head + "\n\n" + "\n".join(lines) + "\n")
    return digest


def other_fifths(data, kernel, grid, weights):
    """What models trained without another fifth of the cells say about it: rows and answers of each.

    They show how much the fifth that tests is one of many; nothing of them is shipped.
    """
    for fifth in range(1, 5):
        seen, left = np.flatnonzero(data.fifth != fifth), np.flatnonzero(data.fifth == fifth)
        model = Model(RadioMap(Survey(data, seen), kernel, grid), train(data, seen, SEED + 10 + fifth)).eval()
        model.weights = weights
        inputs = [torch.from_numpy(values) for values in data.inputs(left)]
        with torch.no_grad():
            parts = [model(*part) for part in zip(*(values.split(16) for values in inputs))]
        yield left, *(torch.cat(values).numpy() for values in zip(*parts))


def gain_change(data, radio_map, fixes=100):
    """The largest difference of two campaigns' maps, mean over the places, for one receiver heard in both."""
    found = []
    for at, slot in enumerate(radio_map.fixed.tolist()):
        heard = data.campaign[(data.mask[:, slot] > 0) & ~data.test]
        levels = radio_map.mean[:, at].float().mean(dim=1).tolist()
        known = [k for k in range(len(levels)) if (heard == k).sum() >= fixes]
        found += [(levels[a] - levels[b], data.names[slot], a, b) for a in known for b in known]
    change, receiver, more, less = max(found)
    return dict(change=change, changed=receiver, more=MONTHS[more], less=MONTHS[less])


def main():
    clock = common.Clock()
    common.settle(SEED)
    # Denormal numbers, frequent in likelihoods far from the place, take many times as long.
    torch.set_flush_denormal(True)
    folder = common.bundle("rss")
    data = Data()
    training, test = np.flatnonzero(~data.test), np.flatnonzero(data.test)
    grid = candidates(data.place[training])
    survey = Survey(data, training)
    kernel = survey.kernel()
    held = Held(data, kernel, grid)
    model = Model(RadioMap(survey, kernel, grid), train(data, training, SEED)).eval()
    held.fuse(model)
    answers = held.answers(model, 0)
    radii = quantiles(common.squared_distances(*answers, held.truth))
    size = export(model, data.inputs(training[:2]), folder / "model.onnx")
    digest = seal(folder, radii, len(held.truth))
    run = Onnx(folder / "model.onnx")
    difference = agreement(model, run, data.inputs(training[:200]))
    common.say(f"{clock}; ONNX differs by {difference:.1e} of a sigma")
    facts = dict(weights=model.weights, radii=radii, size=size, digest=digest, difference=difference)
    facts |= dict(kernel=torch.exp(kernel.values).tolist(), places=len(grid), clock=str(clock))
    facts |= gain_change(data, model.map)
    fifths = list(other_fifths(data, kernel, grid, model.weights))
    card(folder, data, run, facts, (held, model), fifths)


if __name__ == "__main__":
    main()
