"""What every peer does with a frame: features, a run, and the fields of the answer.

PEER_BUNDLE names the bundle's folder. The features are those of sferic for `kind = "log_mel"`, two-sided on
a linear scale, and positions become degrees, so that all sides of the measurement do the same work; another
bundle is refused. The front end is the fastest of those tried with numpy and scipy: one batched FFT in
float32 into a buffer that is kept, and a sparse filterbank.
"""
import math
import os
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import scipy.fft
import scipy.sparse

KNOWN = {
    "kind": "log_mel", "num_channels": 1, "input": "complex", "window": "hann", "center": False,
    "sides": "two_sided", "power": 2.0, "f_min_hz": 0.0, "mel_scale": "linear", "mel_norm": "none",
    "log": "ln", "floor": 1e-10, "normalize": "frame",
}
SIZES = {"n_fft", "win_length", "hop_length", "n_mels"}
REQUIRED = {"kind", "mel_scale"}  # sferic's default differs, or there is none


class Model:
    """One session with one thread, and the features it is given"""

    def __init__(self):
        folder = Path(os.environ["PEER_BUNDLE"])
        bundle = tomllib.loads((folder / "model.toml").read_text())
        self.features_of(bundle["features"], folder)
        output = bundle["output"]
        if output["kind"] != "localization" or output.get("uncertainty_units", "metres") != "metres":
            raise SystemExit(f"{folder}: the peers answer positions with sigmas in metres only")
        self.outputs = [output["position"], output["uncertainty"], output["confidence"]]
        self.is_log = output.get("uncertainty_scale") == "log"
        self.origin = output.get("origin")
        if self.origin:
            self.metres = metres_per_degree(self.origin["latitude"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name

    def features_of(self, table, folder):
        wrong = {
            key: value for key, value in table.items()
            if key not in SIZES and not (key in KNOWN and KNOWN[key] == value)
        }
        n_fft = self.n_fft = table.get("n_fft", 1024)
        if wrong or not REQUIRED <= table.keys() or table.get("win_length", n_fft) != n_fft:
            raise SystemExit(f"{folder}: the peers do not compute these features: {wrong or table}")
        self.hop = table.get("hop_length", n_fft // 4)
        turn = 2 * np.pi * np.arange(n_fft) / n_fft
        self.window = (0.5 - 0.5 * np.cos(turn)).astype(np.float32)
        self.bank = scipy.sparse.csr_array(two_sided_bank(n_fft, table.get("n_mels", 128)).T)
        self.buffer = np.empty((0, n_fft), np.complex64)

    def features(self, samples):
        """(bands, columns) of the bytes of `cf32_le` samples"""
        iq = np.frombuffer(samples, np.complex64)
        frames = np.lib.stride_tricks.sliding_window_view(iq, self.n_fft)[::self.hop]
        if self.buffer.shape != frames.shape:
            self.buffer = np.empty(frames.shape, np.complex64)
        np.multiply(frames, self.window, out=self.buffer)
        spectrum = scipy.fft.fft(self.buffer, axis=-1, workers=1, overwrite_x=True)
        squares = spectrum.view(np.float32)
        np.multiply(squares, squares, out=squares)
        x = self.bank @ (squares[:, 0::2] + squares[:, 1::2]).T
        x += np.float32(1e-10)
        np.log(x, out=x)
        x -= x.mean()
        x *= 1 / math.sqrt(np.dot(x.ravel(), x.ravel()) / x.size)
        return x

    def answers(self, frames):
        """The answers to the features of several frames, in one run"""
        x = frames[0][None, None] if len(frames) == 1 else np.stack(frames)[:, None]
        outputs = self.session.run(self.outputs, {self.input: x})
        return [self.answer(*row) for row in zip(*(output.tolist() for output in outputs))]

    def answer(self, position, sigma, confidence):
        if self.origin:
            east, north = position
            latitude = self.origin["latitude"] + north / self.metres[1]
            longitude = self.origin["longitude"] + east / self.metres[0]
        else:
            latitude, longitude = position
        sigma_x, sigma_y = map(math.exp, sigma[:2]) if self.is_log else sigma[:2]
        theta = sigma[2] if len(sigma) > 2 else 0.0
        return {
            "position": {"latitude": latitude, "longitude": longitude},
            "uncertainty": {"sigma_x": sigma_x, "sigma_y": sigma_y, "theta": theta},
            "confidence": confidence[0],
        }


def two_sided_bank(n_fft, bands):
    """(n_fft, bands) float32: triangles evenly over each half, rows in FFT order"""
    half = n_fft // 2
    edges = np.linspace(0, half, bands // 2 + 2)
    bins = np.arange(half + 1)[:, None]
    rising = (bins - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[None, 2:] - bins) / (edges[2:] - edges[1:-1])
    positive = np.maximum(0.0, np.minimum(rising, falling))
    bank = np.zeros((n_fft, bands), np.float32)
    bank[:half + 1, bands // 2:] = positive
    bank[-np.arange(half + 1) % n_fft, :bands // 2] = positive[:, ::-1]
    return bank


def metres_per_degree(latitude):
    """Of longitude and of latitude, on the WGS 84 ellipsoid: good to a millionth for some metres"""
    a, f = 6_378_137.0, 1 / 298.257223563
    e2 = f * (2 - f)
    w = 1 - e2 * math.sin(math.radians(latitude)) ** 2
    normal = a / math.sqrt(w)
    longitude = normal * math.cos(math.radians(latitude))
    return math.radians(longitude), math.radians(normal * (1 - e2) / w)
