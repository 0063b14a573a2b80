"""A nats-server and daemons on streams, frames for them, and the count of what became of each."""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import msgpack
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

import frames
import report
from process import PASSING, PATIENCE, Failed, Process, Refused, free_port, until

ROOT = Path(__file__).resolve().parent.parent.parent
NATS_SERVER = ROOT / ".tools/bin/nats-server"
FRAMES, OUTCOMES, DURABLE = "IQ_FRAMES", "IQ_OUTCOMES", "sferic"
MODELS = ROOT / "tests/models"


class World:
    """A server with a store, daemons and a client; everything ends with it."""

    # Also where everything is ok.
    keeps_logs = False

    def __init__(self, sferic, models=(MODELS / "degrees",), is_watched=True, **settings):
        """`is_watched`: a plain subscriber sees the outcomes too; a missing stream answers otherwise then."""
        self.folder = Path(tempfile.mkdtemp(prefix="sferic-faults-"))
        self.sferic, self.client = sferic, None
        self.servers, self.daemons, self.sent, self.clashes, self.seen = [], [], {}, [], Counter()
        self.is_watched, self.is_clean = is_watched, True
        repository = self.folder / "models"
        repository.mkdir()
        for model in models:
            (repository / model.name).symlink_to(model)
        self.settings = {
            "NATS__MODE": "jetstream",
            "MODELS__REPOSITORY": str(repository),
            "MODELS__DEFAULT": models[0].name,
            "JETSTREAM__MAX_BYTES": "256MiB",
            "JETSTREAM__ACK_WAIT": "2s",
            "HTTP__LISTEN": "",
            **settings,
        }

    async def start_servers(self):
        port = free_port()
        self.urls = [f"nats://127.0.0.1:{port}"]
        store = self.folder / "store"
        command = [NATS_SERVER, "-a", "127.0.0.1", "-p", port, "-js", "-sd", store]
        self.servers = [Process("nats-server", self.folder / "nats-server.log", *map(str, command))]

    @property
    def server(self):
        return self.servers[0]

    async def __aenter__(self):
        try:
            await self.start_servers()
            self.client = await until("nats-server", self.connect)
            self.js = self.client.jetstream(timeout=10)
            for kind in ("predictions", "failures") if self.is_watched else ():
                await self.client.subscribe(f"iq.{kind}.>", cb=self.see)
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return self

    async def connect(self):
        options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1, "connect_timeout": 2}
        connecting = nats.connect(self.urls, error_cb=quiet, **options)
        return await asyncio.wait_for(connecting, 10)

    async def see(self, message):
        """Keeps the ids of outcomes that pass by, whether or not their stream stores them."""
        self.seen[(message.headers or {}).get("Nats-Msg-Id")] += 1

    async def __aexit__(self, kind, error, _):
        for process in [*self.daemons, *self.servers]:
            process.end()
        if self.client:
            try:
                await asyncio.wait_for(self.client.close(), 5)
            except PASSING:
                pass
        if self.is_clean and kind is None and not World.keeps_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for name in ("store", "models"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        print(f"    logs are kept in {self.folder}", file=sys.stderr, flush=True)

    def said(self):
        """The ends of all logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    async def daemon(self, wait=True, url=None, environment=None, **more):
        settings = {f"SFERIC__{key}": value for key, value in {**self.settings, **more}.items()}
        name = f"daemon-{len(self.daemons) + 1}"
        command = [str(self.sferic), "run", "--url", url or ",".join(self.urls)]
        daemon = Process(name, self.folder / f"{name}.log", *command, **settings, **(environment or {}))
        self.daemons.append(daemon)
        if wait:
            await self.ready()
        return daemon

    async def ready(self, seconds=PATIENCE):
        """Waits until every daemon is ready that runs."""
        await until("the daemons", self.is_ready, seconds)

    async def is_ready(self):
        self.check_alive()
        alive = sum(daemon.is_alive and not daemon.is_stopped for daemon in self.daemons)
        healths = await self.healths(alive)
        return len(healths) == alive and all(health["status"] == "ok" for health in healths)

    def check_alive(self):
        for process in [*self.daemons, *self.servers]:
            process.check_alive()

    async def healths(self, daemons):
        """The health of as many daemons, or of those that answer within a second or two."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        found, deadline = [], time.monotonic() + 2
        try:
            await self.client.publish("$SRV.PING.sferic", reply=inbox)
            while len(found) < daemons and time.monotonic() < deadline:
                message = await subscription.next_msg(timeout=1)
                if not message.data:
                    break
                id = json.loads(message.data)["id"]
                reply = await self.client.request(f"sferic.health.{id}", b"", timeout=2)
                found.append(json.loads(reply.data))
        except nats.errors.TimeoutError:
            pass
        finally:
            await subscription.unsubscribe()
        return found

    async def api(self, subject, timeout=5, **body):
        """A request to JetStream."""
        payload = json.dumps(body).encode() if body else b""
        reply = await self.client.request(f"$JS.API.{subject}", payload, timeout=timeout)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise Refused(f"{subject}: {answer['error'].get('description', answer['error'])}")
        return answer

    async def publish(self, count, source="rx", first=0, pause=0.0, meanwhile=None, **keys):
        """Puts frames into the stream, `count` at least and more while the task `meanwhile` runs."""
        number = first
        while number < first + count or meanwhile and not meanwhile.done():
            await self.put(source, number, **keys)
            number += 1
            if pause:
                await asyncio.sleep(pause)

    async def put(self, source, number, **keys):
        """Puts a frame into the stream, again until the stream has acknowledged it; gives its sequence."""
        payload = msgpack.packb(frames.body(number, **keys))
        headers = {**frames.HEADERS, "Nats-Msg-Id": f"{source}-{number}"}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                ack = await self.js.publish(f"iq.frames.{source}", payload, headers=headers, timeout=2)
            except PASSING:
                await asyncio.sleep(0.1)
                continue
            sent = frames.Sent(source, number)
            if ack.seq in self.sent:
                self.clashes.append(self.sent[ack.seq])
            self.sent[ack.seq] = sent
            return ack.seq
        raise Failed(f"no frame was taken within {PATIENCE} s")

    async def put_unreadable(self, source, number):
        """Puts a frame into the stream whose headers end the daemon's client."""
        inbox = self.client.new_inbox()
        acks = await self.client.subscribe(inbox)
        await self.client.flush()
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(self.urls[0]).port)
        try:
            writer.write(b'CONNECT {"verbose":false,"headers":true}\r\nPING\r\n')
            # What comes before the server has taken the connection in may be lost.
            await asyncio.wait_for(reader.readuntil(b"PONG\r\n"), PATIENCE)
            payload, head = msgpack.packb(frames.body(number)), b"NATS/1.0\r\nNo colon\r\n\r\n"
            line = f"HPUB iq.frames.{source} {inbox} {len(head)} {len(head) + len(payload)}\r\n"
            writer.write(line.encode() + head + payload + b"\r\n")
            ack = json.loads((await acks.next_msg(timeout=PATIENCE)).data)
            self.sent[ack["seq"]] = frames.Sent(source, number)
        finally:
            writer.close()
            await acks.unsubscribe()

    async def consumer(self):
        return await self.api(f"CONSUMER.INFO.{FRAMES}.{DURABLE}")

    async def settled(self, seconds=PATIENCE):
        """Waits until every frame is acknowledged, and is still a while later."""
        last = {}

        async def check():
            self.check_alive()
            for _ in range(3):
                last.update(await self.consumer())
                # A server whose copy of the stream ends early knows of no frames behind that end.
                is_behind = last["ack_floor"]["stream_seq"] < max(self.sent, default=0)
                if is_behind or last["num_pending"] or last["num_ack_pending"]:
                    return False
                await asyncio.sleep(0.2)
            return True

        try:
            await until("every frame acknowledged", check, seconds, pause=0.2)
        except Failed as error:
            keys = ("num_pending", "num_ack_pending", "num_waiting", "delivered", "ack_floor")
            state = {key: last.get(key) for key in keys}
            raise Failed(f"{error}; the consumer: {json.dumps(state)}") from None

    async def outcomes(self):
        """Every outcome in its stream: (message id, subject, body)."""
        async def check():
            return (await self.read_outcomes(),)

        return (await until("the outcomes", check, 60, pause=1))[0]

    async def read_outcomes(self):
        info = await self.api(f"STREAM.INFO.{OUTCOMES}")
        found = []
        if info["state"]["messages"] == 0:
            return found
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        subscription = await self.js.subscribe("", stream=OUTCOMES, ordered_consumer=True, config=config)
        try:
            while len(found) < info["state"]["messages"]:
                message = await subscription.next_msg(timeout=10)
                found.append((message.headers["Nats-Msg-Id"], message.subject, msgpack.unpackb(message.data)))
        finally:
            await subscription.unsubscribe()
        return found

    async def report(self, failures=report.LATE, may_nats_lose=False):
        """Counts; `failures` are the codes that are allowed. What NATS may lose the ledger has to count."""
        outcomes = await self.outcomes()
        made = report.of(self.sent, self.clashes, outcomes)
        report.note_failures(made, outcomes, failures)
        await report.note_lost(made, self, outcomes)
        missing = made.lost if may_nats_lose else 0
        counted = (await report.note_ledgers(made, self, missing))["lost"]
        if may_nats_lose and counted == made.lost:
            made.excused = counted
        report.note_ends(made, self)
        return self.judged(made)

    def judged(self, made):
        """Keeps the logs where something is wrong."""
        if not made.is_clean:
            self.is_clean = False
            made.note(f"logs in {self.folder}")
        return made


async def quiet(_):
    pass
