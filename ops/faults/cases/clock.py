"""A daemon whose clock jumps."""

import asyncio
import os
import subprocess
from datetime import datetime, timedelta, timezone

from harness import World
from process import Failed, Skipped
from registry import fault, while_publishing


def library():
    """libfaketime, from the list of files of its Debian package."""
    try:
        listed = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True)
        found = [line for line in listed.stdout.splitlines() if line.endswith("/libfaketimeMT.so.1")]
    except OSError:
        found = []
    if found:
        return found[0]
    missing = "libfaketime is missing: as root, ops/setup debian faketime installs it"
    raise Failed(missing) if os.environ.get("CI") else Skipped(missing)


def move(file, seconds):
    """Sets how far the clock is ahead; the file is read at any time, so it is replaced in one step."""
    aside = file.with_suffix(".new")
    aside.write_text(f"+{seconds}")
    aside.replace(file)


def ahead(outcomes):
    """How many outcomes were made by a clock that is half an hour ahead at least, and how many not."""
    soon = datetime.now(timezone.utc) + timedelta(minutes=30)
    times = [datetime.fromisoformat(body["timestamp"]) for _, _, body in outcomes]
    return sum(time > soon for time in times), sum(time <= soon for time in times)


@fault("the daemon's clock jumps an hour forward, the daemon is killed, the clock jumps back", quick=True)
async def clock_moved(sferic, quick):
    preload = library()
    async with World(sferic) as world:
        shift = world.folder / "shift"
        move(shift, 0)
        daemon = await world.daemon(environment={
            "LD_PRELOAD": preload, "FAKETIME_TIMESTAMP_FILE": str(shift), "FAKETIME_NO_CACHE": "1",
            # Which of these is read depends on the version of libfaketime.
            "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        })

        async def harm():
            for _ in range(1 if quick else 5):
                await asyncio.sleep(1)
                move(shift, 3600)
                await asyncio.sleep(1)
                # Its frames come again, an hour old by this clock: ids are not remembered for so long.
                await daemon.restart()
                await world.ready()
                await asyncio.sleep(1)
                move(shift, 0)
                await asyncio.sleep(1)

        report = await while_publishing(world, 1000, harm, failures=())
        moved, rest = ahead(await world.outcomes())
        if not moved or not rest:
            raise Failed(f"{moved} outcomes were made an hour ahead and {rest} not: the clock did not move")
        report.note(f"{moved} outcomes were made an hour ahead")
        return report
