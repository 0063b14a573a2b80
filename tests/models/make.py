#!/usr/bin/env python3
"""Makes the tiny models the tests run: `python3 tests/models/make.py` (needs numpy and onnx).

Each is a bundle, <name>/<version>/{model.onnx,model.toml}, of a few kB. Most take raw samples (`kind =
"iq"`), so that a test can work out an answer by hand and send a frame that provokes a fault. `RMS` below is
over the 2·N values of I and Q.

  degrees     frame → latitude = 90·mean(I), longitude = 360·mean(Q), sigmas 10·RMS and 20·RMS metres, theta
              30, confidence RMS
  metres      frame → 1000·mean(I) m east and 1000·mean(Q) m north of 45 N 7.6 E, ln sigmas of mean(I) and
              mean(Q)
  classes     frame → logits mean(I), mean(Q), RMS of `i`, `q`, `loud`
  tensors     frame → mean [B, 2] float32, count [B] int64, loud [B, 1] bool, double [B, 2, 1] float64
  poison      as degrees, but gives NaN where max(I, Q) > 0.9, and fails in the run where min(I, Q) < -0.9
  crash       as degrees, but ends the process, by SIGFPE, where max(I, Q) > 0.9: on x86-64 alone
  static1     as degrees, with a batch axis fixed at 1
  unbatched   as degrees without theta, and without batch axis: x [2, N], position [2], uncertainty [2],
              confidence [1]
  width32     as degrees, with 32 samples fixed
  ragged      frame → its values above 0.5, [1, P] float32, as many as there are (batches of one)
  slow        as degrees, after about two seconds of matrix products (batches of one)
  mixing      as degrees, but each frame gets the mean of the whole batch
  versions    three versions, 2, 9 and 10: `classes` whose one logit of many is the version's
  half        as classes, in float16
  double      as metres, in float64
  label       the largest logit of classes alone: version 1 its place, int64 [B]; version 2 its name, string
              [B, 1]
  scores      the softmax of the logits of classes as scikit-learn's exporter writes it: version 1 by number,
              version 2 by name in another order
  several     iq, power, levels [4] (float64 in frames) → mean [B, 2] of I and Q, level [B, 1]: the power,
              twice [B, 4]: the levels times two
  given       levels [4] → latitude and longitude, two sigmas in metres: a model of tensors alone
  types       small (uint8 in frames) → int64 [B, 2]; half (float64) → float16 [B, 2]; flag → bool [B]: each
              as it is
  quantised   as classes, in int8: I, Q and the weights in steps of 0.01
  nan         ln of the logits of classes times 0, less 1: NaN for every frame
  golden      as classes, with a case of its own outputs in golden.json
  external    as classes, the logits times 1, 2, 4 (weights/scale.bin) and, where a frame is longer than 16
              samples, plus 0, 8, 0 (offset.bin)
  gathered    level [R, 1] of five receivers → sum [B, 1], levels [B, 5, 1] and there [B, 5] as they are
  placed      power, places and arrivals of the receivers a, b, c.d → the mean of the places; sigmas: the
              latest arrival in µs plus 1, the number of receivers; residual: the largest |dB|
  pairs       correlation, lag_step and scatter of three receivers, as they are
"""

import numpy as np
from graph import FLOAT, HERE, ML, Graph, classification, features, logits, means, rms
from inputs import given, golden, nan, quantised, several, types
from onnx import TensorProto, helper, numpy_helper
from sessions import gathered, pairs, placed

DEGREES = """[output]
kind = "localization"
position = "position"
position_units = "degrees"
uncertainty = "uncertainty"
uncertainty_units = "metres"
confidence = "confidence"
"""


def degrees_outputs(g, x="x", batch="B", position=None):
    loud = g("Unsqueeze", rms(g, x), g.const([1], np.int64))
    g("Mul", position or means(g, x), g.const([[90, 360]]), name="position")
    sigmas = g("Mul", loud, g.const([[10, 20]]))
    theta = g("Add", g("Mul", loud, g.const([[0]])), g.const([[30]]))
    g("Concat", sigmas, theta, axis=1, name="uncertainty")
    g("Identity", loud, name="confidence")
    return [
        ("position", FLOAT, [batch, 2]),
        ("uncertainty", FLOAT, [batch, 3]),
        ("confidence", FLOAT, [batch, 1]),
    ]


def degrees():
    g = Graph()
    g.save("degrees/1", features() + DEGREES, degrees_outputs(g))


def unbatched():
    g = Graph()
    g("Mul", g("ReduceMean", "x", axes=[1], keepdims=0), g.const([90, 360]), name="position")
    loud = g("Sqrt", g("ReduceMean", g("Mul", "x", "x"), axes=[0, 1], keepdims=0))
    g("Mul", loud, g.const([10, 20]), name="uncertainty")
    g("Reshape", loud, g.const([1], np.int64), name="confidence")
    outputs = [("position", FLOAT, [2]), ("uncertainty", FLOAT, [2]), ("confidence", FLOAT, [1])]
    g.save("unbatched/1", features() + DEGREES, outputs, inputs=(2, "N"))


