"""The ONNX graph of the bundle `tdoa`: lags of correlation peaks to a place and its ellipse, nothing learned.

All lengths are metres; a lag is multiplied by the speed of light as soon as it is read.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RECEIVERS = 8
PAIRS = [(i, j) for i in range(RECEIVERS) for j in range(i + 1, RECEIVERS)]
LIGHT = 299_792_458.0
# Mean radius of the Earth; the plane of azimuths and lengths from the origin is bent onto this sphere.
EARTH = 6_371_000.0
# Timing error of one receiver, one sigma, in lag steps: the bundle chooses its lag step by it.
FLOOR_STEPS = 1.0
# A lag may be longer than the pair is apart by so many timing errors.
LAG_MARGIN = 8.0
# Cauchy's loss with this constant has 95 % efficiency under normal errors.
CAUCHY = 2.385
# Prior on the place: so many times the receivers' spread about their centre, one sigma.
PRIOR_SPREADS = 2.0
# The grids: half width in spreads (the first) or cells of the one before, and cells along a side.
COARSE_HALF, COARSE_SIDE = 2.5, 49
ZOOM_HALF, ZOOM_SIDE = 1.5, 25
# The second start is at least so many cells of the first grid away.
APART_CELLS = 5
STEPS = 12
# Degrees of freedom of the belief in the stated timing error, for the growth of the ellipse by the residual.
BELIEF = 4.0
# Growth of the covariance where nothing can be checked: chosen on scenes that no figure of the card is from.
UNCHECKED = 1.8
# Odds of one receiver being wrong by any amount, for the ellipse's growth; chosen on the same scenes.
WRONG = 0.03


class Graph:
    """Collects nodes and constants; every method returns the name of what it adds."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], {}, 0

    def const(self, value, dtype=np.float32):
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    def __call__(self, op, *inputs, name=None, **attributes):
        names = [x if isinstance(x, str) else self.const(x) for x in inputs]
        self.count += 1
        name = name or f"{op.lower()}_{self.count}"
        self.nodes.append(helper.make_node(op, names, [name], **attributes))
        return name

    def ints(self, *values):
        return self.const(values, np.int64)

    def add(self, a, *others):
        for b in others:
            a = self("Add", a, b)
        return a

    def sub(self, a, b):
        return self("Sub", a, b)

    def mul(self, a, *others):
        for b in others:
            a = self("Mul", a, b)
        return a

    def div(self, a, b):
        return self("Div", a, b)

    def square(self, a):
        return self("Mul", a, a)

    def unsqueeze(self, a, *axes):
        return self("Unsqueeze", a, self.ints(*axes))

    def sum(self, a, axis, keep=0):
        return self("ReduceSum", a, self.ints(axis), keepdims=keep)

    def largest(self, a, axis, keep=0):
        return self("ReduceMax", a, axes=[axis], keepdims=keep)

    def pick(self, a, index, axis):
        return self("Gather", a, self.const(index, np.int64), axis=axis)

    def part(self, a, index):
        """One element of the last axis, which goes."""
        return self.pick(a, index, -1)

    def stack(self, *parts):
        """Joins along a new last axis."""
        return self("Concat", *[self.unsqueeze(p, -1) for p in parts], axis=-1)

    def either(self, condition, yes, no):
        return self("Where", condition, yes, no)


def on_sphere(g, points):
    """[..., 2] metres east, north of the origin to [..., 3] metres on the sphere, from the origin.

    Series in the angle, good to a centimetre up to 1000 km: the sine of a small angle over the angle has no
    good form in single precision, and the height would be a difference of large numbers.
    """
    flat = g.div(points, EARTH)
    square = g.sum(g.square(flat), -1, keep=1)
    sine = g.add(1.0, g.mul(square, g.add(-1 / 6, g.mul(square, g.add(1 / 120, g.mul(square, -1 / 5040))))))
    drop = g.mul(square, g.add(-0.5, g.mul(square, g.add(1 / 24, g.mul(square, -1 / 720)))))
    return g("Concat", g.mul(points, sine), g.mul(drop, EARTH), axis=-1)


