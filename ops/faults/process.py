"""Programs that are started and ended here, and waiting with a bound."""

import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time

import nats

PATIENCE = 120
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The fault could not be carried out."""


class Refused(Failed):
    """JetStream answered a request with an error."""


class Skipped(Exception):
    """Something that the fault needs is not on this machine."""


# What may pass while servers and connections come and go.
PASSING = (nats.errors.Error, OSError, asyncio.TimeoutError, Refused)


async def until(what, check, seconds=PATIENCE, pause=0.05):
    """Waits until `check` gives something true; an error of the connection counts as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := await check():
                return found
        except PASSING:
            pass
        await asyncio.sleep(pause)
    raise Failed(f"{what}: not within {seconds} s")


def free_port():
    """Below the ports that the system gives to clients: a server that is away keeps its port."""
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("none of 100 ports is free")


def end_with_parent():
    """Linux: the program ends with this one, also where this one is killed."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program with a log of its own."""

    def __init__(self, name, log, *command, **environment):
        self.name, self.log, self.command, self.environment = name, log, command, environment
        # Set where the program is there to crash, and somebody starts it again.
        self.may_crash = False
        self.start()

    def start(self):
        """Starts it, or starts it again."""
        environment = {**os.environ, **self.environment}
        with open(self.log, "a") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(
                self.command, env=environment, preexec_fn=end_with_parent, **streams
            )
        self.may_end, self.is_stopped = self.may_crash, False

    @property
    def is_alive(self):
        return self.process.poll() is None

    def kill(self, name="KILL"):
        """Sends a signal. One that ends the program makes its end expected."""
        if self.is_alive:
            os.kill(self.process.pid, getattr(signal, f"SIG{name}"))
            self.may_end = self.may_end or name not in ("STOP", "CONT")
            self.is_stopped = name == "STOP" or self.is_stopped and name != "CONT"

    async def ended(self, seconds=60):
        """Waits for its end and gives its exit code."""
        try:
            return await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} still runs {seconds} s after it was told to end") from None

    async def restart(self):
        """Kills it and starts it again."""
        self.kill()
        await self.ended()
        self.start()

    def end(self):
        self.kill()
        self.process.wait(30)

    def check_alive(self):
        """Raises where it has ended by itself."""
        if not self.is_alive and not self.may_end:
            raise Failed(f"{self.name} ended by itself with {self.process.returncode}")
