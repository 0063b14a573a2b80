"""Scenes with known truth for the bundle `tdoa`, lengths on WGS 84, a solver to compare the graph with."""

import numpy as np

import tdoa_graph
from correlation import Settings, pair, peak_lag, spectra
from tdoa_graph import CAUCHY, FLOOR_STEPS, LAG_MARGIN, LIGHT, PAIRS, PRIOR_SPREADS, RECEIVERS

# WGS 84: semi-major axis and flattening.
A, F = 6_378_137.0, 1 / 298.257223563
ORIGIN = (50.0, 8.0)
# The bundle's keys for long wave; a local network is the same with all times divided by LOCAL.
RATE, BAND, MAX_LAG, LAGS, WINDOWS = 12_000.0, 1_000.0, 2.56e-3, 513, 4
LOCAL = 20.0


def geodesic(lat1, lon1, lat2, lon2):
    """Length in metres and azimuth at the first point in radians (Vincenty's inverse formula, arrays)."""
    b = A * (1 - F)
    u1, u2 = (np.arctan((1 - F) * np.tan(np.radians(v))) for v in (lat1, lat2))
    gap = np.radians(np.subtract(lon2, lon1))
    lam = gap
    for _ in range(8):
        x = np.cos(u2) * np.sin(lam)
        y = np.cos(u1) * np.sin(u2) - np.sin(u1) * np.cos(u2) * np.cos(lam)
        sin_s, cos_s = np.hypot(x, y), np.sin(u1) * np.sin(u2) + np.cos(u1) * np.cos(u2) * np.cos(lam)
        sigma = np.arctan2(sin_s, cos_s)
        sin_a = np.cos(u1) * np.cos(u2) * np.sin(lam) / np.maximum(sin_s, 1e-15)
        cos2_a = 1 - sin_a**2
        mid = cos_s - 2 * np.sin(u1) * np.sin(u2) / np.maximum(cos2_a, 1e-15)
        c = F / 16 * cos2_a * (4 + F * (4 - 3 * cos2_a))
        lam = gap + (1 - c) * F * sin_a * (sigma + c * sin_s * (mid + c * cos_s * (2 * mid**2 - 1)))
    k = cos2_a * (A**2 - b**2) / b**2
    p = 1 + k / 16384 * (4096 + k * (-768 + k * (320 - 175 * k)))
    q = k / 1024 * (256 + k * (-128 + k * (74 - 47 * k)))
    last = q / 6 * mid * (4 * sin_s**2 - 3) * (4 * mid**2 - 3)
    return b * p * (sigma - q * sin_s * (mid + q / 4 * (cos_s * (2 * mid**2 - 1) - last))), np.arctan2(x, y)


def metres(latitude, longitude, origin=ORIGIN):
    """Metres east, north of the origin: length and azimuth of the geodesic from there."""
    length, azimuth = geodesic(*origin, latitude, longitude)
    return np.stack([length * np.sin(azimuth), length * np.cos(azimuth)], -1)


def degrees(points, origin=ORIGIN):
    """The inverse of `metres`, by correcting a first guess until the metres agree."""
    points = np.asarray(points, float)
    step = np.array([111_200.0 * np.cos(np.radians(origin[0])), 111_200.0])
    guess = np.array([origin[1], origin[0]]) + points / step
    for _ in range(12):
        local = np.stack(
            [111_200.0 * np.cos(np.radians(guess[..., 1])), np.full(guess.shape[:-1], step[1])], -1
        )
        guess = guess + (points - metres(guess[..., 1], guess[..., 0], origin)) / local
    return guess[..., 1], guess[..., 0]


def lengths(points, places):
    """Geodesics in metres from points [..., 2] to places [n, 2], both metres from the origin."""
    lat, lon = degrees(points)
    to_lat, to_lon = degrees(places)
    return geodesic(lat[..., None], lon[..., None], to_lat, to_lon)[0]


