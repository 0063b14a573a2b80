"""Models that take too long, or that end the daemon."""

import asyncio
import platform
import signal

from frames import body
from harness import MODELS, World
from process import Skipped
from registry import fault

MAX_DELIVER = 5


@fault("a model takes longer than its frames have, and longer than the server waits", quick=True)
async def slow_model(sferic, quick):
    models = MODELS / "degrees", MODELS / "slow"
    async with World(sferic, models, JETSTREAM__ACK_WAIT="1s") as world:
        await world.daemon()
        await world.publish(2, model="slow", timeout_ms=100)
        await world.publish(2, first=2, model="slow", timeout_ms=60_000, cache_enabled=False)
        await world.publish(200, first=4)
        await world.settled()
        return await world.report()


async def keep_alive(daemon, codes):
    """Starts the daemon again whenever it ends."""
    while True:
        if not daemon.is_alive:
            codes.append(daemon.process.returncode)
            daemon.start()
        await asyncio.sleep(0.05)


@fault("a frame ends the daemon's process each time it is run, amid 200 good ones", quick=True)
async def model_crashes(sferic, quick):
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Skipped("only x86-64 traps where an integer division overflows")
    models, settings = (MODELS / "crash",), {"JETSTREAM__MAX_DELIVER": str(MAX_DELIVER)}
    async with World(sferic, models, **settings) as world:
        daemon = await world.daemon()
        daemon.may_crash = daemon.may_end = True
        codes = []
        keeping = asyncio.create_task(keep_alive(daemon, codes))
        try:
            await world.publish(100)
            bad = await world.put("rx", 100, samples=bytes([127, 0] * 128))
            await world.publish(100, first=101)
            await world.settled()
        finally:
            keeping.cancel()
        report = await world.report(failures=("internal",))
        await judge(report, world, bad)
        report.note(f"the daemon ended {len(codes)} times")
        # A delivery may send the frame back unrun, so that it comes apart from others.
        if set(codes) != {-signal.SIGFPE} or not 2 <= len(codes) <= MAX_DELIVER:
            report.wrong(f"its exit codes are {codes}, not 2 to {MAX_DELIVER} times {-signal.SIGFPE}")
        return world.judged(report)


async def judge(report, world, bad):
    """The frame that crashes has to end as `internal`, with itself in it; every other in a prediction."""
    outcomes = {id: (subject, outcome) for id, subject, outcome in await world.outcomes()}
    subject, outcome = outcomes.pop(f"IQ_FRAMES:{bad}", ("", {}))
    found = {key: outcome.get(key) for key in ("code", "deliveries", "stream_seq")}
    wanted = {"code": "internal", "deliveries": MAX_DELIVER + 1, "stream_seq": bad}
    if found != wanted:
        report.wrong(f"the frame that crashes ended as {found}, not {wanted}")
    samples = body(100, samples=bytes([127, 0] * 128))["samples"]
    if samples not in (outcome.get("payload") or b""):
        report.wrong("its failure does not hold its payload")
    failed = [id for id, (subject, _) in outcomes.items() if subject.startswith("iq.failures.")]
    if failed:
        report.wrong(f"{len(failed)} good frames ended as failures, {failed[0]} first", len(failed))
