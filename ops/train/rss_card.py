"""Measures the exported `rss` on the test cells and writes its card."""

import numpy as np

import common
from rss_map import BIN, FOLDER, MONTHS, REACH, STEP, cell_hash, cells

DRAWS = 2000  # of the bootstrap over cells


def measured(positions, uncertainties, truth, radii):
    """Error and radius of a circle of the 90 % ellipse's area, in metres, and whether each ellipse holds."""
    squared = common.squared_distances(positions, uncertainties, truth)
    error = np.hypot(*(positions - truth).T)
    size = np.sqrt(radii[2] * uncertainties[:, 0] * uncertainties[:, 1])
    return error, size, squared[:, None] <= np.array(radii)


def neighbours(data, training, test, count):
    """Mean place of the trained fixes whose levels are nearest, by root mean square over receivers of both.

    A receiver that only one of the two has counts as 10 dB, so that fixes of one campaign are preferred.
    """
    power, mask = data.power[training], data.mask[training]
    positions = []
    for row in test:
        both = mask * data.mask[row]
        either = np.maximum(mask, data.mask[row]).sum(axis=1)
        squares = (both * (power - data.power[row]) ** 2).sum(axis=1) + 100.0 * (either - both.sum(axis=1))
        nearest = np.argsort(squares / either)[:count]
        positions.append(data.place[training[nearest]].mean(axis=0))
    return np.array(positions)


def bootstrap(values, cell):
    """95 % interval of the mean of `values` [N, L], cells drawn with replacement."""
    _, index = np.unique(cell, axis=0, return_inverse=True)
    index = index.ravel()
    count = np.bincount(index)
    sums = np.stack([np.bincount(index, column) for column in values.T.astype(float)], axis=1)
    draws = np.random.default_rng(1).integers(0, len(count), (DRAWS, len(count)))
    means = sums[draws].sum(axis=1) / count[draws].sum(axis=1)[:, None]
    return np.quantile(means, [0.025, 0.975], axis=0).T


def errors(name, error, size=None):
    """A row of the table of errors."""
    figures = [np.median(error), error.mean(), np.quantile(error, 0.9)]
    circle = "" if size is None else f"{np.median(size):.0f} m"
    return [name, len(error), *(f"{figure:.0f} m" for figure in figures), circle]


def groups(pairs, error, size, inside):
    """Rows of errors and coverage for parts of the test, (name, which)."""
    return [
        errors(name, error[at], size[at]) + [f"{share:.1%}" for share in inside[at].mean(axis=0)[1:3]]
        for name, at in pairs
        if len(error[at]) >= 20
    ]


def by_count(mask, ranges):
    """The fixes with so many receivers, (name, which)."""
    heard = mask.sum(axis=1)
    return [
        (f"{low} to {high} receivers" if low < high else f"{low} receivers", (heard >= low) & (heard <= high))
        for low, high in ranges
    ]


