"""The daemon that is measured, and the two sides that measure it: LoadGen, and `sferic bench`."""

import json
import os
import statistics
import subprocess

from programs import Failed, free_port, get, start, until

# Of `sferic bench`, for loads that are measured and not judged.
NO_LEVELS = ("--p95", "60s", "--p99", "60s", "--success", "0")
FIGURES = ("rate", "p50", "p90", "p99")


def output(command, bound, allowed=(0,), **environment):
    """What a program says on standard output, where it ends within `bound` seconds as it should."""
    streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, timeout=bound, **streams)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]}: not over within {bound:.0f} s") from error
    if done.returncode not in allowed or not done.stdout:
        raise Failed(
            f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
        )
    return done.stdout


class Daemon:
    """A nats-server and a ready daemon on loopback, without a cache, until `stack` ends."""

    def __init__(self, stack, sferic, tools, folder, log, repository, model, **settings):
        address = ("--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", folder)
        start(stack, log, tools / "bin/nats-server", *address)
        servers = lambda: (json.loads(path.read_text())["nats"][0] for path in folder.glob("*.ports"))
        self.nats = until("nats-server", lambda: next(servers(), None))
        self.http, self.sferic, self.model = f"127.0.0.1:{free_port()}", sferic, model
        settings = {
            "MODELS__REPOSITORY": str(repository),
            "MODELS__DEFAULT": model,
            "HTTP__LISTEN": self.http,
            "CACHE__ENABLED": "false",
            # Of requests that state none: perf_analyzer ends at the first that fails.
            "LIMITS__TIMEOUT": "20s",
            "TELEMETRY__LOG": "warn",
            **settings,
        }
        environment = {f"SFERIC__{key}": value for key, value in settings.items()}
        self.process = start(stack, log, sferic, "run", "--url", self.nats, **environment)
        until("the daemon", lambda: self.process.poll() is not None or get(f"http://{self.http}/ready"))
        if self.process.poll() is not None:
            raise Failed("the daemon did not start")
        self.info = json.loads(get(f"http://{self.http}/model/info", model=model))
        if not isinstance(self.info["features"], dict) or self.info["features"]["kind"] == "tensor":
            raise Failed(f"{model} has other inputs than samples, of which no frames are made")

    def bench(self, samples, *load, http=None, oip=False, seconds=10, levels=NO_LEVELS):
        """A report of `sferic bench`."""
        command = [self.sferic, "bench", "--json", "--url", self.nats, "--model", self.model]
        command += ["--samples", samples, "--timeout", "20s", *levels, *load]
        command += ["--http", f"http://{http}"] if http else []
        command += ["--protocol", "oip"] if oip else []
        return json.loads(output(list(map(str, command)), 120 + 30 * seconds, (0, 1)))


def ours(report, latency="latency_ms"):
    """The figures of a report, as those of the others are."""
    measured = report["measured"]
    if measured["answered"] < measured["requests"]:
        raise Failed(f"sferic bench: not everything was answered: {measured['failures'] or measured}")
    generator = measured["cpu"]["generator"] or {}
    return {
        "rate": measured["rate"],
        "latency_ms": measured[latency],
        "cpu_us": generator.get("us_per_frame"),
        "valid": report["validity"]["valid"],
        "reasons": report["validity"]["reasons"],
    }


def loadgen(tools, script, daemon, args, scenario, address, *options, seconds):
    """What LoadGen says of one run."""
    if not any(tools.glob("judges/loadgen/lib/python*/site-packages/mlperf_loadgen*")):
        raise Failed("LoadGen does not come for this platform or Python, see ops/tools/judges/loadgen.txt")
    features = daemon.info["features"]
    command = [tools / "judges/loadgen/bin/python", script, scenario, "--address", address]
    command += ["--model", daemon.model, "--channels", features["num_channels"], "--samples", args.samples]
    command += ["--sample-rate", features.get("sample_rate_hz") or 1e6, "--frames", args.frames]
    command += ["--seconds", seconds, "--bound", args.bound, *options]
    said = output(list(map(str, command)), 180 + 5 * seconds, PYTHONDONTWRITEBYTECODE="1")
    return json.loads(said)


class Case:
    """One load, by both sides in turn."""

    def __init__(self, judge, name, figures=FIGURES):
        self.judge, self.name, self.figures = judge, name, figures
        self.theirs, self.ours = [], []
        # Both against a server that answers from memory.
        self.bare = None

    def add(self, theirs, ours):
        self.theirs.append(theirs)
        self.ours.append(ours)

    @staticmethod
    def figure(found, name):
        return found["rate"] if name == "rate" else found["latency_ms"][name]

    def rows(self):
        """A row for each figure: the medians of both, and the rounds' differences: median, least, most."""
        named = {"rate": "rate, frames/s", "p50": "p50, ms", "p90": "p90, ms", "p99": "p99, ms"}
        for figure in self.figures:
            sides = [[self.figure(each, figure) for each in side] for side in (self.theirs, self.ours)]
            yield self.row(named[figure], *sides)
        if self.bare:
            own = [self.figure(side, "p50") for side in self.bare]
            yield self.row("p50 from memory, ms", *([each] for each in own))
            both = zip((self.theirs, self.ours), own)
            less = ([self.figure(each, "p50") - took for each in side] for side, took in both)
            yield self.row("p50 less own, ms", *less)

    def row(self, figure, theirs, ours):
        percent = [100 * (b / a - 1) for a, b in zip(theirs, ours)]
        return {
            "judge": self.judge,
            "load": self.name,
            "figure": figure,
            "theirs": statistics.median(theirs),
            "ours": statistics.median(ours),
            "percent": statistics.median(percent),
            "from": min(percent),
            "to": max(percent),
        }