def metres():
    g = Graph()
    mean = means(g)
    g("Mul", mean, g.const([[1000, 1000]]), name="position")
    g("Identity", mean, name="log_sigma")
    g.save(
        "metres/1",
        features()
        + """[output]
kind = "localization"
position = "position"
position_units = "metres"
origin = { latitude = 45.0, longitude = 7.6 }
uncertainty = "log_sigma"
uncertainty_scale = "log"
""",
        [("position", FLOAT, ["B", 2]), ("log_sigma", FLOAT, ["B", 2])],
    )


def classes():
    g = Graph()
    g("Concat", means(g), g("Unsqueeze", rms(g), g.const([1], np.int64)), axis=1, name="logits")
    text = '[output]\nkind = "classification"\nlogits = "logits"\nlabels = ["i", "q", "loud"]\ntop_k = 2\n'
    g.save("classes/1", features() + text, [("logits", FLOAT, ["B", 3])])


def tensors():
    g = Graph()
    mean = means(g)
    g("Identity", mean, name="mean")
    flat = g("Squeeze", "x", g.const([1], np.int64))
    ones = g("Cast", g("GreaterOrEqual", g("Mul", flat, flat), g.const(0.0)), to=TensorProto.INT64)
    g("ReduceSum", ones, g.const([1, 2], np.int64), keepdims=0, name="count")
    g("Greater", g("Unsqueeze", rms(g), g.const([1], np.int64)), g.const(0.5), name="loud")
    g("Cast", g("Unsqueeze", mean, g.const([2], np.int64)), to=TensorProto.DOUBLE, name="double")
    g.save(
        "tensors/1",
        features() + '[output]\nkind = "tensors"\n',
        [
            ("mean", FLOAT, ["B", 2]),
            ("count", TensorProto.INT64, ["B"]),
            ("loud", TensorProto.BOOL, ["B", 1]),
            ("double", TensorProto.DOUBLE, ["B", 2, 1]),
        ],
    )


def maximum(g):
    """[B, 1]: the largest of I and Q."""
    highest = g("ReduceMax", g("Squeeze", "x", g.const([1], np.int64)), axes=[1, 2], keepdims=0)
    return g("Unsqueeze", highest, g.const([1], np.int64))


def poison():
    g = Graph()
    # 0/0 where the frame's maximum is above 0.9, added to its position.
    highest = maximum(g)
    fine = g("Cast", g("LessOrEqual", highest, g.const(0.9)), to=FLOAT)
    nan = g("Sub", g("Div", fine, fine), g.const(1.0))
    # An index out of range where any minimum of the batch is below -0.9: the whole run fails.
    lowest = g("ReduceMin", "x", axes=[0, 1, 2, 3], keepdims=0)
    index = g(
        "Cast",
        g("Mul", g("Cast", g("Less", lowest, g.const(-0.9)), to=FLOAT), g.const(100.0)),
        to=TensorProto.INT64,
    )
    zero = g("Gather", g.const([0.0]), index)
    shifted = g("Add", g("Add", means(g), nan), zero)
    g.save("poison/1", features() + DEGREES, degrees_outputs(g, position=shifted))


def crash():
    g = Graph()
    # The lowest int32 / -1, whose result int32 does not have: the processor traps. ONNX Runtime looks for a
    # divisor of 0 and fails in the run.
    is_above = g("Cast", g("Greater", maximum(g), g.const(0.9)), to=TensorProto.INT32)
    divisor = g("Sub", g.const(1, np.int32), g("Mul", is_above, g.const(2, np.int32)))
    quotient = g("Cast", g("Div", g.const(-(2**31), np.int32), divisor), to=FLOAT)
    position = g("Add", means(g), g("Mul", quotient, g.const(0.0)))
    g.save("crash/1", features() + DEGREES, degrees_outputs(g, position=position))


def static1():
    g = Graph()
    g.save("static1/1", features() + DEGREES, degrees_outputs(g, batch=1), inputs=(1, 1, 2, "N"))


def width32():
    g = Graph()
    g.save("width32/1", features() + DEGREES, degrees_outputs(g), inputs=("B", 1, 2, 32))


def ragged():
    g = Graph()
    flat = g("Reshape", "x", g.const([-1], np.int64))
    g(
        "Unsqueeze",
        g("Compress", flat, g("Greater", flat, g.const(0.5))),
        g.const([0], np.int64),
        name="above",
    )
    g.save(
        "ragged/1",
        features() + '[output]\nkind = "tensors"\n',
        [("above", FLOAT, [1, "P"])],
        inputs=(1, 1, 2, "N"),
    )