def great_circle(g, a, b):
    """Length of the arc between two points on the sphere, by the chord: exact for near and for far ones."""
    chord = g("Sqrt", g.sum(g.square(g.sub(a, b)), -1))
    return g.mul(g("Asin", g.div(chord, 2 * EARTH)), 2 * EARTH)


def peaks(g, correlation, step, reach):
    """The lag in metres [B, P] of the highest magnitude within `reach` metres of 0, and that magnitude."""
    shape = g("Shape", correlation)
    lags = g("Gather", shape, g.const(2, np.int64), axis=0)
    last = g("Sub", lags, g.const(1, np.int64))
    middle = g("Div", last, g.const(2, np.int64))
    zero, one = g.const(0, np.int64), g.const(1, np.int64)
    offsets = g("Cast", g("Sub", g("Range", zero, lags, one), middle), to=TensorProto.FLOAT)
    within = g("LessOrEqual", g.mul(g("Abs", offsets), g.unsqueeze(step, 1)), g.unsqueeze(reach, 2))
    allowed = g.either(within, correlation, -1.0)
    top = g("ArgMax", allowed, axis=2, keepdims=1)
    near = {-1: g("Max", g("Sub", top, one), zero), 0: top, 1: g("Min", g("Add", top, one), last)}
    at = {shift: g("GatherElements", correlation, index, axis=2) for shift, index in near.items()}
    curve = g.sub(g.add(at[-1], at[1]), g.mul(at[0], 2.0))
    vertex = g.div(g.mul(g.sub(at[-1], at[1]), 0.5), g("Min", curve, -1e-12))
    # At either end of the axis there is no parabola; at the edge of the reach it stays at half a step.
    inner = g("And", g("Greater", top, zero), g("Less", top, last))
    vertex = g.either(inner, g("Min", g("Max", vertex, -0.5), 0.5), 0.0)
    place = g.add(g("Cast", g("Sub", top, middle), to=TensorProto.FLOAT), vertex)
    squeeze = g.ints(2)
    return g.mul(g("Squeeze", place, squeeze), step), g("Squeeze", at[0], squeeze)


def pairwise(g, values, axis):
    """The later receiver's value less the earlier one's, for every pair."""
    first, second = ([p[k] for p in PAIRS] for k in (0, 1))
    return g.sub(g.pick(values, second, axis), g.pick(values, first, axis))


def cost(g, points, data):
    """The objective [B, K] at points [B, K, 2], with the variance `blur` added to every pair's."""
    ranges = great_circle(g, g.unsqueeze(on_sphere(g, points), 2), data["sphere"])
    errors = g.sub(data["delays"], pairwise(g, ranges, 2))
    square = g.div(g.square(errors), g.mul(g.add(data["variance"], data["blur"]), CAUCHY**2))
    loss = g.sum(g.mul(g("Log", g.add(1.0, square)), data["present"]), 2)
    away = g.sum(g.square(g.sub(points, data["centre"])), 2)
    return g.add(g.mul(loss, data["share"], 0.5 * CAUCHY**2), g.mul(away, data["prior"], 0.5))


def cells(half, side):
    """[1, side², 2]: centres of cells in the square from -half to half."""
    line = np.linspace(-half, half, side, dtype=np.float32)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(1, -1, 2)


def best(g, points, costs):
    """The point [B, 1, 2] with the lowest cost."""
    index = g("ArgMin", costs, axis=1, keepdims=1)
    index = g("Expand", g.unsqueeze(index, 2), g.ints(1, 1, 2))
    return g("GatherElements", points, index, axis=1)


def zoomed(g, start, width, data):
    """Searches two finer grids about `start`; a cell of the first is `width` metres [B, 1, 1] wide."""
    for _ in range(2):
        points = g.add(start, g.mul(width, cells(ZOOM_HALF, ZOOM_SIDE)))
        width = g.mul(width, 2 * ZOOM_HALF / (ZOOM_SIDE - 1))
        start = best(g, points, cost(g, points, data | {"blur": g.square(g.mul(width, 0.5))}))
    return start


