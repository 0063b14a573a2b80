"""Bundles of several inputs, of tensors that frames bring, and those that loading checks further."""

import base64
import json

import numpy as np
from graph import FLOAT, HERE, Graph, classification, logits, means
from onnx import TensorProto


def several():
    g = Graph()
    g("Identity", means(g, "iq"), name="mean")
    g("Identity", "power", name="level")
    g("Mul", "levels", g.const(2.0), name="twice")
    g.save(
        "several/1",
        """[[inputs]]
name = "levels"
kind = "tensor"
shape = [4]
dtype = "float64"

[[inputs]]
name = "iq"
kind = "iq"

[[inputs]]
name = "power"
kind = "power"

[output]
kind = "tensors"
""",
        [("mean", FLOAT, ["B", 2]), ("level", FLOAT, ["B", 1]), ("twice", FLOAT, ["B", 4])],
        inputs=[("iq", FLOAT, ["B", 1, 2, "N"]), ("power", FLOAT, ["B", 1]), ("levels", FLOAT, ["B", 4])],
    )


def given():
    g = Graph()
    g("Gather", "levels", g.const([0, 1], np.int64), axis=1, name="position")
    positive = g("Add", g("Abs", g("Gather", "levels", g.const([2, 3], np.int64), axis=1)), g.const(1.0))
    g("Identity", positive, name="sigmas")
    g.save(
        "given/1",
        """[features]
kind = "tensor"
shape = [4]

[output]
kind = "localization"
position = "position"
uncertainty = "sigmas"
""",
        [("position", FLOAT, ["B", 2]), ("sigmas", FLOAT, ["B", 2])],
        inputs=[("levels", FLOAT, ["B", 4])],
    )


def types():
    g = Graph()
    listed = ""
    for name, dtype in [("small", "uint8"), ("half", "float64"), ("flag", None)]:
        g("Identity", name, name=f"{name}_out")
        listed += f'[[inputs]]\nname = "{name}"\nkind = "tensor"\nshape = {[2] if dtype else []}\n'
        listed += f'dtype = "{dtype}"\n\n' if dtype else "\n"
    ports = [
        ("small", TensorProto.INT64, ["B", 2]),
        ("half", TensorProto.FLOAT16, ["B", 2]),
        ("flag", TensorProto.BOOL, ["B"]),
    ]
    g.save(
        "types/1",
        listed + '[output]\nkind = "tensors"\n',
        [(f"{name}_out", dtype, axes) for name, dtype, axes in ports],
        inputs=ports,
    )


def quantised():
    """Values and weights in int8 with their scales, as quantisers write them."""
    g = Graph()
    rate, zero = g.const(0.01), g.const(0, np.int8)
    x = g("DequantizeLinear", g("QuantizeLinear", "x", rate, zero), rate, zero)
    weights = g("DequantizeLinear", g.const(np.eye(3) * 100, np.int8), rate, zero)
    g("MatMul", logits(g, x=x), weights, name="logits")
    g.save("quantised/1", classification("logits"), [("logits", FLOAT, ["B", 3])], stated=False)


def nan():
    g = Graph()
    g("Log", g("Sub", g("Mul", logits(g), g.const(0.0)), g.const(1.0)), name="scores")
    text = classification("scores", 'activation = "none"\n')
    g.save("nan/1", text, [("scores", FLOAT, ["B", 3])], stated=False)


def tensor(values):
    """As in a frame, but with the axes of the ONNX file."""
    data = base64.b64encode(values.tobytes()).decode()
    return {"shape": list(values.shape), "dtype": str(values.dtype), "data": data}


def golden():
    g = Graph()
    logits(g, name="logits")
    text = classification("logits")
    text = '[model]\ngolden = "golden.json"\n\n' + text
    g.save("golden/1", text, [("logits", FLOAT, ["B", 3])], stated=False)
    cases = []
    for n in (16, 40):
        x = (np.arange(2 * n, dtype=np.float32) / n - 1).reshape(1, 1, 2, n)
        mean, root = x.mean(axis=3)[0, 0], np.sqrt((x * x).mean())
        out = np.array([[mean[0], mean[1], root]], np.float32)
        cases.append({"inputs": {"x": tensor(x)}, "outputs": {"logits": tensor(out)}})
    file = {"tolerance": 1e-5, "cases": cases}
    (HERE / "golden/1/golden.json").write_text(json.dumps(file) + "\n")
