"""Daemons and a server that are killed, stopped and restarted."""

import asyncio
import json
import random

from harness import FRAMES, MODELS, OUTCOMES, World
from process import Failed
from registry import PAST_WINDOW, SHORT_WINDOW, fault, while_publishing
from report import LATE


@fault("the daemon is killed again and again", quick=True)
async def daemon_killed(sferic, quick):
    frames, times = (1500, 4) if quick else (10_000, 20)
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def harm():
            for _ in range(times):
                await asyncio.sleep(random.uniform(0.2, 0.8))
                await daemon.restart()
                await world.ready()

        return await while_publishing(world, frames, harm)


@fault("the server is killed on its store again and again", quick=True)
async def server_killed(sferic, quick):
    frames, times = (1500, 3) if quick else (10_000, 10)
    async with World(sferic) as world:
        await world.daemon()

        async def harm():
            for _ in range(times):
                await asyncio.sleep(random.uniform(0.3, 1))
                await world.server.restart()
                await world.ready()

        return await while_publishing(world, frames, harm)


@fault("daemon and server are killed at the same time, five times")
async def both_killed(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def harm():
            for _ in range(5):
                await asyncio.sleep(random.uniform(0.5, 1))
                daemon.kill()
                await world.server.restart()
                await daemon.ended()
                daemon.start()
                await world.ready()

        return await while_publishing(world, 5000, harm)


async def outcomes_without_ack(world):
    """How many frames have an outcome and are not acknowledged."""
    consumer = await world.consumer()
    acknowledged = consumer["delivered"]["stream_seq"] - consumer["num_ack_pending"]
    outcomes = (await world.api(f"STREAM.INFO.{OUTCOMES}"))["state"]["messages"]
    return outcomes - acknowledged


@fault("the daemon is killed between an outcome and its ack; then the circuit is forced open", quick=True)
async def killed_before_ack(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def attempt(first):
            """Stops the daemon at the first outcome; what it has sent before is at the server."""
            seen = asyncio.Event()

            async def outcome(_):
                daemon.kill("STOP")
                seen.set()

            subscription = await world.client.subscribe("iq.predictions.>", cb=outcome)
            sending = asyncio.create_task(world.publish(300, first=first))
            await asyncio.wait_for(seen.wait(), 60)
            await subscription.unsubscribe()
            await sending
            return await outcomes_without_ack(world)

        for number in range(20):
            if caught := await attempt(300 * number):
                break
            daemon.kill("CONT")
            await world.settled()
        else:
            raise Failed("20 times every outcome was acknowledged before the daemon stood still")
        await daemon.restart()
        await world.ready()
        await world.client.request("sferic.breaker", json.dumps({"force": "open"}).encode(), timeout=5)
        await asyncio.sleep(3)
        await world.client.request("sferic.breaker", json.dumps({"force": "reset"}).encode(), timeout=5)
        await world.settled()
        report = await world.report()
        report.note(f"{caught} frames had an outcome and no ack")
        return report


@fault("the daemon stands still for 20 s, twice")
async def daemon_stopped(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def harm():
            for _ in range(2):
                await asyncio.sleep(0.5)
                daemon.kill("STOP")
                await asyncio.sleep(20)
                daemon.kill("CONT")

        return await while_publishing(world, 2000, harm, pause=0.01)


@fault("one of two daemons stands still for longer than the duplicate window")
async def daemon_stopped_past_window(sferic, quick):
    async with World(sferic, (MODELS / "degrees", MODELS / "slow"), **SHORT_WINDOW) as world:
        daemon = await world.daemon()
        await world.publish(4, model="slow", timeout_ms=60_000, cache_enabled=False)
        await asyncio.sleep(0.3)
        daemon.kill("STOP")
        # What the first one has in work is ended by the second.
        await world.daemon()
        await world.publish(2000, first=4)
        await world.settled()
        # Less than the frames' time, else they would not be answered at all.
        await asyncio.sleep(PAST_WINDOW)
        daemon.kill("CONT")
        await world.ready()
        await asyncio.sleep(5)
        await world.settled()
        report = await world.report(failures=("internal",))
        dropped = sum(health["ledger"]["duplicates_dropped"] for health in await world.healths(2))
        report.note(f"{dropped} frames came to both")
        if not dropped:
            raise Failed("the daemon had no frame in work when it was stopped")
        return report


@fault("the server stands still for 20 s")
async def server_stopped(sferic, quick):
    async with World(sferic) as world:
        await world.daemon()

        async def harm():
            await asyncio.sleep(0.5)
            world.server.kill("STOP")
            await asyncio.sleep(20)
            world.server.kill("CONT")
            await world.ready()
            await asyncio.sleep(1)

        return await while_publishing(world, 2000, harm, pause=0.005)


@fault("the server is killed under load, and away for longer than the duplicate window")
async def server_away(sferic, quick):
    async with World(sferic, **SHORT_WINDOW) as world:
        await world.daemon()
        sending = [asyncio.create_task(world.publish(100_000, source)) for source in ("north", "south")]
        await asyncio.sleep(3)
        world.server.kill()
        await world.server.ended()
        for task in sending:
            task.cancel()
        await asyncio.sleep(PAST_WINDOW)
        world.server.start()
        await world.ready()
        await world.settled()
        await asyncio.sleep(3)
        await world.settled()
        return await world.report(failures=(*LATE, "internal"))


@fault("three daemons are restarted in turn", quick=True)
async def rolling_restart(sferic, quick):
    async with World(sferic) as world:
        for _ in range(3):
            await world.daemon(wait=False)
        await world.ready()

        async def harm():
            for daemon in world.daemons:
                daemon.kill("TERM")
                if code := await daemon.ended():
                    raise Failed(f"{daemon.name} ended with {code}")
                daemon.start()
                await world.ready()

        return await while_publishing(world, 2000 if quick else 10_000, harm, failures=())


@fault("frames wait for a minute without a daemon")
async def absent(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()
        daemon.kill("TERM")
        await daemon.ended()
        await world.publish(5000)
        await asyncio.sleep(60)
        if (await world.api(f"STREAM.INFO.{FRAMES}"))["state"]["messages"] != 5000:
            raise Failed("the stream does not hold the 5000 frames")
        daemon.start()
        await world.settled()
        return await world.report(failures=())
