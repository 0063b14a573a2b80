"""Bundles that gather the frames of several receivers."""

import numpy as np
from graph import FLOAT, Graph


def gathered():
    g = Graph()
    g("ReduceSum", g("Mul", "level", g("Unsqueeze", "mask", g.const([2], np.int64))),
      g.const([1], np.int64), name="sum", keepdims=0)
    g("Identity", "level", name="levels")
    g("Identity", "mask", name="there")
    g.save(
        "gathered/1",
        """[gather]
max_receivers = 5
window = "300ms"
min_receivers = 3

[[inputs]]
name = "level"
kind = "tensor"
shape = [1]

[[inputs]]
name = "mask"
kind = "mask"

[output]
kind = "tensors"
""",
        [("sum", FLOAT, ["B", 1]), ("levels", FLOAT, ["B", 5, 1]), ("there", FLOAT, ["B", 5])],
        inputs=[("level", FLOAT, ["B", 5, 1]), ("mask", FLOAT, ["B", 5])],
    )


def placed():
    """The mean of the places; sigmas by what is heard and when."""
    g = Graph()
    count = g("ReduceSum", "mask", g.const([1], np.int64), keepdims=1)
    g("Div", g("ReduceSum", "receivers", g.const([1], np.int64), keepdims=0), count, name="position")
    first = g("ReduceMax", "arrival", axes=[1], keepdims=1)
    g("Concat", g("Add", g("Mul", first, g.const(1e6)), g.const(1.0)), count, axis=1, name="sigmas")
    loud = g("ReduceMax", g("Abs", "power"), axes=[1, 2], keepdims=0)
    g("Unsqueeze", loud, g.const([1], np.int64), name="loudness")
    g.save(
        "placed/1",
        """[gather]
receivers = ["a", "b", "c.d"]
window = "300ms"
min_receivers = 2

[[inputs]]
name = "power"
kind = "power"
floor = 1e-15
min_samples = 1

[[inputs]]
name = "mask"
kind = "mask"

[[inputs]]
name = "receivers"
kind = "receivers"

[[inputs]]
name = "arrival"
kind = "arrival"

[output]
kind = "localization"
position = "position"
position_units = "metres"
origin = { latitude = 45.0, longitude = 7.6 }
uncertainty = "sigmas"
residual = "loudness"
residual_max = 60.0
""",
        [("position", FLOAT, ["B", 2]), ("sigmas", FLOAT, ["B", 2]), ("loudness", FLOAT, ["B", 1])],
        inputs=[
            ("power", FLOAT, ["B", 3, 1]),
            ("mask", FLOAT, ["B", 3]),
            ("receivers", FLOAT, ["B", 3, 2]),
            ("arrival", FLOAT, ["B", 3]),
        ],
    )


def pairs():
    g = Graph()
    for name in ("correlation", "lag_step", "scatter"):
        g("Identity", name, name=f"{name}_out")
    g.save(
        "pairs/1",
        """[gather]
max_receivers = 3
window = "300ms"
min_receivers = 2

[[inputs]]
name = "correlation"
kind = "correlation"
band_hz = [-20e3, 20e3]
max_lag_s = 1e-3
lags = 201
windows = 4

[[inputs]]
name = "lag_step"
kind = "lag_step"

[[inputs]]
name = "scatter"
kind = "scatter"

[output]
kind = "tensors"
""",
        [
            ("correlation_out", FLOAT, ["B", 3, 201]),
            ("lag_step_out", FLOAT, ["B", 1]),
            ("scatter_out", FLOAT, ["B", 3]),
        ],
        inputs=[
            ("correlation", FLOAT, ["B", 3, 201]),
            ("lag_step", FLOAT, ["B", 1]),
            ("scatter", FLOAT, ["B", 3]),
        ],
    )