def card(folder, data, run, facts, cross, fifths):
    """Runs the exported file on the test cells and writes CARD.md."""
    from rss import FIX_ERROR, LEVELS, answer, half

    training, test = np.flatnonzero(~data.test), np.flatnonzero(data.test)
    truth, radii = data.place[test], facts["radii"]
    where = common.DATA / "rss"
    all_of_them = measured(*answer(run, data, test, where / "test.npz"), truth, radii)
    error, size, inside = all_of_them
    masked = half(data.mask[test], 99)
    halved = measured(*answer(run, data, test, where / "half.npz", masked), truth, radii)

    power, mask, receivers = data.inputs(test)
    shifted = [
        measured(*run((power + by * mask[:, :, None], mask, receivers)), truth, radii) for by in (-3, 3)
    ]
    held, model = cross
    folds = [measured(*held.answers(model, part), held.truth, radii) for part in (0, 1)]
    nearest = [
        errors(f"nearest neighbours, {k}", np.hypot(*(neighbours(data, training, test, k) - truth).T))
        for k in (1, 5)
    ]
    head = ["", "fixes", "median error", "mean error", "90 % error", "radius"]
    rows = [
        errors("this model", error, size),
        *nearest,
        errors("this model, half of the receivers", *halved[:2]),
    ]
    rows += [errors(f"this model, levels {by} dB", *part[:2]) for by, part in zip(("−3", "+3"), shifted)]
    rows += [
        errors(f"cross-validation, {name}", *part[:2])
        for name, part in zip(("all receivers", "half of them"), folds)
    ]

    cell = cells(data.place)
    spans = [bootstrap(part[2], cell[test]) for part in (all_of_them, halved)]
    coverage = [
        [f"{level:.0%}"]
        + [
            f"{part[2][:, at].mean():.1%} ({span[at][0]:.0%} to {span[at][1]:.0%})"
            for part, span in zip((all_of_them, halved), spans)
        ]
        + [f"{folds[1][2][:, at].mean():.1%}"]
        for at, level in enumerate(LEVELS)
    ]
    unseen = np.array([np.hypot(*(data.place[training] - place).T).min() for place in truth])
    away = [(0, 25), (25, 50), (50, 100), (100, 200)]
    distances = [
        (f"{low} to {high} m from a trained fix", (unseen >= low) & (unseen < high)) for low, high in away
    ]
    months = [(name, data.campaign[test] == at) for at, name in enumerate(MONTHS)]
    split = head + ["68 % holds", "90 % holds"]
    parts = groups(
        months + distances + by_count(data.mask[test], [(9, 12), (20, 22), (23, 23), (24, 25)]), *all_of_them
    )
    fewer = groups(by_count(masked, [(3, 6), (7, 11), (12, 13)]), *halved)
    others = [measured(*answers, data.place[left], radii) for left, *answers in fifths]
    whole = [np.concatenate(values) for values in zip(all_of_them, *others)]
    names = [f"{fifth}, {len(np.unique(cell[data.fifth == fifth], axis=0))} cells" for fifth in range(5)]
    names[0] += " (the test)"
    rotated = [
        groups([(name, slice(None))], *part)[0]
        for name, part in zip(names + ["all"], [all_of_them, *others, whole])
    ]
    far = error > 400
    tested = [(cell[test] == one).all(axis=1) for one in np.unique(cell[test], axis=0)]
    worst = max((group for group in tested if group.sum() >= 5), key=lambda group: error[group].mean())
    examples = [
        [
            f"{east}, {north}",
            f"({column}, {row})",
            int(cell_hash(column, row)),
            int(cell_hash(column, row) % 5),
        ]
        for east, north in ((200, -100), (-200, 310), (-1000, -400))
        for column, row in [map(int, cells([east, north]))]
    ]
    kernel = dict(
        zip(("short", "short_length", "long", "long_length", "gain", "square", "fix"), facts["kernel"])
    )
    text = CARD.format(
        **facts | kernel,
        fixes=len(data.place),
        receivers=len(data.names),
        stands=int(data.fixed.sum()),
        buses=int((~data.fixed).sum()),
        unplaced=data.unplaced,
        training=len(training),
        training_cells=len(np.unique(cell[training], axis=0)),
        test=len(test),
        test_cells=len(np.unique(cell[test], axis=0)),
        examples=common.table(["east, north", "(column, row)", "hash", "hash mod 5"], examples),
        fix_error=FIX_ERROR,
        step=STEP,
        reach=REACH,
        bin=BIN,
        map_weight=facts["weights"][0],
        network_weight=facts["weights"][1],
        calibration=", ".join(f"{radius:.2f} for {level:.0%}" for radius, level in zip(radii, LEVELS)),
        errors=common.table(head, rows),
        coverage=common.table(
            ["ellipse", "all receivers", "half of them", "cross-validation, half"], coverage
        ),
        parts=common.table(split, parts + [["half masked: " + row[0], *row[1:]] for row in fewer]),
        unseen=np.median(unseen),
        furthest=unseen.max(),
        rotated=common.table(split, rotated),
        far=far.mean(),
        far_share=error[far].sum() / error.sum(),
        rest=error[~far].mean(),
        worst=error[worst].mean(),
        worst_fixes=worst.sum(),
        worst_away=unseen[worst].mean(),
        larger=np.median(halved[1]) / np.median(size),
        milliseconds=milliseconds(run, data.inputs(test[:1])),
    )
    (folder / "CARD.md").write_text(text)
    common.say(text)
    common.say(f"from {FOLDER}; {facts['clock']} in all")


def milliseconds(run, inputs, runs=50):
    """Median time of a run on one fix."""
    import time

    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run(inputs)
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


