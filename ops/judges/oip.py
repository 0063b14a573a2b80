"""The Open Inference Protocol as its own clients speak it, unchanged: tritonclient and KServe's.

oip.py HOST:PORT; the daemon has the tests' models `degrees`, the default, `tensors`, and the versions 2, 9
and 10 of `versions`; tests/daemon/oip_judged.rs runs it.
"""

import asyncio
import sys

import kserve
import numpy as np
import tritonclient.http as triton
from checks import check, equal
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def refused(name, call, *words):
    """The call must raise an error that has these words."""
    try:
        call()
    except InferenceServerException as error:
        check(name, all(word in str(error) for word in words), str(error))
    else:
        check(name, False, "it was answered")


def samples(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def near(name, found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    same = found.shape == expected.shape and np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    check(name, same, f"{found!r}, expected {expected!r}")


def tensor(name, data, binary=True):
    given = triton.InferInput(name, list(data.shape), "FP32")
    given.set_data_from_numpy(data, binary_data=binary)
    return given


def degrees(x):
    """What the model `degrees` says of these samples."""
    return np.stack([90 * x[:, 0, 0].mean(axis=1), 360 * x[:, 0, 1].mean(axis=1)], axis=1)


def judge_triton(address):
    client = triton.InferenceServerClient(address)
    check("triton: the server is live and ready", client.is_server_live() and client.is_server_ready())
    check(
        "triton: a model is ready", client.is_model_ready("degrees") and client.is_model_ready("degrees", "1")
    )
    check(
        "triton: another one is not",
        not client.is_model_ready("none") and not client.is_model_ready("degrees", "2"),
    )
    server = client.get_server_metadata()
    check("triton: the server has binary tensors", "binary_tensor_data" in server["extensions"], server)
    metadata = client.get_model_metadata("degrees")
    equal("triton: inputs", metadata["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 2, -1]}])
    outputs = {output["name"]: output["datatype"] for output in metadata["outputs"]}
    equal("triton: outputs", outputs, {"position": "FP32", "uncertainty": "FP32", "confidence": "FP32"})
    check("triton: versions", client.get_model_metadata("versions")["versions"] == ["2", "9", "10"])
    config = client.get_model_config("degrees")
    equal("triton: the configuration has no batch", config["input"][0]["dims"], [1, 2, -1])

    x = samples(1, 1, 2, 64)
    result = client.infer("degrees", [tensor("x", x)])
    near("triton: infer, its defaults", result.as_numpy("position"), degrees(x))
    equal(
        "triton: model and version",
        [result.get_response()[key] for key in ("model_name", "model_version")],
        ["degrees", "1"],
    )
    near(
        "triton: infer in JSON",
        client.infer(
            "degrees",
            [tensor("x", x, binary=False)],
            outputs=[triton.InferRequestedOutput("position", binary_data=False)],
        ).as_numpy("position"),
        degrees(x),
    )
    wanted = [
        triton.InferRequestedOutput("confidence"),
        triton.InferRequestedOutput("position", binary_data=False),
    ]
    result = client.infer(
        "degrees", [tensor("x", x)], outputs=wanted, request_id="mine", priority=1, timeout=5_000_000
    )
    equal("triton: the id comes back", result.get_response()["id"], "mine")
    near("triton: one output in JSON and one not", result.as_numpy("position"), degrees(x))
    check(
        "triton: only what is asked for",
        result.as_numpy("uncertainty") is None and result.as_numpy("confidence") is not None,
    )
    batch = samples(100, 1, 2, 32, seed=2)
    near(
        "triton: a batch of 100, in order",
        client.infer("degrees", [tensor("x", batch)]).as_numpy("position"),
        degrees(batch),
    )
    result = client.infer("tensors", [tensor("x", x)])
    types = {output["name"]: output["datatype"] for output in result.get_response()["outputs"]}
    equal(
        "triton: each type comes back",
        types,
        {"mean": "FP32", "count": "INT64", "loud": "BOOL", "double": "FP64"},
    )
    for name, datatype in types.items():
        equal(
            f"triton: {name} is {datatype}",
            result.as_numpy(name).dtype,
            np.dtype(triton_to_np_dtype(datatype)),
        )
    near("triton: int64", result.as_numpy("count"), [128])
    raw = triton.InferInput("iq", [1, 64, 2], "FP32")
    raw.set_data_from_numpy(np.ascontiguousarray(x[:, 0].transpose(0, 2, 1)))
    near(
        "triton: samples become features here",
        client.infer("degrees", [raw], parameters={"sample_rate": 48000.0}).as_numpy("position"),
        degrees(x),
    )
    by_channel = triton.InferInput("iq", [1, 1, 2, 64], "FP32")
    by_channel.set_data_from_numpy(x)
    near("triton: and by channel", client.infer("degrees", [by_channel]).as_numpy("position"), degrees(x))
    waiting = [
        client.async_infer("degrees", [tensor("x", samples(1, 1, 2, 64, seed=seed))]) for seed in range(20)
    ]
    for seed, each in enumerate(waiting):
        near(
            f"triton: request {seed} of many at once",
            each.get_result().as_numpy("position"),
            degrees(samples(1, 1, 2, 64, seed=seed)),
        )

    refused("triton: no such model", lambda: client.infer("none", [tensor("x", x)]), "none", "degrees")
    refused("triton: no such input", lambda: client.infer("degrees", [tensor("y", x)]), "y", "x")
    refused(
        "triton: no such output",
        lambda: client.infer("degrees", [tensor("x", x)], outputs=[triton.InferRequestedOutput("z")]),
        "z",
        "position",
    )
    refused(
        "triton: another shape",
        lambda: client.infer("degrees", [tensor("x", samples(1, 2, 2, 64))]),
        "2",
        "1",
    )
    refused(
        "triton: NaN",
        lambda: client.infer("degrees", [tensor("x", np.full((1, 1, 2, 64), np.nan, np.float32))]),
        "finite",
    )
    refused(
        "triton: too many",
        lambda: client.infer("degrees", [tensor("x", samples(101, 1, 2, 32))]),
        "101",
        "100",
    )
    refused(
        "triton: compressed",
        lambda: client.infer("degrees", [tensor("x", x)], request_compression_algorithm="gzip"),
        "gzip",
    )

    statistics = client.get_inference_statistics("degrees")["model_stats"][0]
    check(
        "triton: statistics",
        statistics["inference_stats"]["success"]["count"] >= 100
        and statistics["inference_stats"]["compute_infer"]["ns"] > 0,
        statistics,
    )
    check("triton: statistics of all", len(client.get_inference_statistics()["model_stats"]) == 5)
    state = lambda: {
        (entry["name"], entry["version"]): entry["state"] for entry in client.get_model_repository_index()
    }
    equal("triton: the index", state()["versions", "10"], "READY")
    client.unload_model("versions")
    equal(
        "triton: after unload",
        (state()["versions", "10"], client.is_model_ready("versions")),
        ("UNAVAILABLE", False),
    )
    client.load_model("versions")
    check("triton: after load", client.is_model_ready("versions"))
    refused("triton: the default model stays", lambda: client.unload_model("degrees"), "default")
    refused(
        "triton: a configuration of its own", lambda: client.load_model("versions", config="{}"), "config"
    )
    client.close()


async def judge_kserve(address):
    url = f"http://{address}"
    x = samples(1, 1, 2, 64, seed=3)
    async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2", timeout=30)) as client:
        check("kserve: the server is live", await client.is_server_live(url))
        check("kserve: the server is ready", await client.is_server_ready(url))
        check("kserve: a model is ready", await client.is_model_ready(url, "degrees"))
        for binary in (False, True):
            given = kserve.InferInput("x", list(x.shape), "FP32")
            given.set_data_from_numpy(x, binary_data=binary)
            outputs = [kserve.protocol.infer_type.RequestedOutput("position", {"binary_data": binary})]
            request = kserve.InferRequest("degrees", [given], request_id="k", request_outputs=outputs)
            answer = await client.infer(url, request, model_name="degrees")
            name = "binary" if binary else "JSON"
            near(f"kserve: infer, {name}", answer.outputs[0].as_numpy(), degrees(x))
            equal(f"kserve: the id, {name}", answer.id, "k")
        try:
            await client.infer(url, request, model_name="none")
            check("kserve: no such model", False, "it was answered")
        except Exception as error:
            check("kserve: no such model", "404" in str(error), repr(error))


def main():
    judge_triton(sys.argv[1])
    asyncio.run(judge_kserve(sys.argv[1]))


main()