def linearised(g, points, data):
    """Errors [B, K, P], their weights, and the modelled delays' slopes [B, K, P, 2] at [B, K, 2]."""
    ranges = great_circle(g, g.unsqueeze(on_sphere(g, points), 2), data["sphere"])
    errors = g.sub(data["delays"], pairwise(g, ranges, 2))
    flat = g.sub(g.unsqueeze(points, 2), data["places"])
    length = g("Max", g("Sqrt", g.sum(g.square(flat), 3, keep=1)), 1.0)
    slopes = pairwise(g, g.div(flat, length), 2)
    heavy = g.add(1.0, g.div(g.square(errors), g.mul(data["variance"], CAUCHY**2)))
    weights = g.div(g.mul(data["present"], g.unsqueeze(data["share"], 2)), g.mul(data["variance"], heavy))
    return errors, weights, slopes


def outer(g, rows, weights):
    """Weighted sum of squares of rows [B, K, n, 2] as (xx, xy, yy), each [B, K]."""
    x, y = g.part(rows, 0), g.part(rows, 1)
    return [g.sum(g.mul(a, b, weights), 2) for a, b in ((x, x), (x, y), (y, y))]


def inverse(g, matrix):
    """The inverse of a symmetric matrix (xx, xy, yy)."""
    xx, xy, yy = matrix
    determinant = g.sub(g.mul(xx, yy), g.square(xy))
    return [g.div(yy, determinant), g("Neg", g.div(xy, determinant)), g.div(xx, determinant)]


def gauss_newton(g, points, data):
    """Steps with weights renewed at each (Cauchy's loss), none longer than a quarter of the spread."""
    for _ in range(STEPS):
        errors, weights, slopes = linearised(g, points, data)
        xx, xy, yy = outer(g, slopes, weights)
        xx, xy, yy = inverse(g, (g.add(xx, data["prior"]), xy, g.add(yy, data["prior"])))
        pull = g.sum(g.mul(slopes, g.unsqueeze(g.mul(weights, errors), 3)), 2)
        pull = g.sub(pull, g.mul(g.sub(points, data["centre"]), data["pull"]))
        x, y = g.part(pull, 0), g.part(pull, 1)
        step = g.stack(g.add(g.mul(xx, x), g.mul(xy, y)), g.add(g.mul(xy, x), g.mul(yy, y)))
        length = g("Sqrt", g.add(g.sum(g.square(step), 2, keep=1), 1e-6))
        points = g.add(points, g.mul(step, g("Min", g.div(data["longest"], length), 1.0)))
    return points


def covariance(g, points, data):
    """(xx, xy, yy) of the estimate, each [B, K].

    The sandwich H⁻¹ M H⁻¹. In M the receivers' timing errors are common to their pairs; what scatters between
    windows is per pair but counted for n / 2 pairs, which is exact where it is noise of the receivers.
    """
    _, weights, slopes = linearised(g, points, data)
    xx, xy, yy = outer(g, slopes, weights)
    inner = (g.add(xx, data["prior"]), xy, g.add(yy, data["prior"]))
    incidence = np.array([[(k == j) - float(k == i) for i, j in PAIRS] for k in range(RECEIVERS)], np.float32)
    per_pair = g.mul(slopes, g.unsqueeze(weights, 3))
    per_receiver = g("MatMul", incidence, per_pair)
    clocks = outer(g, per_receiver, g.unsqueeze(data["floor2"], 2))
    noise = outer(g, per_pair, g.div(data["scatter2"], g.unsqueeze(data["share"], 2)))
    middle = [g.add(a, b) for a, b in zip(clocks, noise)]
    middle = (g.add(middle[0], data["prior"]), middle[1], g.add(middle[2], data["prior"]))
    a, b, c = inverse(g, inner)
    p, q, r = middle
    left = [g.add(g.mul(a, p), g.mul(b, q)), g.add(g.mul(a, q), g.mul(b, r))]
    right = [g.add(g.mul(b, p), g.mul(c, q)), g.add(g.mul(b, q), g.mul(c, r))]
    return [
        g.add(g.mul(left[0], a), g.mul(left[1], b)),
        g.add(g.mul(left[0], b), g.mul(left[1], c)),
        g.add(g.mul(right[0], b), g.mul(right[1], c)),
    ]


def misfit(g, points, data):
    """Sum of the squared errors over their variances [B, K], all pairs alike."""
    errors, _, _ = linearised(g, points, data)
    return g.sum(g.mul(g.div(g.square(errors), data["variance"]), data["present"]), 2)