def signal(rng, count, rate):
    """The emission's spectrum at `count` samples: noise, or a carrier with keyed phase and amplitude."""
    hertz = np.fft.fftfreq(count, 1 / rate)
    band = BAND * rate / RATE
    if rng.random() < 0.5:
        made = np.fft.fft(rng.normal(size=count) + 1j * rng.normal(size=count))
        return np.where(np.abs(hertz) < band * rng.uniform(0.3, 1.0), made, 0)
    chip = int(rng.integers(14, 24))
    phase = np.repeat(rng.choice([-1.0, 1.0], count // chip + 1), chip)[:count]
    dark = np.repeat(rng.random(count // 400 + 1) < 0.2, 400)[:count]
    made = np.where(dark, 0.3, 1.0) * np.exp(1j * rng.uniform(0.25, 1.2) * phase)
    return np.where(np.abs(hertz) < 2 * band, np.fft.fft(made), 0)


def geometry(rng, radius, count):
    """Receivers in a disc of `radius`, a tenth of it apart, an emitter within 1.3 spreads of their centre.

    The spread is how far the outermost receiver is from the centre, as in the graph.
    """
    disc = lambda radius: radius * np.sqrt(rng.random()) * np.exp(2j * np.pi * rng.random())
    centre = disc(100_000.0)
    places = []
    while len(places) < count:
        new = centre + disc(radius)
        if all(abs(new - p) > 0.1 * radius for p in places):
            places.append(new)
    middle = np.mean(places)
    spread = np.abs(np.array(places) - middle).max()
    plane = np.array([*places, middle + disc(1.3 * spread)])
    plane = np.stack([plane.real, plane.imag], -1)
    return plane[:-1], plane[-1]


def scene(key, count=None, fault=0.0, local=None):
    """One scene: the graph's inputs (no batch axis), the truth, and what it was drawn as.

    `fault` seconds are added to one receiver's clock, either way. The streams are made at the common
    instants; from there on everything is the reference's own code.
    """
    rng = np.random.default_rng(key)
    scale = LOCAL if (rng.random() < 0.5 if local is None else local) else 1.0
    count = count or int(rng.integers(3, RECEIVERS + 1))
    rate, max_lag = RATE * scale, MAX_LAG / scale
    settings = Settings((-BAND * scale, BAND * scale), max_lag, LAGS, WINDOWS)
    places, truth = geometry(rng, rng.uniform(60e3, 330e3) / scale, count)
    clocks = rng.normal(size=count) * settings.lag_step * FLOOR_STEPS
    clocks[0] += fault * rng.choice([-1, 1])
    delays = lengths(truth, places) / LIGHT + clocks
    window = int(2 ** rng.uniform(9, 11))
    total, margin = window * WINDOWS, 128
    made = signal(rng, total + 2 * margin, rate)
    hertz = np.fft.fftfreq(len(made), 1 / rate)
    inside = np.abs(hertz) < BAND * scale
    # The carrier's bin is left out of the power that the noise is set against.
    power = (np.abs(made[inside][1:]) ** 2).sum() / len(made) ** 2
    levels = rng.uniform(-5, 30, count)
    found = []
    for delay, level in zip(delays - delays.mean(), levels):
        stream = np.fft.ifft(made * np.exp(-2j * np.pi * hertz * delay))[margin : margin + total]
        noise = rng.normal(size=total) + 1j * rng.normal(size=total)
        per_sample = power / 10 ** (level / 10) / inside.mean()
        found.append(spectra(stream + noise * np.sqrt(per_sample / 2), window, settings, rate))
    return inputs(found, places, settings, window, rate), truth, (count, scale, levels.min())


def inputs(found, places, settings, window, rate):
    """The graph's inputs from the spectra of each receiver, as `correlation.correlation` computes them."""
    correlation, scatter = np.zeros((len(PAIRS), settings.lags)), np.zeros(len(PAIRS))
    for p, (i, j) in enumerate(PAIRS):
        if j < len(found):
            rows = pair(found[i][0], found[j][0], found[i][1], window, rate, settings)
            correlation[p] = rows.mean(axis=0)
            each = [peak_lag(row, settings.lag_step) for row in rows]
            scatter[p] = np.std(each, ddof=1) / np.sqrt(len(each))
    return packed(correlation, settings.lag_step, scatter, places)


def packed(correlation, lag_step, scatter, places):
    """The graph's inputs of one frame set, in single precision, receivers from slot 0 on."""
    mask, slots = np.zeros(RECEIVERS), np.zeros((RECEIVERS, 2))
    mask[: len(places)], slots[: len(places)] = 1, places
    made = {"correlation": correlation, "lag_step": [lag_step], "scatter": scatter, "mask": mask}
    return {name: np.asarray(value, np.float32) for name, value in (made | {"receivers": slots}).items()}


def measured(one):
    """Delays in metres, their sigmas and the receivers of each pair that is there, in double precision."""
    step = float(one["lag_step"][0]) * LIGHT
    places = one["receivers"].astype(float)
    rows = []
    for p, (i, j) in enumerate(PAIRS):
        if one["mask"][i] * one["mask"][j] and one["correlation"][p].max() > 0:
            curve = one["correlation"][p].astype(float)
            apart = geodesic(*np.ravel(degrees(places[[i]])), *np.ravel(degrees(places[[j]])))[0]
            offsets = (np.arange(len(curve)) - len(curve) // 2) * step
            curve = np.where(np.abs(offsets) <= apart + LAG_MARGIN * FLOOR_STEPS * step, curve, -1.0)
            m = int(np.argmax(curve))
            whole = one["correlation"][p].astype(float)
            near = whole[m - 1 : m + 2] if 0 < m < len(whole) - 1 else np.array([0.0, 1.0, 0.0])
            sigma = np.sqrt(2 * (FLOOR_STEPS * step) ** 2 + (one["scatter"][p] * LIGHT) ** 2)
            rows.append((offsets[m] + peak_lag(near, step), sigma, i, j))
    delay, sigma, first, second = map(np.array, zip(*rows))
    return delay, sigma, first, second


def solve(one):
    """The graph's objective minimised on the ellipsoid: Levenberg-Marquardt from 81 starts, float64."""
    delay, sigma, first, second = measured(one)
    places = one["receivers"][one["mask"] > 0].astype(float)
    slot = np.cumsum(one["mask"] > 0) - 1
    first, second = slot[first], slot[second]
    centre = places.mean(axis=0)
    spread = np.hypot(*(places - centre).T).max()
    share, prior = 2 / len(places), (PRIOR_SPREADS * spread) ** -2
    line = np.linspace(-1.6, 1.6, 9) * spread

    def errors(points):
        ranges = lengths(points, places)
        return delay - (ranges[..., second] - ranges[..., first])

    def objective(points):
        loss = np.log1p((errors(points) / sigma / CAUCHY) ** 2).sum(axis=-1) * 0.5 * CAUCHY**2 * share
        return loss + 0.5 * prior * ((points - centre) ** 2).sum(axis=-1)

    points = centre + np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    damping, now = np.full(len(points), 1e-3), objective(points)
    for _ in range(40):
        error = errors(points)
        slopes = np.stack([(error - errors(points + d)) / 1.0 for d in np.eye(2)], -1)
        weight = share / sigma**2 / (1 + (error / sigma / CAUCHY) ** 2)
        matrix = np.einsum("kpa,kpb,kp->kab", slopes, slopes, weight) + prior * np.eye(2)
        pull = np.einsum("kpa,kp,kp->ka", slopes, weight, error) - prior * (points - centre)
        damped = matrix + damping[:, None, None] * matrix.trace(axis1=1, axis2=2)[:, None, None] * np.eye(2)
        step = np.linalg.solve(damped, pull[..., None])[..., 0]
        step *= np.minimum(1, 0.25 * spread / np.maximum(np.hypot(*step.T), 1e-9))[:, None]
        then = objective(points + step)
        better = then < now
        points, now = np.where(better[:, None], points + step, points), np.where(better, then, now)
        damping = np.clip(np.where(better, damping / 5, damping * 5), 1e-9, 1e3)
    return points[np.argmin(now)]


def batch(scenes):
    """Stacks the inputs of scenes."""
    return {name: np.stack([one[name] for one in scenes]) for name in scenes[0]}


def graph_lengths():
    """Largest difference in metres between the sphere of the graph and WGS 84, within 600 km across."""
    rng = np.random.default_rng(5)
    worst = 0.0
    for origin_gap in (0.0, 300_000.0):
        for _ in range(300):
            turn = np.exp(2j * np.pi * rng.random(2)) * 300_000 * np.sqrt(rng.random(2)) + origin_gap
            points = np.stack([turn.real, turn.imag], -1)
            flat = points / tdoa_graph.EARTH
            angle = np.hypot(*flat.T)[:, None]
            bent = np.concatenate([np.sin(angle) * flat / angle, np.cos(angle)], 1)
            chord = np.linalg.norm(bent[0] - bent[1])
            arc = 2 * tdoa_graph.EARTH * np.arcsin(chord / 2)
            worst = max(worst, abs(arc - lengths(points[0], points[1:])[0]))
    return worst
