"""Writes a bundle from a PyTorch network: pip install torch onnx numpy

    python3 examples/pytorch_bundle.py my-models
    SFERIC__MODELS__REPOSITORY=my-models SFERIC__MODELS__DEFAULT=example cargo run --release -- run

The network here is not trained: put yours in its place, with the features it was trained on. [features] makes
the daemon compute float32 [B, 1, 64, T] for it: 64 two-sided log-mel bands, T columns, each frame with zero
mean and unit variance.
"""
import hashlib
import sys
from pathlib import Path

import torch

LABELS = ["noise", "lora", "zigbee"]

MODEL_TOML = """\
[model]
sha256 = "{digest}"

[features]
kind = "log_mel"
sample_rate_hz = 1024000.0
n_fft = 512
hop_length = 128
n_mels = 64
mel_scale = "linear"

[output]
kind = "classification"
logits = "logits"
activation = "softmax"
labels = {labels}
top_k = 3
"""


class Network(torch.nn.Module):
    """[B, 1, 64, T] to [B, classes], for any T."""

    def __init__(self, classes):
        super().__init__()
        self.bands = torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3, stride=2, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, stride=2, padding=1), torch.nn.ReLU(),
        )
        self.classes = torch.nn.Linear(32, classes)

    def forward(self, features):
        return self.classes(self.bands(features).mean((2, 3)))


def main(repository):
    folder = Path(repository) / "example" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    network = Network(len(LABELS)).eval()
    # Batch and time stay free, so that frames of any length go through and several share a run.
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 64, 61),),
        folder / "model.onnx",
        input_names=["features"],
        output_names=["logits"],
        dynamic_axes={"features": {0: "batch", 3: "time"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    labels = "[" + ", ".join(f'"{label}"' for label in LABELS) + "]"
    (folder / "model.toml").write_text(MODEL_TOML.format(digest=digest, labels=labels))
    print(folder)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "my-models")
