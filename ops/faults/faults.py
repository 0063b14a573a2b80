"""Does harm to daemons and nats-servers on streams, and counts what became of each frame.

    ops/faults/run                  every fault
    ops/faults/run --quick          those that take seconds, with fewer frames
    ops/faults/run NAME…            only these
    ops/faults/run --sferic PATH    takes this program instead of building one

A line a fault: frames the stream had acknowledged to their sender, and how many of them have one outcome (ok),
none (lost), several (duplicated), or one of another frame (unexpected). Exit code 1 where not all are ok.
Loopback only, and it ends by itself.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path

from harness import ROOT, Failed, World, until

FAULTS = {}


def fault(text, quick=False):
    def known(function):
        FAULTS[function.__name__] = (function, text, quick)
        return function

    return known


async def while_publishing(world, frames, harm, **keys):
    """Harms while frames are published, then waits until all are acknowledged."""
    sending = asyncio.create_task(world.publish(frames, pause=0.0005, **keys))
    await harm()
    await sending
    await world.settled()
    return await world.report()


@fault("the daemon is killed again and again", quick=True)
async def daemon_killed(sferic, quick):
    frames, times = (1500, 4) if quick else (10_000, 20)
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def harm():
            for _ in range(times):
                await asyncio.sleep(random.uniform(0.2, 0.8))
                daemon.restart()
                await until("the daemon", world.is_ready)

        return await while_publishing(world, frames, harm)


@fault("the server is killed on its store again and again", quick=True)
async def server_killed(sferic, quick):
    frames, times = (1500, 2) if quick else (10_000, 10)
    async with World(sferic) as world:
        await world.daemon()

        async def harm():
            for _ in range(times):
                await asyncio.sleep(random.uniform(0.3, 1))
                world.server.restart()
                await until("the daemon", world.is_ready)

        return await while_publishing(world, frames, harm)


@fault("daemon and server are killed at the same time")
async def both_killed(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()

        async def harm():
            for _ in range(5):
                await asyncio.sleep(random.uniform(0.5, 1))
                daemon.kill()
                world.server.restart()
                daemon.wait()
                daemon.start()
                await until("the daemon", world.is_ready)

        return await while_publishing(world, 5000, harm)


@fault("the daemon is killed between an outcome and its ack; then the circuit is forced open", quick=True)
async def killed_before_ack(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()
        seen = asyncio.Event()

        async def outcome(_):
            if not seen.is_set():
                # What it had sent before is at the server; what it sends from here on is not read by us.
                daemon.kill("STOP")
                seen.set()

        await world.client.subscribe("iq.predictions.>", cb=outcome)
        sending = asyncio.create_task(world.publish(300))
        await asyncio.wait_for(seen.wait(), 60)
        daemon.restart()
        await until("the daemon", world.is_ready)
        await world.client.request("sferic.breaker", json.dumps({"force": "open"}).encode(), timeout=5)
        await sending
        await asyncio.sleep(3)
        await world.client.request("sferic.breaker", json.dumps({"force": "reset"}).encode(), timeout=5)
        await world.settled()
        return await world.report()


@fault("two sources count their frames alike", quick=True)
async def equal_ids(sferic, quick):
    async with World(sferic) as world:
        await world.daemon()
        await asyncio.gather(world.publish(300, "north"), world.publish(300, "south"))
        await world.settled()
        return await world.report()


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

        return await while_publishing(world, 5000, harm)


@fault("the server stands still for 20 s")
async def server_stopped(sferic, quick):
    async with World(sferic) as world:
        await world.daemon()

        async def harm():
            await asyncio.sleep(0.5)
            world.server.kill("STOP")
            await asyncio.sleep(20)
            world.server.kill("CONT")

        return await while_publishing(world, 3000, harm)


@fault("three daemons are restarted in turn", quick=True)
async def rolling_restart(sferic, quick):
    async with World(sferic) as world:
        for _ in range(3):
            await world.daemon()

        async def harm():
            for daemon in world.daemons:
                daemon.kill("TERM")
                code = await asyncio.to_thread(daemon.wait)
                if code != 0:
                    raise Failed(f"a daemon ended with {code}")
                daemon.start()
                await asyncio.sleep(1)

        return await while_publishing(world, 2000 if quick else 10_000, harm)


@fault("the stream of outcomes is deleted and made again")
async def outcomes_deleted(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()
        await world.publish(100)
        await world.settled()
        first = await world.report()
        if not first.is_clean:
            return first
        world.sent.clear()
        daemon.kill("STOP")
        await world.js.delete_stream("IQ_OUTCOMES")
        daemon.kill("CONT")
        await world.publish(500, first=1000)
        await world.settled()
        return await world.report()


@fault("frames wait for a minute without a daemon")
async def absent(sferic, quick):
    async with World(sferic) as world:
        daemon = await world.daemon()
        daemon.kill("TERM")
        daemon.wait()
        await world.publish(5000)
        await asyncio.sleep(60)
        daemon.start()
        await world.settled()
        return await world.report()


@fault("a model takes longer than its frames have, and longer than the server waits", quick=True)
async def slow_model(sferic, quick):
    async with World(sferic, models="degrees,slow", JETSTREAM__ACK_WAIT="1s") as world:
        await world.daemon()
        await world.publish(4, model="slow", timeout_ms=100)
        await world.publish(4, first=4, model="slow", timeout_ms=60_000, cache_enabled=False)
        await world.publish(200, first=8)
        await world.settled()
        return await world.report()


@fault("the stream of frames is full")
async def store_full(sferic, quick):
    async with World(sferic, JETSTREAM__MAX_BYTES="1MiB") as world:
        daemon = await world.daemon()
        daemon.kill("STOP")
        sending = asyncio.create_task(world.publish(4000))
        await asyncio.sleep(10)
        if sending.done():
            raise Failed("4000 frames found room in 1 MiB")
        daemon.kill("CONT")
        await sending
        await world.settled()
        return await world.report()


async def main():
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="ops/faults/run", description=__doc__, formatter_class=as_it_is)
    parser.add_argument("faults", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--quick", action="store_true", help="those that take seconds")
    parser.add_argument("--json", action="store_true", help="an object a fault")
    parser.add_argument("--sferic", type=Path, required=True, help="the program")
    args = parser.parse_args()
    for unknown in (name for name in args.faults if name not in FAULTS):
        parser.error(f"no fault named {unknown}: there are {', '.join(FAULTS)}")
    chosen = args.faults or [name for name, (_, _, quick) in FAULTS.items() if quick or not args.quick]
    failed = False
    for name in chosen:
        function, text, _ = FAULTS[name]
        begun = time.monotonic()
        try:
            report = await function(args.sferic.resolve(), args.quick)
        except Failed as error:
            failed = True
            print(f"{name}: FAILED: {error}", flush=True)
            continue
        failed = failed or not report.is_clean
        seconds = time.monotonic() - begun
        if args.json:
            print(json.dumps({"fault": name, "seconds": round(seconds, 1), **vars(report)}), flush=True)
            continue
        notes = f" ({'; '.join(report.notes)})" if report.notes else ""
        counts = f"{report.ok} ok, {report.lost} lost, {report.duplicated} duplicated"
        print(f"{name}: {report.sent} frames, {counts}, {report.unexpected} unexpected{notes}; {text}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    asyncio.run(main())