def slow(steps=200, size=1024):
    """A loop of products of a `size`-square matrix, which the graph expands from one number to stay small."""
    g = Graph()
    body = Graph()
    body("Identity", "going", name="going_on")
    body("MatMul", "state", "matrix", name="next")
    loop = helper.make_graph(
        body.nodes,
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
    )
    # Depends on the input, or it would be computed once at load.
    value = g(
        "Add",
        g("Mul", g("ReduceMean", "x", axes=[0, 1, 2, 3], keepdims=0), g.const(0.0)),
        g.const(1.0 / size),
    )
    g("Expand", value, g.const([size, size], np.int64), name="matrix")
    last = g("Loop", g.const(steps, np.int64), g.const(True, np.bool_), "matrix", body=loop)
    zero = g("Mul", g("ReduceMean", last, axes=[0, 1], keepdims=0), g.const(0.0))
    g.save(
        "slow/1",
        features() + DEGREES,
        degrees_outputs(g, batch=1, position=g("Add", means(g), zero)),
        inputs=(1, 1, 2, "N"),
    )


def mixing():
    g = Graph()
    mean = means(g)
    whole = g("ReduceMean", mean, axes=[0], keepdims=1)
    mixed = g("Add", g("Mul", mean, g.const(0.0)), whole)
    g.save("mixing/1", features() + DEGREES, degrees_outputs(g, position=mixed))


def versions():
    for index, version in enumerate((2, 9, 10)):
        g = Graph()
        zero = g("Mul", g("Unsqueeze", rms(g), g.const([1], np.int64)), g.const([[0, 0, 0]]))
        g("Add", zero, g.const([[float(i == index) for i in range(3)]]), name="logits")
        text = '[output]\nkind = "classification"\nlogits = "logits"\n'
        text += 'labels = ["two", "nine", "ten"]\ntop_k = 1\n'
        g.save(f"versions/{version}", features() + text, [("logits", FLOAT, ["B", 3])], stated=False)


def half():
    g = Graph(np.float16)
    logits(g, name="logits")
    g.save("half/1", classification("logits"), [("logits", TensorProto.FLOAT16, ["B", 3])])


def double():
    g = Graph(np.float64)
    mean = means(g)
    g("Mul", mean, g.const([[1000, 1000]]), name="position")
    g("Identity", mean, name="log_sigma")
    text = (HERE / "metres/1/model.toml").read_text().partition("[features]")
    outputs = [(name, TensorProto.DOUBLE, ["B", 2]) for name in ("position", "log_sigma")]
    g.save("double/1", "".join(text[1:]), outputs)


def label():
    g = Graph()
    g("ArgMax", logits(g), axis=1, keepdims=0, name="label")
    g.save("label/1", classification("label"), [("label", TensorProto.INT64, ["B"])], stated=False)
    g = Graph()
    place = g("ArgMax", logits(g), axis=1, keepdims=1)
    g(
        "LabelEncoder",
        place,
        name="label",
        domain=ML,
        keys_int64s=[0, 1, 2],
        values_strings=["i", "q", "loud"],
    )
    g.save("label/2", classification("label"), [("label", TensorProto.STRING, ["B", 1])], stated=False)


def scores():
    for version, kind, classes in [
        (1, TensorProto.INT64, {"classlabels_int64s": [0, 1, 2]}),
        (2, TensorProto.STRING, {"classlabels_strings": ["loud", "i", "q"]}),
    ]:
        g = Graph()
        ordered = logits(g) if version == 1 else g("Gather", logits(g), g.const([2, 0, 1], np.int64), axis=1)
        g("ZipMap", g("Softmax", ordered, axis=1), name="scores", domain=ML, **classes)
        each = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(FLOAT, None))
        output = helper.make_value_info("scores", helper.make_sequence_type_proto(each))
        g.save(f"scores/{version}", classification("scores"), [output], stated=False)


def external():
    g = Graph()
    scale = g.const([[1, 2, 4]])
    scaled = g("Mul", logits(g), scale)
    length = g("Gather", g("Shape", "x"), g.const(3, np.int64))
    offset = numpy_helper.from_array(np.array([[0, 8, 0]], np.float32), "offset")
    branches = {}
    for branch, nodes, constants in [
        ("then_branch", [helper.make_node("Add", [scaled, "offset"], ["shifted"])], [offset]),
        ("else_branch", [helper.make_node("Identity", [scaled], ["shifted"])], []),
    ]:
        result = helper.make_tensor_value_info("shifted", FLOAT, ["B", 3])
        branches[branch] = helper.make_graph(nodes, branch, [], [result], constants)
    g("If", g("Greater", length, g.const(16, np.int64)), name="logits", **branches)
    beside = {scale: "weights/scale.bin", "offset": "offset.bin"}
    g.save(
        "external/1",
        classification("logits", 'activation = "none"\n'),
        [("logits", FLOAT, ["B", 3])],
        beside=beside,
    )


for make in (
    *(degrees, metres, classes, tensors, poison, crash, static1, width32, ragged, slow, mixing, unbatched),
    *(versions, half, double, label, scores, several, given, types),
    *(quantised, nan, golden, external, gathered, placed, pairs),
):
    make()
