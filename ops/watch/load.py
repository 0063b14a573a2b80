"""Load for everything that a dashboard shows.

Two models, a split and a shadow, truths, repeated frames, every fault of a sender, late frames, overload.
"""

import array
import json
import random
import shutil
import socket
import subprocess
import time
import urllib.parse

from programs import start

FRAME = 8192
# Frames that begin this many samples apart are not equal, and a small file holds many.
HOP = 16
# Of the daemon with streams.
STREAMS_PREFIX = "st"
# Small and few enough for streams of 64 KiB, from which what is answered is removed once a second.
SMALL_FRAME = 256
SMALL_FRAMES_A_SECOND = 10


def models(repository, folder):
    """Returns a copy of the repository with two versions of localization, of which the second is active."""
    copied = folder / "models"
    shutil.copytree(repository, copied)
    shutil.copytree(copied / "localization/1", copied / "localization/2")
    return copied


def play(sferic, nats, folder, seconds):
    """Sends load for about `seconds`."""
    scenes = folder / "scenes"
    subprocess.run([sferic, "simulate", "--out", scenes, "--scenes", "30"], check=True, capture_output=True)
    scenes = sorted(scenes.glob("*.sigmf-meta"))
    names = ("noise.cs8", "flood.cs8", "short.cs8", "broken.cf32")
    noise, flood, short, broken = (folder / name for name in names)
    random.seed(1)
    noise.write_bytes(random.randbytes(2 * (FRAME + 20 * HOP)))
    flood.write_bytes(random.randbytes(2 * (FRAME + 3000 * HOP)))
    short.write_bytes(random.randbytes(20))
    broken.write_bytes(array.array("f", [float("nan")] * 2 * FRAME).tobytes())
    rate = ["--sample-rate", "250e3", "--hop", str(HOP)]

    def publish(source, *arguments):
        command = [sferic, "publish", "--url", nats, "--source", source, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    # The daemon with streams has another prefix and is not asked.
    for action in [("split", "localization", "1=50", "2=50", "--key", "frame"), ("shadow", "localization@1")]:
        command = [sferic, "models", *action, "--url", nats]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        # The second time these are in the cache.
        fixes = ("--model", "localization", "--wait", "--json", "--timeout", "10s")
        publish_truths(nats, "north.rx1", publish("north.rx1", *scenes, *fixes).stdout)
        publish("north.rx2", noise, *rate, "--model", "modulation", "--wait", "--timeout", "10s")
        publish("wrong.model", noise, *rate, "--model", "nobody", "--wait")
        publish("wrong.shape", noise, *rate, "--model", "localization", "--wait")
        publish("wrong.length", short, *rate, "--model", "modulation", "--wait")
        publish("wrong.samples", broken, *rate, "--model", "modulation", "--wait")
        publish("hurried", flood, *rate, "--model", "modulation", "--timeout", "1ms", "--rate", "2000")
        publish("flood", flood, *rate, "--model", "modulation")
        garbage(nats)


def trickle(stack, log, sferic, nats, folder, seconds):
    """Starts sending small frames to the daemon with streams, for `seconds`; exits 0 once all are stored."""
    small = folder / "small.cs8"
    frames = SMALL_FRAMES_A_SECOND * seconds
    small.write_bytes(random.Random(2).randbytes(2 * SMALL_FRAME * frames))
    return start(
        stack, log, sferic, "publish", "--url", nats, "--source", "trickle", small, "--sample-rate", "250e3",
        "--frame-samples", str(SMALL_FRAME), "--rate", str(SMALL_FRAMES_A_SECOND), "--model", "modulation",
        # The load takes all cores.
        "--timeout", "10s",
        SFERIC__NATS__PREFIX=STREAMS_PREFIX,
    )  # fmt: skip


def publish_truths(nats, source, outcomes):
    """Publishes the positions that were answered as true ones."""
    for outcome in map(json.loads, outcomes.splitlines()):
        if "position" in outcome:
            truth = {"frame_id": outcome["frame_id"], "position": outcome["position"]}
            send(nats, f"iq.truth.{source}", json.dumps(truth).encode())


def garbage(nats):
    """A message that is no frame, as any client of NATS can send it."""
    send(nats, "iq.frames.garbage", b"\xc1")


def send(nats, subject, payload):
    server = urllib.parse.urlsplit(nats)
    with socket.create_connection((server.hostname, server.port), timeout=10) as connection:
        begin = f'CONNECT {{"verbose":false}}\r\nPUB {subject} {len(payload)}\r\n'
        connection.sendall(begin.encode() + payload + b"\r\nPING\r\n")
        answer = b""
        while b"PONG" not in answer and (part := connection.recv(4096)):
            answer += part
