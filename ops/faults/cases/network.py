"""A network between daemon and server that is slow, breaks, or swallows everything."""

import asyncio
import random
import time
from urllib.parse import urlsplit

from harness import MODELS, World
from process import Failed, free_port
from proxy import Proxy
from registry import PAST_WINDOW, SHORT_WINDOW, fault, while_publishing


async def through_proxy(sferic, frames, harm):
    """`harm` gets the proxy and has to say in words what it did."""
    async with World(sferic) as world, Proxy(urlsplit(world.urls[0]).port) as proxy:
        await world.daemon(url=proxy.url)
        done = []

        async def harming():
            done.append(await harm(proxy))
            proxy.delay = None
            await world.ready()
            await asyncio.sleep(1)

        report = await while_publishing(world, frames, harming)
        report.note(done[0])
        return report


@fault("each piece between daemon and server waits 50 to 500 ms", quick=True)
async def proxy_delays(sferic, quick):
    seconds = 8 if quick else 40

    async def harm(proxy):
        proxy.delay = (0.05, 0.5)
        await asyncio.sleep(seconds)
        if proxy.delayed < seconds:
            raise Failed(f"{proxy.delayed} pieces waited in {seconds} s: nothing passed")
        return f"{proxy.delayed} pieces waited in {seconds} s, {proxy.connections} connections"

    return await through_proxy(sferic, 500 if quick else 3000, harm)


@fault("the connection is cut within a message about every second", quick=True)
async def proxy_cuts(sferic, quick):
    times = 6 if quick else 30

    async def harm(proxy):
        for _ in range(times):
            proxy.cut()
            await asyncio.sleep(random.uniform(0.7, 1.3))
        if proxy.cuts < times / 2:
            raise Failed(f"{proxy.cuts} cuts of {times}: nothing passed")
        return f"{proxy.cuts} cuts"

    return await through_proxy(sferic, 500 if quick else 3000, harm)


@fault("the connection looks alive and swallows everything for 3 to 8 s, then closes", quick=True)
async def proxy_drops(sferic, quick):
    times = 1 if quick else 5

    async def harm(proxy):
        for _ in range(times):
            await asyncio.sleep(random.uniform(0.7, 1.5))
            proxy.swallow()
            await asyncio.sleep(random.uniform(3, 8))
            proxy.close()
        if not proxy.swallowed:
            raise Failed("nothing was swallowed")
        return f"{times} times, {proxy.swallowed} bytes swallowed"

    return await through_proxy(sferic, 500 if quick else 3000, harm)


@fault("frames that no client can read, among good ones and 20 ms away", quick=True)
async def proxy_unreadable(sferic, quick):
    async with World(sferic) as world, Proxy(urlsplit(world.urls[0]).port) as proxy:
        daemon = await world.daemon(url=proxy.url)
        proxy.delay = (0.01, 0.01)
        daemon.kill("STOP")
        await world.publish(400)
        for number in (0, 1):
            await world.put_unreadable("odd", number)
        await world.publish(400, first=400)
        began = time.monotonic()
        daemon.kill("CONT")
        await world.settled()
        report = await world.report(failures=("invalid_frame",))
        report.note(f"{time.monotonic() - began:.0f} s, {proxy.connections} connections")
        return report


@fault("one of two daemons is cut off, with frames in work, for longer than the duplicate window")
async def proxy_away(sferic, quick):
    async with World(sferic, (MODELS / "degrees", MODELS / "slow"), **SHORT_WINDOW) as world:
        port = urlsplit(world.urls[0]).port
        async with Proxy(port) as proxy:
            await world.daemon(url=proxy.url)
            await world.publish(8, model="slow", timeout_ms=60_000, cache_enabled=False)
            await asyncio.sleep(0.3)
            proxy.target = free_port()
            proxy.close()
            # This one ends what the other has in work.
            await world.daemon(wait=False)
            await world.publish(300, first=8)
            await world.settled()
            await asyncio.sleep(PAST_WINDOW)
            proxy.target = port
            await world.ready()
            await asyncio.sleep(5)
            await world.settled()
            return await world.report(failures=("internal",))
