"""nats-server and daemons on streams, frames for them, and the count of what became of each."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "watch"))
from programs import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 120
HEADERS = {"Content-Type": "application/msgpack"}


class Failed(Exception):
    """The fault could not be carried out."""


async def until(what, check, seconds=PATIENCE):
    """Waits until `check` gives something true; an error of the connection counts as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := await check():
                return found
        except (nats.errors.Error, OSError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s")


class Process:
    """A program that is ended with the world it belongs to."""

    def __init__(self, log, *command, **environment):
        self.command, self.environment, self.log = command, environment, log
        self.start()

    def start(self):
        environment = {**os.environ, **self.environment}
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(self.command, env=environment, **streams)

    def kill(self, name="KILL"):
        if self.process.poll() is None:
            os.kill(self.process.pid, getattr(signal, f"SIG{name}"))

    def wait(self, seconds=60):
        return self.process.wait(seconds)

    def restart(self):
        self.kill()
        self.wait()
        self.start()

    def end(self):
        self.kill("CONT")
        self.kill()
        self.wait()


@dataclass
class Report:
    """What became of the frames that the stream has acknowledged to their sender."""

    sent: int
    ok: int
    lost: int
    duplicated: int
    unexpected: int
    notes: list = field(default_factory=list)

    @property
    def is_clean(self):
        return self.lost == self.duplicated == self.unexpected == 0 and self.ok == self.sent


class World:
    """A server with a store, daemons and a client; everything ends with it."""

    def __init__(self, sferic, models="degrees", default="degrees", **settings):
        self.folder = Path(tempfile.mkdtemp(prefix="sferic-faults-"))
        self.sferic, self.port, self.sent, self.daemons = sferic, free_port(), {}, []
        self.log = open(self.folder / "log", "w+")
        repository = self.folder / "models"
        repository.mkdir()
        for model in models.split(","):
            (repository / model).symlink_to(ROOT / "tests/models" / model)
        self.settings = {
            "NATS__MODE": "jetstream",
            "MODELS__REPOSITORY": str(repository),
            "MODELS__DEFAULT": default,
            "JETSTREAM__MAX_BYTES": "256MiB",
            "JETSTREAM__ACK_WAIT": "2s",
            "HTTP__LISTEN": "",
            **settings,
        }
        self.server = None

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self):
        store = self.folder / "store"
        self.server = Process(
            self.log, str(ROOT / ".tools/bin/nats-server"), "-a", "127.0.0.1", "-p", str(self.port),
            "-js", "-sd", str(store),
        )
        self.client = await until("nats-server", self.connect)
        self.js = self.client.jetstream(timeout=10)
        return self

    async def connect(self):
        return await nats.connect(
            self.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet, connect_timeout=2
        )

    async def __aexit__(self, *_):
        for process in [*self.daemons, self.server]:
            process.end()
        try:
            await asyncio.wait_for(self.client.close(), 5)
        except (nats.errors.Error, asyncio.TimeoutError):
            pass
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def said(self):
        self.log.flush()
        return (self.folder / "log").read_text()[-3000:]

    async def daemon(self, wait=True, **more):
        environment = {f"SFERIC__{key}": value for key, value in {**self.settings, **more}.items()}
        daemon = Process(self.log, str(self.sferic), "run", "--url", self.url, **environment)
        self.daemons.append(daemon)
        if wait:
            await until("the daemon", self.is_ready)
        return daemon

    async def is_ready(self):
        reply = await self.client.request("sferic.health", b"", timeout=1)
        return json.loads(reply.data)["status"] == "ok"

    async def publish(self, count, source="rx", first=0, pause=0.0, **keys):
        """Puts frames into the stream, each again until the stream has acknowledged it."""
        for number in range(first, first + count):
            body = {"frame_id": str(number), "datatype": "ci8", "samples": bytes([64, 32] * 128), **keys}
            headers = {**HEADERS, "Nats-Msg-Id": f"{source}-{number}"}
            while True:
                try:
                    ack = await self.js.publish(
                        f"iq.frames.{source}", msgpack.packb(body), headers=headers, timeout=2
                    )
                    break
                except (nats.errors.Error, asyncio.TimeoutError, OSError):
                    await asyncio.sleep(0.1)
            self.sent[ack.seq] = (source, str(number))
            if pause:
                await asyncio.sleep(pause)

    async def settled(self, seconds=PATIENCE):
        async def check():
            info = await self.js.consumer_info("IQ_FRAMES", "sferic")
            return info.num_pending == 0 and info.num_ack_pending == 0

        await until("every frame acknowledged", check, seconds)

    async def outcomes(self):
        """Every outcome in its stream: (message id, subject, body)."""
        info = await self.js.stream_info("IQ_OUTCOMES")
        found = []
        if info.state.messages == 0:
            return found
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        subscription = await self.js.subscribe("", stream="IQ_OUTCOMES", ordered_consumer=True, config=config)
        while len(found) < info.state.messages:
            message = await subscription.next_msg(timeout=10)
            body = msgpack.unpackb(message.data)
            found.append((message.headers["Nats-Msg-Id"], message.subject, body))
        await subscription.unsubscribe()
        return found

    async def report(self):
        outcomes = await self.outcomes()
        counts = Counter(id for id, _, _ in outcomes)
        expected = {f"IQ_FRAMES:{seq}": frame for seq, frame in self.sent.items()}
        ok = lost = duplicated = 0
        for id in expected:
            ok += counts[id] == 1
            lost += counts[id] == 0
            duplicated += counts[id] > 1
        report = Report(len(expected), ok, lost, duplicated, sum(id not in expected for id in counts))
        wrong = [
            id for id, subject, body in outcomes
            if id in expected and (subject.split(".", 2)[2], body["frame_id"]) != expected[id]
        ]
        report.unexpected += len(wrong)
        failures = Counter(body["code"] for _, subject, body in outcomes if subject.startswith("iq.failures."))
        if failures:
            report.notes.append(", ".join(f"{count} {code}" for code, count in sorted(failures.items())))
        try:
            reply = await self.client.request("sferic.health", b"", timeout=2)
            ledger = json.loads(reply.data)["ledger"]
            ended = sum(count for key, count in ledger.items() if key != "received")
            if ledger["received"] != ended:
                report.unexpected += 1
                report.notes.append(f"the ledger does not balance: {ledger}")
            for key in ("redelivered", "duplicates_dropped", "lost"):
                if ledger[key]:
                    report.notes.append(f"{key} {ledger[key]}")
        except nats.errors.Error:
            report.notes.append("no daemon")
        return report


async def quiet(_):
    pass
