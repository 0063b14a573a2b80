"""Streams that are full, deleted, purged or otherwise than the daemon made them."""

import asyncio
import urllib.request

from harness import DURABLE, FRAMES, OUTCOMES, World
from process import Failed, free_port, until
from registry import SHORT_WINDOW, fault, while_publishing
from report import note_failures, note_ledgers, of


async def held(world, stream=OUTCOMES):
    return (await world.api(f"STREAM.INFO.{stream}"))["state"]["messages"]


@fault("two sources count their frames alike", quick=True)
async def equal_ids(sferic, quick):
    async with World(sferic) as world:
        await world.daemon()
        await asyncio.gather(world.publish(300, "north"), world.publish(300, "south"))
        await world.settled()
        return await world.report(failures=())


async def with_deleted_outcomes(sferic, is_watched):
    async with World(sferic, is_watched=is_watched) as world:
        daemon = await world.daemon()
        await world.publish(100)
        await world.settled()
        first = await world.report(failures=())
        if not first.is_clean:
            return first
        world.sent.clear()
        daemon.kill("STOP")
        await world.api(f"STREAM.DELETE.{OUTCOMES}")
        daemon.kill("CONT")
        await world.publish(500, first=1000)
        await world.settled()
        return await world.report(failures=())


@fault("the stream of outcomes is deleted and made again", quick=True)
async def outcomes_deleted(sferic, quick):
    return await with_deleted_outcomes(sferic, False)


@fault("the stream of outcomes is deleted, while a plain subscriber listens to outcomes", quick=True)
async def outcomes_deleted_watched(sferic, quick):
    return await with_deleted_outcomes(sferic, True)


@fault("the stream of frames is full")
async def store_full(sferic, quick):
    async with World(sferic, JETSTREAM__MAX_BYTES="1MiB") as world:
        daemon = await world.daemon()
        daemon.kill("STOP")
        # 4 KiB each, so that their outcomes find room in the other stream.
        sending = asyncio.create_task(world.publish(600, length=2048))
        await asyncio.sleep(10)
        if sending.done():
            raise Failed("600 frames of 4 KiB found room in 1 MiB")
        waiting = await held(world, FRAMES)
        daemon.kill("CONT")
        await sending
        await world.settled()
        report = await world.report()
        report.note(f"full with {waiting}")
        return report


async def without_room(world, seconds):
    """Lets the stream of outcomes take nothing more for this long; gives how many it took nevertheless."""
    info = await world.api(f"STREAM.INFO.{OUTCOMES}")
    config = info["config"]
    limits = {"discard": "new", "max_bytes": info["state"]["bytes"] + 1000}
    await world.api(f"STREAM.UPDATE.{OUTCOMES}", **{**config, **limits})
    before = await held(world)
    await asyncio.sleep(seconds)
    taken, waiting = await held(world) - before, (await world.consumer())["num_ack_pending"]
    await world.api(f"STREAM.UPDATE.{OUTCOMES}", **config)
    if taken > 10 or not waiting:
        raise Failed(f"the stream took {taken} outcomes though it was full, and {waiting} frames waited")
    return waiting


async def with_full_outcomes(sferic, seconds, **settings):
    async with World(sferic, **settings) as world:
        await world.daemon()
        waiting = []

        async def harm():
            await asyncio.sleep(1)
            waiting.append(await without_room(world, seconds))
            await asyncio.sleep(1)

        report = await while_publishing(world, 2000, harm, pause=0.01)
        report.note(f"refused for {seconds} s while {waiting[0]} frames waited for an ack")
        return report


@fault("the stream of outcomes is full and takes none for 20 s")
async def outcomes_full(sferic, quick):
    return await with_full_outcomes(sferic, 20)


@fault("the stream of outcomes is full and takes none for a minute")
async def outcomes_full_long(sferic, quick):
    return await with_full_outcomes(sferic, 60)


async def with_other_stream(sferic, subjects):
    """Replaces the stream of outcomes by another for some seconds."""
    async with World(sferic, is_watched=False) as world:
        daemon = await world.daemon()
        await world.publish(100)
        await world.settled()
        world.sent.clear()

        async def harm():
            daemon.kill("STOP")
            await world.api(f"STREAM.DELETE.{OUTCOMES}")
            await world.api("STREAM.CREATE.OTHER", name="OTHER", subjects=subjects, storage="memory")
            daemon.kill("CONT")
            await asyncio.sleep(7)
            streams = (await world.api("STREAM.NAMES"))["streams"]
            world.elsewhere = await held(world, "OTHER")
            await world.api("STREAM.DELETE.OTHER")
            if OUTCOMES in streams:
                raise Failed(f"{OUTCOMES} was made beside a stream with its subjects")
            await asyncio.sleep(1)

        sending = asyncio.create_task(world.publish(500, first=1000, pause=0.01))
        try:
            await harm()
            await sending
        finally:
            sending.cancel()
        # Until an outcome finds no stream, nobody has a reason to make it.
        await world.publish(1, first=5000)
        await until("the stream of outcomes is there again", lambda: world.api(f"STREAM.INFO.{OUTCOMES}"), 60)
        await world.settled()
        report = await world.report()
        report.note(f"the other stream took {world.elsewhere} outcomes")
        return report


