"""A graph with its bundle, and parts of graphs that several of the tests' models have."""

import hashlib
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
FLOAT = TensorProto.FLOAT
ML = "ai.onnx.ml"


class Graph:
    """Nodes and constants of one model, in the order they are made."""

    def __init__(self, dtype=np.float32):
        self.dtype, self.nodes, self.constants = dtype, [], []

    def const(self, value, dtype=None):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype or self.dtype), name))
        return name

    def __call__(self, op, *inputs, name=None, **attributes):
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def save(self, folder, text, outputs, inputs=("B", 1, 2, "N"), stated=True, beside={}):
        """`inputs`: the axes of `x`, or a list of names, types and axes. `beside`: by a tensor's name, the
        file its values go to."""
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        made = helper.make_graph(
            self.nodes,
            "test",
            [
                helper.make_tensor_value_info(*each)
                for each in ([("x", dtype, inputs)] if isinstance(inputs, tuple) else inputs)
            ],
            [
                output if isinstance(output, onnx.ValueInfoProto) else helper.make_tensor_value_info(*output)
                for output in outputs
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid(ML, 3)] * any(
            node.domain == ML for node in self.nodes
        )
        model = helper.make_model(made, opset_imports=opsets, producer_name="")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        folder = HERE / folder
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        attributes = [attribute for node in model.graph.node for attribute in node.attribute]
        graphs = [model.graph, *(a.g for a in attributes if a.type == onnx.AttributeProto.GRAPH)]
        for tensor in [tensor for graph in graphs for tensor in graph.initializer if tensor.name in beside]:
            files[beside[tensor.name]] = tensor.raw_data
            external_data_helper.set_external_data(tensor, beside[tensor.name])
            tensor.ClearField("raw_data")
        data = model.SerializeToString(deterministic=True)
        files = {"model.onnx": data, **dict(sorted(files.items()))}
        for location, content in files.items():
            (folder / location).parent.mkdir(exist_ok=True)
            (folder / location).write_bytes(content)
        # Of several files, of what `sha256sum` prints about them.
        printed = "".join(
            f"{hashlib.sha256(content).hexdigest()}  {location}\n" for location, content in files.items()
        ).encode()
        digest = hashlib.sha256(printed if beside else data).hexdigest()
        digest = f'[model]\nsha256 = "{digest}"\n\n' if stated else ""
        (folder / "model.toml").write_text(digest + text)
        print(f"{folder.relative_to(HERE)}: {len(data)} bytes")


def features(extra=""):
    return f'[features]\nkind = "iq"\n{extra}\n'


def means(g, x="x"):
    """[B, 2]: the means of I and of Q."""
    return g("ReduceMean", g("Squeeze", x, g.const([1], np.int64)), axes=[2], keepdims=0)


def rms(g, x="x"):
    """[B]: over I and Q."""
    flat = g("Squeeze", x, g.const([1], np.int64))
    return g("Sqrt", g("ReduceMean", g("Mul", flat, flat), axes=[1, 2], keepdims=0))


def logits(g, name=None, x="x"):
    return g("Concat", means(g, x), g("Unsqueeze", rms(g, x), g.const([1], np.int64)), axis=1, name=name)


def classification(output, extra=""):
    text = f'[output]\nkind = "classification"\nlogits = "{output}"\nlabels = ["i", "q", "loud"]\n'
    return features() + text + extra