CARD = """# rss, version 1

Where a hand-held radio is, from the levels at which up to {receivers} receivers hear it: {stands} fixed
ones and {buses} on buses. Written by `ops/train/rss.py`; every number below is from that run.

**Inputs** (gathered, one frame a receiver) `power` `[B, {receivers}, 1]` in dB, `mask`
`[B, {receivers}]`, `receivers` `[B, {receivers}, 2]`, metres east and north of 40.7665° N 111.8420° W; the
receivers in the order of `model.toml`, absent ones 0. **Outputs** `positions` `[B, 2]`, metres east and
north of the same origin, and `uncertainties` `[B, 3]`: the sigmas along the ellipse's two axes in metres, and
the first axis's turn from east in degrees, counter-clockwise. The sigmas are the model's own;
`[output.calibration]` says which radius holds which share.

## Data

Measured on the air: {fixes} fixes of a hand-held radio (FRS band) on and near a university campus, from the
POWDER data set of received signal strength, [Zenodo 7259895](https://zenodo.org/records/7259895), MIT
licence. Not all of its rows were at hand. They are from April, July and November 2022, each month with
receivers of its own. Levels are in the data's dB. {unplaced} levels of buses without a place are left out.
No row is in the repository: `SFERIC_POWDER` names the folder, by default `../shared/loc/powder` beside it.

## Split

By place, in cells of 150 m. With metres from the origin (length and azimuth of the geodesic, WGS 84):

```
column = floor(east / 150)
row    = floor(north / 150)
hash   = ((column * 73856093) XOR (row * 19349663)) AND 0xFFFFFFFF     (signed 64-bit integers)
test   = hash mod 5 = 0
```

{examples}

{training} fixes in {training_cells} cells train, {test} in {test_cells} test. Cross-validation inside the
training part has the folds `floor(hash / 5) mod 5`. From a test fix it is {unseen:.0f} m to the nearest
trained one (median; at most {furthest:.0f} m). The run reads the test cells last, with everything fixed; the
shipped file was not trained on them.

## Method

A law for each receiver: the level falls with the logarithm of the distance, down to a noise floor, and varies
less near the floor. For fixed receivers a Gaussian process on what remains, averaged over squares of
{bin:.0f} m, gives mean and deviation of the level at each of {places} places: a grid of {step:.0f} m, up to
{reach:.0f} m from the trained fixes. These are constants of the graph. The process's variances, in units of
the law's: {short:.2f} over {short_length:.0f} m, {long:.2f} over {long_length:.0f} m, {gain:.2f} common to a
campaign, {square:.2f} of a square, {fix:.2f} of a fix, by marginal likelihood on the training part. Gains did
change between the campaigns: the map of `{changed}` is {change:.0f} dB higher in {more} than in {less}.
The campaign is not an input: it is marginalised, as is an offset common to all levels (sigma 2 dB).
Buses have the law only, from where they are.

Five networks of two hidden layers learn position and covariance from levels and mask of the fixed receivers
by Gaussian likelihood, with receivers dropped and levels moved at random. They don't see the buses: where
those are gives the time away, and the time a held-out cell by the same walk's cells beside it.

The posterior over the grid is the map's likelihood to the power {map_weight} times the networks' mixture
to the power {network_weight}: errors of receivers at one place are not independent. The answer is its mean
and covariance, with the square of {fix_error:.0f} m added. Both powers and the radii come from
cross-validation over the training cells. Squared radii: {calibration}.

## Measured with ONNX Runtime on the {test} fixes of the {test_cells} test cells

{errors}

`radius` is that of a circle of the median 90 % ellipse's area. With a random half of the receivers masked it
is {larger:.2f} times as large. The cross-validation's models saw about four fifths of the training cells.
Nearest neighbours: mean place of the 1 or 5 trained fixes with the most similar levels.

{coverage}

In parentheses: 95 % interval when the test cells are drawn anew. With all receivers the cross-validation's
coverage is nominal by construction.

{parts}

A few fixes make the mean: {far:.1%} are over 400 m off and contribute {far_share:.0%} of it; the mean of the
others is {rest:.0f} m. The worst cell of five fixes or more has {worst_fixes}, in the mean
{worst_away:.0f} m from the nearest trained one and {worst:.0f} m off.

How much depends on which fifth of the cells tests: the same training with each other fifth (`hash mod 5`)
left out, and the test cells among the trained ones. Powers, radii, grid and variances are those of the
shipped model, so only the first row is of cells that had no part in them.

{rotated}

## Limits

It holds for these receivers at these places, for levels on this data's scale and a radio of the same power:
see the rows with all levels moved by 3 dB. It answers within {reach:.0f} m of where the walks went; a radio
elsewhere is placed inside, with an ellipse that means nothing. Test cells lie between trained ones of the
same walks and days: a new day may differ more. Coverage is an average over places; in one cell the errors go
together.

`model.onnx` has {size} bytes, SHA-256 `{digest}`.
ONNX Runtime differs from PyTorch by at most {difference:.0e} of the smaller sigma. One answer takes
{milliseconds:.1f} ms on one core. Training and cross-validation took {clock} on a machine of two cores
shared with other work.
"""