def outlier_spread(g, place, chi, data):
    """(xx, xy, yy), each [B, 1], to add to the covariance because one receiver may be wrong.

    The place is fitted without each receiver in turn; each fit counts by its likelihood and WRONG.
    """
    keep = np.array([[k not in pair for pair in PAIRS] for k in range(RECEIVERS)], np.float32)
    share = g.div(2.0, g("Max", g.sub(data["count"], 1.0), 2.0))
    others = data | {"present": g.mul(data["present"], keep[None]), "share": share}
    places = gauss_newton(g, place, others)
    fits = g.mul(misfit(g, places, others), share)
    # Three have to be left; a fit that failed is not a number and not less than anything.
    enough = g("And", g("Greater", "mask", 0.5), g("Greater", data["count"], 3.5))
    possible = g("And", enough, g("Less", fits, 1e30))
    logs = g.either(possible, g.add(g.mul(fits, -0.5), np.log(WRONG)), -1e9)
    shares = g("Softmax", g("Concat", g.mul(chi, -0.5), logs, axis=1), axis=1)
    weights = g("Slice", shares, g.ints(1), g.ints(1 + RECEIVERS), g.ints(1))
    gaps = g.either(g.unsqueeze(possible, 2), g.sub(places, place), 0.0)
    return outer(g, g.unsqueeze(gaps, 1), g.unsqueeze(weights, 1))


def ellipse(g, xx, xy, yy):
    """Of a covariance, each [B, 1]: the sigmas along both axes, the first one's turn in degrees [B, 3]."""
    mean, d = g.mul(g.add(xx, yy), 0.5), g.mul(g.sub(xx, yy), 0.5)
    r = g("Sqrt", g.add(g.square(d), g.square(xy), 1e-6))
    major = g.add(mean, r)
    minor = g.div(g.sub(g.mul(xx, yy), g.square(xy)), major)
    # Half the angle of (d, xy) turns the long axis; each half-angle formula loses its digits on one side.
    safe = g.either(g("Less", g("Abs", xy), 1e-6), 1e-6, xy)
    angle = g.either(
        g("GreaterOrEqual", d, 0.0),
        g("Atan", g.div(xy, g.add(r, g("Abs", d)))),
        g("Atan", g.div(g.add(r, g("Abs", d)), safe)),
    )
    sigmas = [g("Sqrt", g("Max", s, 1e-6)) for s in (major, minor)]
    return g("Concat", *sigmas, g.mul(angle, 180 / np.pi), axis=1)


def prepared(g):
    """What the steps share, from the inputs; the axes are [B, points, receivers or pairs, 2]."""
    mask, places = "mask", "receivers"
    count = g.sum(mask, 1, keep=1)
    centre = g.div(
        g.sum(g.mul(places, g.unsqueeze(mask, 2)), 1, keep=1), g.unsqueeze(g("Max", count, 1.0), 2)
    )
    away = g("Sqrt", g.sum(g.square(g.sub(places, centre)), 2))
    spread = g("Max", g.largest(g.mul(away, mask), 1, keep=1), 1.0)
    floor = g.mul("lag_step", LIGHT * FLOOR_STEPS)
    first, second = ([p[k] for p in PAIRS] for k in (0, 1))
    sphere = on_sphere(g, places)
    apart = great_circle(g, g.pick(sphere, first, 1), g.pick(sphere, second, 1))
    delays, height = peaks(g, "correlation", g.mul("lag_step", LIGHT), g.add(apart, g.mul(floor, LAG_MARGIN)))
    both = g.mul(g.pick(mask, first, 1), g.pick(mask, second, 1))
    present = g.mul(both, g("Cast", g("Greater", height, 0.0), to=TensorProto.FLOAT))
    scatter2 = g.square(g.mul("scatter", LIGHT))
    variance = g.add(g.mul(g.square(floor), 2.0), scatter2)
    prior = g.div(1.0, g.square(g.mul(spread, PRIOR_SPREADS)))
    return {
        "count": count,
        "centre": centre,
        "spread": spread,
        "places": g.unsqueeze(places, 1),
        "sphere": g.unsqueeze(sphere, 1),
        "delays": g.unsqueeze(delays, 1),
        "present": g.unsqueeze(present, 1),
        "variance": g.unsqueeze(variance, 1),
        "scatter2": g.unsqueeze(scatter2, 1),
        "floor2": g.square(floor),
        # All pairs of n receivers hold what n - 1 of them would: n(n-1)/2 errors count as n - 1.
        "share": g.div(2.0, g("Max", count, 2.0)),
        "prior": prior,
        "pull": g.unsqueeze(prior, 2),
        "longest": g.unsqueeze(g.mul(spread, 0.25), 2),
    }


