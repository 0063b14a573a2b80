"""Builds, calibrates and measures the bundle `tdoa`: a place from several receivers' correlations.

Nothing is learned: the graph is a robust maximum-likelihood solver. Only the ellipse's radii, the bound on
the residual and two constants of the graph are taken from scenes, others than those of the card's figures.
"""

import hashlib
import math
import re
import sys
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnxruntime

import common
import tdoa_dcf77
import tdoa_graph
import tdoa_scene

FOLDER = Path(__file__).resolve().parents[2] / "config/models/tdoa/1"
CALIBRATION, TEST, FAULTY, COMPARED = 2000, 2000, 60, 60
LEVELS = (0.50, 0.68, 0.90, 0.95)


def draw(work):
    """One scene, for the processes that share the drawing."""
    key, options = work
    return tdoa_scene.scene(key, **options)


def scenes(pool, seed, number, **options):
    """Inputs, truths, and what the scenes were drawn as (receivers, scale, lowest SNR)."""
    drawn = pool.map(draw, [([seed, k], options) for k in range(number)], chunksize=20)
    inputs, truths, kinds = zip(*drawn)
    return tdoa_scene.batch(inputs), np.array(truths), np.array(kinds)


class Solver:
    """Runs the model file on one thread, as the daemon does."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs, size=64):
        count = len(inputs["mask"])
        parts = [
            self.session.run(None, {name: value[at : at + size] for name, value in inputs.items()})
            for at in range(0, count, size)
        ]
        return [np.concatenate(part) for part in zip(*parts)]

    def milliseconds(self, inputs, runs=50):
        """The median time of one session."""
        one, times = {name: value[:1] for name, value in inputs.items()}, []
        for _ in range(runs):
            start = time.perf_counter()
            self.session.run(None, one)
            times.append(1e3 * (time.perf_counter() - start))
        return float(np.median(times))


def coverage(squared, radii, levels=LEVELS):
    """The share of truths inside the calibrated ellipses, in words, per level."""
    return [f"{np.mean(squared < radii[LEVELS.index(p)]):.1%}" for p in levels]


def seal(radii, residual_max):
    """Writes the digest, the calibration and the residual's bound into model.toml; returns the digest."""
    digest = hashlib.sha256((FOLDER / "model.onnx").read_bytes()).hexdigest()
    path = FOLDER / "model.toml"
    text = re.sub(r'sha256 = ".*"', f'sha256 = "{digest}"', path.read_text())
    text = re.sub(r"residual_max = .*", f"residual_max = {residual_max}", text)
    text = re.sub(r"radius_squared = .*", f"radius_squared = {[round(r, 3) for r in radii]}", text)
    path.write_text(re.sub(r"\nn = .*", f"\nn = {CALIBRATION}", text))
    return digest


def by_kind(kinds, positions, uncertainties, truth, radii, lag_step):
    """Rows of coverage and error, for all scenes and for kinds of them."""
    squared = common.squared_distances(positions, uncertainties, truth)
    floor = lag_step[:, 0] * tdoa_graph.LIGHT * tdoa_graph.FLOOR_STEPS
    error = np.hypot(*(truth - positions).T) / floor
    groups = [("all", kinds[:, 0] > 0)]
    groups += [(f"{n} receivers", kinds[:, 0] == n) for n in range(3, tdoa_graph.RECEIVERS + 1)]
    groups += [("long wave", kinds[:, 1] == 1), ("local", kinds[:, 1] > 1)]
    groups += [("weakest under 0 dB", kinds[:, 2] < 0), ("weakest over 5 dB", kinds[:, 2] > 5)]
    return [
        [
            name,
            at.sum(),
            *coverage(squared[at], radii),
            *(f"{np.quantile(error[at], q):.2f}" for q in (0.5, 0.9)),
        ]
        for name, at in groups
    ]


