"""The faults by name, and what most of them do."""

import asyncio
from dataclasses import dataclass
from typing import Callable

from report import LATE

FAULTS = {}

# The shortest duplicate window but a second that the settings allow with the harness's `ack_wait`.
SHORT_WINDOW = {
    "JETSTREAM__MAX_DELIVER": "1", "JETSTREAM__OUTAGE": "0s", "JETSTREAM__DUPLICATE_WINDOW": "33s",
}

# Longer than that.
PAST_WINDOW = 38


@dataclass(frozen=True)
class Fault:
    """What is done, on what (one server, a cluster, plain NATS), and whether it takes seconds only."""

    function: Callable
    text: str
    mode: str
    is_quick: bool


def fault(text, mode="1 server", quick=False):
    """Registers a function (program, whether few frames suffice) that gives a report."""
    def register(function):
        FAULTS[function.__name__] = Fault(function, text, mode, quick)
        return function

    return register


async def while_publishing(world, count, harm, failures=LATE, pause=0.0005):
    """Harms for as long as frames are published and the other way round, then counts."""
    harming = asyncio.create_task(harm())
    sending = asyncio.create_task(world.publish(count, pause=pause, meanwhile=harming))
    try:
        await asyncio.gather(harming, sending)
    finally:
        for task in (harming, sending):
            task.cancel()
    await world.settled()
    return await world.report(failures)