def build():
    """Returns the checked model."""
    g = Graph()
    data = prepared(g)
    # Both starts: the lowest cell, and the lowest one that is not near it. Two hyperbolas may meet twice.
    width = g.unsqueeze(g.mul(data["spread"], 2 * COARSE_HALF / (COARSE_SIDE - 1)), 2)
    blur = g.square(g.mul(width, 0.5))
    grid = g.add(data["centre"], g.mul(g.unsqueeze(data["spread"], 2), cells(COARSE_HALF, COARSE_SIDE)))
    costs = cost(g, grid, data | {"blur": blur})
    start = best(g, grid, costs)
    distance = g.largest(g("Abs", g.sub(grid, start)), 2)
    near = g("Less", distance, g.mul(g("Squeeze", width, g.ints(2)), APART_CELLS))
    other = best(g, grid, g.either(near, 1e30, costs))
    starts = g("Concat", zoomed(g, start, width, data), zoomed(g, other, width, data), axis=1)
    points = gauss_newton(g, starts, data)
    costs = cost(g, points, data | {"blur": 0.0})
    xx, xy, yy = covariance(g, points, data)

    # The better of the two is the answer; the other one's share of the likelihood widens the ellipse to it.
    chosen = g("ArgMin", costs, axis=1, keepdims=1)
    rest = g("Sub", g.const(1, np.int64), chosen)
    take = lambda values, index: g("GatherElements", values, index, axis=1)
    two = lambda index: g("Expand", g.unsqueeze(index, 2), g.ints(1, 1, 2))
    place, second = take(points, two(chosen)), take(points, two(rest))
    odds = g("Sigmoid", g.sub(take(costs, chosen), take(costs, rest)))
    gap = g("Squeeze", g.sub(second, place), g.ints(1))
    x, y = g("Slice", gap, g.ints(0), g.ints(1), g.ints(1)), g("Slice", gap, g.ints(1), g.ints(2), g.ints(1))

    total = misfit(g, place, data)
    pairs = g("Max", g.sum(data["present"], 2), 1.0)
    redundancy = g.sub(data["count"], 3.0)
    checked = g("Greater", redundancy, 0.5)
    g("Where", checked, g("Sqrt", g.div(total, pairs)), np.float32(np.nan), name="residual")
    chi = g.mul(total, data["share"])
    growth = g("Max", g.div(g.add(chi, BELIEF), g.add(g("Max", redundancy, 0.0), BELIEF)), 1.0)
    growth = g.either(checked, growth, UNCHECKED)
    full = [
        g.add(g.mul(take(own, chosen), growth), g.mul(odds, a, b), outlier)
        for own, a, b, outlier in zip((xx, xy, yy), (x, x, y), (x, y, y), outlier_spread(g, place, chi, data))
    ]
    g("Squeeze", place, g.ints(1), name="positions")
    g("Identity", ellipse(g, *full), name="uncertainties")
    return finished(g)


def finished(g):
    """The model of a graph, with its inputs and outputs."""
    shapes = {
        "correlation": ["batch", len(PAIRS), "lags"],
        "lag_step": ["batch", 1],
        "scatter": ["batch", len(PAIRS)],
        "mask": ["batch", RECEIVERS],
        "receivers": ["batch", RECEIVERS, 2],
    }
    outputs = {"positions": 2, "uncertainties": 3, "residual": 1}
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        g.nodes,
        "tdoa",
        [info(name, shape) for name, shape in shapes.items()],
        [info(name, ["batch", width]) for name, width in outputs.items()],
        list(g.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