@fault("the stream of outcomes is deleted and cannot be made for 7 s: a subject of it is taken", quick=True)
async def outcomes_missing(sferic, quick):
    return await with_other_stream(sferic, ["iq.predictions.nobody", "iq.failures.nobody"])


@fault("another stream takes the subjects of outcomes for 7 s, and their outcomes with it", quick=True)
async def outcomes_elsewhere(sferic, quick):
    return await with_other_stream(sferic, ["iq.predictions.>", "iq.failures.>"])


def lost_to_retention(port):
    """What a daemon's /metrics says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    lost = [line for line in lines if line.startswith("sferic_frames_lost_total{") and "retention" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in lost)


async def with_purge(sferic, behind):
    """Purges 50 unread frames while two daemons stand still; `behind`: how many more wait behind them."""
    async with World(sferic) as world:
        ports = [free_port(), free_port()]
        for port in ports:
            await world.daemon(wait=False, HTTP__LISTEN=f"127.0.0.1:{port}")
        await world.ready()
        await world.publish(100)
        await world.settled()
        for daemon in world.daemons:
            daemon.kill("STOP")
        # A request for frames ends after 10 s; what comes before that is on its way to a daemon.
        await asyncio.sleep(11)
        await world.publish(50, first=1000)
        await world.publish(behind, first=2000)
        consumer = await world.consumer()
        if consumer["num_pending"] != 50 + behind:
            raise Failed(f"{consumer['num_pending']} frames are unread, not {50 + behind}")
        first = consumer["delivered"]["stream_seq"] + 1
        await world.api(f"STREAM.PURGE.{FRAMES}", seq=first + 50)
        for seq in range(first, first + 50):
            del world.sent[seq]
        for daemon in world.daemons:
            daemon.kill("CONT")
        # The daemons look once a second.
        await asyncio.sleep(3)
        await world.publish(100, first=3000)
        await world.settled()
        report = await world.report(failures=())
        ledger = sum(health["ledger"]["lost"] for health in await world.healths(2))
        metric = sum([await asyncio.to_thread(lost_to_retention, port) for port in ports])
        report.note(f"50 were purged: the ledgers count {ledger} as lost, the metrics {metric}")
        report.unexpected += (ledger != 50) + (metric != 50)
        return world.judged(report)


@fault("an admin purges 50 frames that two daemons have not read", quick=True)
async def retention(sferic, quick):
    return await with_purge(sferic, 0)


@fault("an admin purges 50 frames that two daemons have not read, and 100 more wait behind them")
async def retention_backlog(sferic, quick):
    return await with_purge(sferic, 100)


@fault("a consumer is made again while its daemon stands still; its frames are older than the window")
async def consumer_remade(sferic, quick):
    async with World(sferic, **SHORT_WINDOW) as world:
        daemon = await world.daemon()
        await world.publish(2000)
        await world.settled()
        config = (await world.consumer())["config"]
        await asyncio.sleep(26)
        daemon.kill("STOP")
        # Its request ends meanwhile, so that nobody tells it.
        await asyncio.sleep(11)
        await world.api(f"CONSUMER.DELETE.{FRAMES}.{DURABLE}")
        await world.api(f"CONSUMER.DURABLE.CREATE.{FRAMES}.{DURABLE}", stream_name=FRAMES, config=config)
        daemon.kill("CONT")
        await world.ready()
        await asyncio.sleep(2)
        await world.settled()
        report = await world.report(failures=())
        if "duplicates_dropped 2000" not in report.notes:
            report.wrong("not every frame came again")
        return world.judged(report)


@fault("the stream of frames is deleted and made again, from 1, while its daemon stands still", quick=True)
async def frames_remade(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()
        await world.publish(100)
        await world.settled()
        stream = (await world.api(f"STREAM.INFO.{FRAMES}"))["config"]
        consumer = (await world.consumer())["config"]
        before = len(await world.outcomes())
        world.sent.clear()
        daemon.kill("STOP")
        await world.api(f"STREAM.DELETE.{FRAMES}")
        await world.api(f"STREAM.CREATE.{FRAMES}", **stream)
        await world.api(f"CONSUMER.DURABLE.CREATE.{FRAMES}.{DURABLE}", stream_name=FRAMES, config=consumer)
        await world.publish(150, first=1000)
        await asyncio.sleep(11)
        daemon.kill("CONT")
        await world.ready()
        await world.settled()
        outcomes = (await world.outcomes())[before:]
        # Some have a longer id, because the shorter one was another frame's.
        ids = [(":".join(id.split(":")[:2]), subject, body) for id, subject, body in outcomes]
        made = of(world.sent, world.clashes, ids)
        note_failures(made, ids, ())
        await note_ledgers(made, world)
        return world.judged(made)
