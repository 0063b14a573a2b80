"""DCF77 recordings for the card of `tdoa`: read, cut into frames as the daemon cuts them, located."""

import datetime
import json
import os
from pathlib import Path

import numpy as np

import tdoa_scene
from correlation import Frame, Settings, correlation
from tdoa_graph import PAIRS

TRUTH = (50.0152, 9.0112)
NAMES = ("HB9ODP", "JO51xl", "pa0rdt")
FOLDER = (
    Path(os.environ.get("SFERIC_CAPTURES", Path(__file__).resolve().parents[3] / "shared/iq")) / "kiwi_tdoa"
)
# Without another one named: the bundle's own.
OWN = Settings((-1000.0, 1000.0), 2.56e-3, 513, 4)


def nanoseconds(text):
    """An RFC 3339 instant in UTC with nine decimals as integer nanoseconds since 1970."""
    whole, fraction = text.removesuffix("Z").split(".")
    seconds = int(datetime.datetime.fromisoformat(whole + "+00:00").timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


class Recording:
    """Samples, rate, place, and the instant of sample 0 by the median of all stamps at the header's rate."""

    def __init__(self, name):
        (meta,) = FOLDER.glob(f"*_{name}.sigmf-meta")
        header = json.loads(meta.read_text())
        raw = np.fromfile(meta.with_suffix(".sigmf-data"), "<i2").reshape(-1, 2)
        self.samples = (raw[:, 0] + 1j * raw[:, 1]) / 32768
        self.rate = header["global"]["core:sample_rate"]
        longitude, latitude = header["global"]["core:geolocation"]["coordinates"]
        self.place = tdoa_scene.metres(latitude, longitude)
        stamped = [c for c in header["captures"] if "core:datetime" in c]
        at = np.array([c["core:sample_start"] for c in stamped])
        stamps = [nanoseconds(c["core:datetime"]) for c in stamped]
        since = np.array([s - stamps[0] for s in stamps]) - at / self.rate * 1e9
        self.start = stamps[0] + round(float(np.median(since)))
        self.jitter = since - np.median(since)
        self.unstamped = len(header["captures"]) - len(stamped)

    def frame(self, first, count):
        """`count` samples from `first` on, or None past the end."""
        if first + count > len(self.samples):
            return None
        start = self.start + round(first / self.rate * 1e9)
        return Frame(self.samples[first : first + count], self.rate, start)


def recordings():
    """All three, or None where the folder is not there."""
    return [Recording(name) for name in NAMES] if FOLDER.is_dir() else None


def sets(three, count, settings, aligned):
    """The graph's inputs for every frame set, cut from each recording's start or from a common instant."""
    latest = max(r.start for r in three)
    skip = [round((latest - r.start) * 1e-9 * r.rate) if aligned else 0 for r in three]
    made, n = [], 0
    while all(frames := [r.frame(s + n * count, count) for r, s in zip(three, skip)]):
        values, step, scatter, mask = correlation(frames, settings)
        if mask.all():
            all_pairs = np.zeros((len(PAIRS), settings.lags)), np.zeros(len(PAIRS))
            for row, pair in enumerate([(0, 1), (0, 2), (1, 2)]):
                for target, source in zip(all_pairs, (values, scatter)):
                    target[PAIRS.index(pair)] = source[row]
            places = [r.place for r in three]
            made.append(tdoa_scene.packed(all_pairs[0], step, all_pairs[1], places))
        n += 1
    return made, n


def rows(run, squared, radius):
    """The table's rows: one for each way to cut and correlate; `radius` is the 68 % one, squared."""
    three = recordings()
    if three is None:
        return [], []
    truth = tdoa_scene.metres(*TRUTH)
    make = lambda band=1000.0, windows=4, weighting="none": Settings(
        (-band, band), OWN.max_lag_s, OWN.lags, windows, weighting
    )
    cases = [
        (count, aligned, OWN)
        for count in (240_000, 65_536, 32_768, 16_384, 8_192)
        for aligned in (False, True)
    ]
    changes = [make(band=500.0), make(band=2000.0), make(band=5000.0), make(windows=1), make(windows=2)]
    changes += [make(windows=8), make(windows=16), make(band=500.0, weighting="phat"), make(weighting="phat")]
    cases += [(65_536, False, settings) for settings in changes]
    table = []
    for count, aligned, settings in cases:
        made, tried = sets(three, count, settings, aligned)
        if not made:
            table.append([count, aligned, settings, tried, 0, None])
            continue
        positions, uncertainties, _ = run(tdoa_scene.batch(made))
        errors = np.hypot(*(positions - truth).T) / 1000
        inside = np.mean(squared(positions, uncertainties, truth[None]) < radius)
        table.append(
            [
                count,
                aligned,
                settings,
                tried,
                len(made),
                (errors, inside, uncertainties[:, :2].max(axis=1) / 1000),
            ]
        )
    stamps = [
        [
            name,
            r.unstamped,
            f"{np.abs(r.jitter).max():.0f} ns",
            f"{np.median(np.abs(r.jitter)):.0f} ns",
            f"{r.rate} S/s",
        ]
        for name, r in zip(NAMES, three)
    ]
    return [written(*row) for row in table], stamps


def written(count, aligned, settings, tried, used, figures):
    """One row in words."""
    start = "one instant" if aligned else "each file's own"
    head = [
        count,
        start,
        f"±{settings.band_hz[1]:.0f} Hz",
        settings.windows,
        settings.weighting,
        f"{used} of {tried}",
    ]
    if figures is None:
        return [*head, "-", "-", "-", "-"]
    errors, inside, sigma = figures
    return [
        *head,
        f"{np.median(errors):.2f} km",
        f"{errors.max():.2f} km",
        f"{inside:.0%}",
        f"{np.median(sigma):.2f} km",
    ]