def faulty(pool, run, radii, residual_max):
    """Rows about scenes in which one receiver's clock is off by more than the prior says."""
    rows = []
    for seed, (name, fault, local) in enumerate(
        [("local, 5 µs", 5e-6, True), ("local, 50 µs", 5e-5, True), ("long wave, 5 µs", 5e-6, False)]
        + [("long wave, 50 µs", 5e-5, False), ("long wave, 200 µs", 2e-4, False)]
    ):
        for count in (4, 5, 8):
            inputs, truth, _ = scenes(pool, 300 + seed, FAULTY, count=count, fault=fault, local=local)
            positions, uncertainties, residual = run(inputs)
            squared = common.squared_distances(positions, uncertainties, truth)
            kept = residual[:, 0] <= residual_max
            error = np.median(np.hypot(*(truth - positions).T)) / (
                inputs["lag_step"][0, 0] * tdoa_graph.LIGHT
            )
            inside = np.mean(squared < radii[2])
            both = np.mean((squared >= radii[2]) & kept)
            rows.append(
                [name, count, f"{error:.2f}", f"{1 - kept.mean():.0%}", f"{inside:.0%}", f"{both:.0%}"]
            )
    return rows


def compared(pool, inputs, positions, uncertainties):
    """Differences between the graph and the solver in double precision, in the ellipse's shorter sigma."""
    ones = [{name: value[k] for name, value in inputs.items()} for k in range(COMPARED)]
    found = np.array(pool.map(tdoa_scene.solve, ones, chunksize=5))
    return np.hypot(*(found - positions[:COMPARED]).T) / uncertainties[:COMPARED, :2].min(axis=1)


def main():
    start = time.monotonic()
    (FOLDER / "model.onnx").write_bytes(tdoa_graph.build().SerializeToString())
    run = Solver(FOLDER / "model.onnx")
    with Pool(2) as pool:
        inputs, truth, kinds = scenes(pool, 201, CALIBRATION)
        positions, uncertainties, residual = run(inputs)
        squared = common.squared_distances(positions, uncertainties, truth)
        radii = [float(np.quantile(squared, p)) for p in LEVELS]
        residual_max = math.ceil(10 * float(np.nanquantile(residual, 0.999))) / 10
        digest = seal(radii, residual_max)
        inputs, truth, kinds = scenes(pool, 202, TEST)
        positions, uncertainties, residual = run(inputs)
        gaps = compared(pool, inputs, positions, uncertainties)
        faults = faulty(pool, run, radii, residual_max)
    dcf77, stamps = tdoa_dcf77.rows(run, common.squared_distances, radii[1])
    checked = ~np.isnan(residual[:, 0])
    text = CARD.format(
        floor=tdoa_graph.FLOOR_STEPS,
        unchecked=tdoa_graph.UNCHECKED,
        wrong=tdoa_graph.WRONG,
        calibration=CALIBRATION,
        test=TEST,
        radii=", ".join(f"{r:.2f}" for r in radii),
        normal=", ".join(f"{-2 * math.log(1 - p):.2f}" for p in LEVELS),
        residual_max=residual_max,
        refused=f"{np.mean(residual[checked] > residual_max):.2%}",
        sphere=tdoa_scene.graph_lengths(),
        compared=COMPARED,
        faulty=FAULTY,
        gaps=", ".join(f"{np.quantile(gaps, q):.2g}" for q in (0.5, 0.9)),
        agree=f"{np.mean(gaps < 0.1):.1%}",
        kinds=common.table(
            ["scenes", "count", *(f"{p:.0%} covers" for p in LEVELS), "median error", "90 % error"],
            by_kind(kinds, positions, uncertainties, truth, radii, inputs["lag_step"]),
        ),
        faults=common.table(
            [
                "clock off by",
                "receivers",
                "median error",
                "refused",
                "90 % covers",
                "outside and not refused",
            ],
            faults,
        ),
        dcf77=dcf77
        and common.table(
            ["frame", "first frames begin at", "band", "windows", "weighting", "sets used", "median error"]
            + ["largest error", "truth in the 68 % ellipse", "median larger sigma"],
            dcf77,
        )
        or "The recordings were not there in this run.",
        stamps=stamps
        and common.table(["receiver", "captures without stamp", "largest", "median", "rate"], stamps)
        or "",
        size=(FOLDER / "model.onnx").stat().st_size,
        digest=digest,
        milliseconds=run.milliseconds(inputs),
        minutes=(time.monotonic() - start) / 60,
    )
    (FOLDER / "CARD.md").write_text(text)
    print(text, file=sys.stderr)


CARD = (Path(__file__).resolve().parent / "tdoa_card.md").read_text()

if __name__ == "__main__":
    main()
