"""A client of nats-py and msgpack that knows nothing of the daemon but docs/protocol.md.

client.py SFERIC NATS_URL FOLDER: a daemon with the shipped models and `tensors` is at the URL.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import msgpack
import nats
from checks import check, equal

ROOT = Path(__file__).resolve().parent.parent.parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MANY = 200


def table(heading):
    """The first column of a table of docs/protocol.md, with each row's other columns."""
    section = (ROOT / "docs/protocol.md").read_text().split(f"\n{heading}\n")[1]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", section.split("\n#")[0], re.M)
    return {key: [cell.strip() for cell in rest.split("|")] for key, rest in rows}


def frame(**keys):
    """Two tones' worth of nothing: 128 samples of (0.5, 0.25)."""
    return {"samples": bytes([64, 32] * 128), "datatype": "ci8", "sample_rate": 48000.0, **keys}


def unpacked(payload):
    """Strict: one map with string keys, UTF-8, nothing after it."""
    return msgpack.unpackb(payload, strict_map_key=True)


async def predictions(client, subscription):
    sent = frame(frame_id="judge-1", model="modulation", seq=7, session_id="s")
    sent["datetime"] = "2026-11-25T05:00:00Z"
    header = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    reply = await client.request("iq.frames.judge", msgpack.packb(sent), timeout=30, headers=header)
    outcome = unpacked(reply.data)
    kinds = {key: row[0] for key, row in table("## Prediction").items()}
    expected = {key for key, kind in kinds.items() if kind in ("all", "classification")}
    equal("a classification has the keys of the page's table", set(outcome), expected)
    echoed = {key: outcome.get(key) for key in ("frame_id", "seq", "session_id", "datetime", "source")}
    known = {key: sent[key] for key in ("frame_id", "seq", "session_id", "datetime")}
    equal("it echoes what the frame said", echoed, {**known, "source": "judge"})
    total = sum(label["score"] for label in outcome["labels"])
    check("scores are of a softmax", 0 < total <= 1 + 1e-5, total)
    scores = [label["score"] for label in outcome["labels"]]
    equal("labels are best first", scores, sorted(scores, reverse=True))
    file = ROOT / "config/models/modulation/1/model.onnx"
    equal("the digest is the file's", outcome["model_digest"], hashlib.sha256(file.read_bytes()).hexdigest())
    published = await subscription.next_msg(timeout=30)
    equal("it is published with the source", published.subject, "iq.predictions.judge")
    equal("what is published is what was answered", unpacked(published.data), outcome)
    trace = published.headers.get("traceparent", "")
    check("its trace is the frame's", trace.split("-")[1:2] == [TRACE], trace)
    equal("its Nats-Msg-Id is the frame's id", published.headers.get("Nats-Msg-Id"), "judge-1")


async def encodings(client):
    reply = await client.request("iq.frames.judge", msgpack.packb(frame(model="tensors")), timeout=30)
    packed = unpacked(reply.data)["tensors"]
    sent = frame(model="tensors", samples=base64.b64encode(frame()["samples"]).decode())
    header = {"Content-Type": "application/json"}
    reply = await client.request("iq.frames.judge", json.dumps(sent).encode(), timeout=30, headers=header)
    equal("JSON is answered in JSON", reply.headers.get("Content-Type"), "application/json")
    texts = json.loads(reply.data)["tensors"]
    decoded = {name: {**tensor, "data": base64.b64decode(tensor["data"])} for name, tensor in texts.items()}
    equal("both encodings mean the same", decoded, packed)


async def failures(client):
    cases = {
        "what is no MessagePack": (b"\xc1", "invalid_frame"),
        "two maps in a message": (msgpack.packb(frame()) * 2, "invalid_frame"),
        "no samples": (msgpack.packb({"sample_rate": 1.0}), "invalid_frame"),
        "an odd number of bytes": (msgpack.packb(frame(samples=b"abc")), "invalid_frame"),
        "a datatype that is not": (msgpack.packb(frame(datatype="cf16_le")), "unsupported_datatype"),
        "two samples": (msgpack.packb(frame(samples=b"abcd", model="modulation")), "not_enough_samples"),
        "three channels of one": (msgpack.packb(frame(model="localization")), "shape_mismatch"),
        "a model that is not": (msgpack.packb(frame(model="nosuch")), "model_not_found"),
        "a budget of nothing": (msgpack.packb(frame(model="modulation", timeout_ms=0)), "deadline_exceeded"),
    }
    codes = table("### Failure codes")
    keys = set(table("## Failure"))
    for name, (payload, code) in cases.items():
        reply = await client.request("iq.frames.judge", payload, timeout=30)
        outcome, headers = unpacked(reply.data), reply.headers or {}
        found = (outcome.get("code"), set(outcome), outcome.get("retryable"))
        expected = (code, keys, codes[code][1] == "yes")
        is_right = equal(f"{name} is {code}, with the page's keys", found, expected)
        service_error = (headers.get("Nats-Service-Error-Code"), bool(headers.get("Nats-Service-Error")))
        if is_right:
            equal(f"{name} has the service code in its headers", service_error, (codes[code][0], True))


async def service(client):
    async def ask(subject):
        return json.loads((await client.request(subject, b"", timeout=10)).data)

    ping = await ask("$SRV.PING.sferic")
    equal("$SRV.PING answers as ADR-32 says", ping.get("type"), "io.nats.micro.v1.ping_response")
    check("its version is semantic", re.fullmatch(r"\d+\.\d+\.\d+\S*", ping["version"]), ping["version"])
    info = await ask(f"$SRV.INFO.sferic.{ping['id']}")
    equal("$SRV.INFO answers by id", info.get("type"), "io.nats.micro.v1.info_response")
    stats = await ask(f"$SRV.STATS.sferic.{ping['id']}")
    equal("$SRV.STATS answers by id", stats.get("type"), "io.nats.micro.v1.stats_response")
    subjects = {endpoint["subject"] for endpoint in info["endpoints"]}
    named = {endpoint["subject"] for endpoint in stats["endpoints"]}
    equal("both name the same endpoints", named, subjects)
    check("the control endpoints are among them", {"sferic.health", "sferic.breaker"} <= subjects, subjects)


async def many(client):
    frames = (frame(model="tensors", frame_id=f"many-{n}", timeout_ms=20000) for n in range(MANY))
    waiting = (client.request("iq.frames.judge", msgpack.packb(sent), timeout=60) for sent in frames)
    ids = sorted(unpacked(reply.data)["frame_id"] for reply in await asyncio.gather(*waiting))
    equal(f"{MANY} requests at once get one answer each", ids, sorted(f"many-{n}" for n in range(MANY)))
    health = json.loads((await client.request("sferic.health", b"", timeout=10)).data)
    equal("the daemon is ok after all this", health["status"], "ok")
    ledger = health["ledger"]
    parts = sum(ledger[key] for key in ("predictions", "failures", "lost", "in_flight"))
    equal("received = predictions + failures + lost + in flight", ledger["received"], parts)
    equal("nothing is lost", ledger["lost"], 0)


async def main(url):
    client = await nats.connect(url)
    subscription = await client.subscribe("iq.predictions.judge")
    await client.flush()
    await predictions(client, subscription)
    await encodings(client)
    await failures(client)
    await service(client)
    await many(client)
    await client.close()


asyncio.run(main(sys.argv[2]))
