"""What schemathesis is told of HTTP beyond its document; tests/daemon/http_judged.rs runs it."""

import base64
import binascii
import datetime

import msgpack
import schemathesis


def written(value):
    """Numbers that MessagePack has no whole ones for become floats, as JSON's readers have it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, list):
        return [written(item) for item in value]
    if isinstance(value, dict):
        return {key: written(item) for key, item in value.items()}
    return value


@schemathesis.serializer("application/msgpack")
def to_messagepack(_, value):
    value = written(value)
    if isinstance(value, dict) and isinstance(value.get("samples"), str):
        # What is base64 in JSON is bin.
        try:
            value["samples"] = base64.b64decode(value["samples"], validate=True)
        except (binascii.Error, ValueError):
            pass
    return msgpack.packb(value, unicode_errors="surrogatepass")


@schemathesis.deserializer("application/msgpack")
def from_messagepack(_, response):
    def shown(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    def walked(value):
        if isinstance(value, dict):
            return {key: walked(item) for key, item in value.items()}
        return [walked(item) for item in value] if isinstance(value, list) else shown(value)

    return walked(msgpack.unpackb(response.content, strict_map_key=True))


def is_time(text):
    try:
        return "T" in text and datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


@schemathesis.hook
def before_call(_, case, **__):
    """A schema cannot say that a text holds whole samples, how many channels the model has, that it takes no
    tensors, or that a tensor has as many elements as its shape; and to a program that makes up texts, formats
    of texts are remarks."""
    body, positive = case.body, schemathesis.GenerationMode.POSITIVE
    is_good = case.meta is not None and case.meta.generation.mode == positive
    if is_good and isinstance(body, dict) and isinstance(body.get("datetime"), str):
        body["datetime"] = body["datetime"] if is_time(body["datetime"]) else "2026-11-25T05:00:00Z"
    if is_good and isinstance(body, dict) and case.operation.path.endswith("/infer"):
        data = [0.5, 0.25] * 16
        body["inputs"] = [{"name": "x", "shape": [1, 1, 2, 16], "datatype": "FP32", "data": data}]
        body.pop("outputs", None)
    if is_good and isinstance(body, dict) and body.pop("tensors", None):
        if body.get("samples") is None and body.get("iq_data") is None:
            body["iq_data"] = [[0, 0]] * 64
            body.pop("num_channels", None)
    if isinstance(body, dict) and isinstance(body.get("samples"), str):
        body["samples"] = base64.b64encode(bytes(64)).decode()
        channels = body.get("num_channels")
        if isinstance(channels, (int, float)) and not isinstance(channels, bool) and 1 <= channels < 2**64:
            if channels == int(channels):
                body["num_channels"] = 1
