"""ONNX's own checker on every model here, and what model.toml says of it.

onnx_files.py SFERIC NATS_URL FOLDER: none of the three is needed.
"""

import hashlib
import re
from pathlib import Path

import onnx
from checks import check, equal

ROOT = Path(__file__).resolve().parent.parent.parent
# Keys of [output] that name an output of the ONNX file.
NAMING = ("position", "uncertainty", "confidence", "logits")


def main():
    paths = sorted([*ROOT.glob("config/models/*/*/model.onnx"), *ROOT.glob("tests/models/*/*/model.onnx")])
    for path in paths:
        name = str(path.relative_to(ROOT).parent)
        try:
            # By its path, so that external data are found.
            onnx.checker.check_model(str(path), full_check=True)
            check(f"{name} is valid", True)
        except Exception as error:
            check(f"{name} is valid", False, f"{type(error).__name__}: {error}")
            continue
        text = (path.parent / "model.toml").read_text()
        model = onnx.load(str(path), load_external_data=False)
        tensors = list(onnx.external_data_helper._get_all_tensors(model))
        is_alone = not any(map(onnx.external_data_helper.uses_external_data, tensors))
        stated = re.search(r'^sha256 = "(\w+)"', text, re.M)
        if stated and is_alone:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            equal(f"{name} has the digest that model.toml states", digest, stated[1])
        outputs = {output.name for output in model.graph.output}
        named = {found[1] for key in NAMING if (found := re.search(rf'^{key} = "(\w+)"', text, re.M))}
        check(f"{name} has the outputs that model.toml names", named <= outputs, f"{named} in {outputs}")


main()
