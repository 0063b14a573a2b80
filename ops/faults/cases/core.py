"""Plain NATS, request and reply, while daemons are restarted."""

import asyncio
import os
import time
from collections import Counter

import msgpack

from harness import ROOT, World
from process import Failed, Skipped
from registry import fault
from report import Report

MODEL = ROOT.parent / "shared/models/overhead"
RATE, SAMPLES = 500, 4096


class Requests:
    """Sends requests at a steady rate over one inbox, and counts their replies."""

    def __init__(self, client):
        self.client, self.inbox = client, client.new_inbox()
        self.replies, self.codes, self.sent, self.seconds, self.slowest = Counter(), Counter(), {}, 0.0, 0.0
        noise = [os.urandom(2 * SAMPLES) for _ in range(64)]
        keys = {"datatype": "ci8", "sample_rate": 1e6, "timeout_ms": 10_000, "cache_enabled": False}
        self.payloads = [msgpack.packb({"samples": samples, **keys}) for samples in noise]

    async def start(self):
        await self.client.subscribe(f"{self.inbox}.*", cb=self.reply)

    async def reply(self, message):
        number = int(message.subject.rpartition(".")[2])
        headers = message.headers or {}
        self.replies[number] += 1
        self.slowest = max(self.slowest, time.monotonic() - self.sent[number])
        if headers.get("Status") == "503":
            self.codes["no responders"] += 1
        elif "Nats-Service-Error-Code" in headers:
            self.codes[msgpack.unpackb(message.data)["code"]] += 1
        else:
            self.codes["prediction"] += 1

    async def run(self, seconds, meanwhile):
        """Sends for so long, and for as long as `meanwhile` runs. What is due is sent together."""
        headers = {"Content-Type": "application/msgpack"}
        begun, number = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds or not meanwhile.done():
            while number < passed * RATE:
                payload = self.payloads[number % len(self.payloads)]
                self.sent[number] = time.monotonic()
                ids = {**headers, "Nats-Msg-Id": str(number)}
                reply = f"{self.inbox}.{number}"
                await self.client.publish("iq.frames.rx", payload, reply=reply, headers=ids)
                number += 1
            await asyncio.sleep(0.002)
        self.seconds = time.monotonic() - begun
        deadline = time.monotonic() + 15
        while len(self.replies) < number and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


async def restart_in_turn(world, seconds):
    """Gives how many restarts there were."""
    begun, times = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        daemon = world.daemons[times % len(world.daemons)]
        daemon.kill("TERM")
        if code := await daemon.ended():
            raise Failed(f"{daemon.name} ended with {code}")
        daemon.start()
        await world.ready()
        times += 1
        await asyncio.sleep(0.5)
    return times


@fault("500 requests a second while three daemons are restarted in turn by SIGTERM", mode="core", quick=True)
async def core_rolling(sferic, quick):
    if not MODEL.is_dir():
        raise Skipped(f"{MODEL} is missing")
    async with World(sferic, [MODEL], NATS__MODE="core") as world:
        for _ in range(3):
            await world.daemon(wait=False)
        await world.ready()
        requests = Requests(world.client)
        await requests.start()
        seconds = 10 if quick else 20
        harming = asyncio.create_task(restart_in_turn(world, seconds))
        sending = asyncio.create_task(requests.run(seconds, harming))
        try:
            times, _ = await asyncio.gather(harming, sending)
        finally:
            for task in (harming, sending):
                task.cancel()
        return world.judged(count(requests, times))


def count(requests, times):
    """Every request has to have one prediction."""
    number, replies, codes = len(requests.sent), requests.replies, requests.codes
    lost = number - len(replies)
    duplicated = sum(count > 1 for count in replies.values())
    report = Report(number, len(replies) - duplicated, lost, duplicated, 0)
    for code, times_seen in codes.items():
        if code != "prediction":
            report.wrong(f"{times_seen} {code}", times_seen)
    rate = number / requests.seconds
    slowest = f"slowest reply after {requests.slowest * 1000:.0f} ms"
    report.note(f"{times} restarts, {rate:.0f} requests/s, {slowest}")
    return report
