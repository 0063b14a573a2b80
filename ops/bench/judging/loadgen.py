"""MLPerf's LoadGen sends frames to a daemon; its verdict and figures as one line of JSON.

Runs in .tools/judges/loadgen/ (`ops/setup judges`), by ops/bench/judges. Queries are handed to a few threads,
each with a connection of its own and requests that were made beforehand.
"""

import argparse
import array
import json
import re
import resource
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import mlperf_loadgen as lg
import msgpack
import numpy

from connections import Http, Nats

# What an answer says, without how and when it was made: as `sferic bench --verify` has it.
KEYS = ("position", "uncertainty", "ellipse", "confidence", "labels", "tensors", "model_digest")
# How far numbers may differ, relative to the larger: batches of other sizes add in another order.
TOLERANCE = 1e-5
SCENARIOS = {
    "SingleStream": lg.TestScenario.SingleStream,
    "Server": lg.TestScenario.Server,
    "Offline": lg.TestScenario.Offline,
}


def frames(args):
    """Noise and a tone, different in each, the same in each run."""
    random = numpy.random.default_rng(1)
    for _ in range(args.frames):
        angle = 2 * numpy.pi * random.uniform(-0.4, 0.4) * numpy.arange(args.samples)
        tone = numpy.stack([numpy.cos(angle), numpy.sin(angle)], axis=1)
        channels = numpy.repeat(tone[:, None], args.channels, axis=1)
        samples = (0.5 * channels + random.uniform(-0.1, 0.1, channels.shape)).astype("<f4")
        yield msgpack.packb(
            {
                "datatype": "cf32_le",
                "sample_rate": args.sample_rate,
                "num_channels": args.channels,
                "model": args.model,
                "timeout_ms": 20_000,
                "cache_enabled": False,
                "samples": samples.tobytes(),
            }
        )


class Sut:
    """The system under test: threads that ask the daemon."""

    def __init__(self, connect, requests, threads, keeps_answers):
        self.connect, self.requests, self.keeps_answers = connect, requests, keeps_answers
        self.queue, self.times, self.failures = SimpleQueue(), [], []
        self.cpu_before = None
        ready = threading.Barrier(threads + 1)
        work = [threading.Thread(target=self.work, args=(ready,), daemon=True) for _ in range(threads)]
        for thread in work:
            thread.start()
        # Broken where a thread finds no daemon.
        ready.wait(60)
        self.threads = work

    def issue(self, samples):
        # Before the first LoadGen makes all of its queries, which is not what a frame costs.
        self.cpu_before = self.cpu_before or cpu()
        now = time.perf_counter_ns()
        for sample in samples:
            self.queue.put((sample.id, sample.index, now))

    def flush(self):
        """Nothing is held back."""

    def work(self, ready):
        try:
            connection = self.connect()
        except OSError:
            ready.abort()
            raise
        ready.wait(60)
        clock, put = time.perf_counter_ns, self.times.append
        while (query := self.queue.get()) is not None:
            number, index, issued = query
            sent = clock()
            try:
                is_good, answer = connection.ask(self.requests[index])
                if not is_good:
                    self.failures.append(answer[:200].decode(errors="replace"))
            except (OSError, ValueError, KeyError) as error:
                self.failures.append(str(error))
                is_good, answer, connection = False, b"", self.connect()
            put((issued, sent, clock()))
            if self.keeps_answers:
                kept = array.array("B", said(answer) if is_good else b"failed")
                response = lg.QuerySampleResponse(number, *kept.buffer_info())
            else:
                response = lg.QuerySampleResponse(number, 0, 0)
            lg.QuerySamplesComplete([response])

    def end(self):
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join(60)


def cpu():
    """Seconds of processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def said(answer):
    """What an answer says, as bytes that are the same for equal answers."""
    answer = msgpack.unpackb(answer)
    return msgpack.packb({key: answer[key] for key in KEYS if key in answer})


def is_close(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(is_close(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(is_close, a, b))
    if isinstance(a, bytes) and isinstance(b, bytes) and len(a) == len(b) and len(a) % 4 == 0:
        return bool(numpy.allclose(*(numpy.frombuffer(each, "<f4") for each in (a, b)), TOLERANCE, 0))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))
    return a == b


def accuracy(folder, connection, requests):
    """Compares each answer that LoadGen has logged with that of the same frame now, one at a time."""
    logged = json.loads((folder / "mlperf_log_accuracy.json").read_text())
    counts = dict(logged=len(logged), frames=len(requests), equal=0, rounding=0, different=0)
    counts["missing"] = len(set(range(len(requests))) - {entry["qsl_idx"] for entry in logged})
    for entry in logged:
        before = bytes.fromhex(entry["data"])
        is_good, answer = connection.ask(requests[entry["qsl_idx"]])
        now = said(answer) if is_good else b"failed now"
        if before == now:
            counts["equal"] += 1
        elif b"failed" not in (before, now[:6]) and is_close(msgpack.unpackb(before), msgpack.unpackb(now)):
            counts["rounding"] += 1
        else:
            counts["different"] += 1
    return counts


def settings(args):
    """As MLPerf's rules have them, where the run is long enough: 600 s, 99 % of Server within the bound."""
    chosen = lg.TestSettings()
    chosen.scenario = SCENARIOS[args.scenario]
    chosen.mode = lg.TestMode.AccuracyOnly if args.accuracy else lg.TestMode.PerformanceOnly
    chosen.min_duration_ms = int(args.seconds * 1000)
    # Of Server as many as its early stopping asks for, where a few are late.
    chosen.min_query_count = {"SingleStream": 100, "Server": 1024, "Offline": 1}[args.scenario]
    # By these LoadGen only makes queries beforehand; a run that has used them up too early is not valid.
    spare = 20 if args.seconds <= 5 else 3
    chosen.single_stream_expected_latency_ns = int(1e9 / args.expected / spare)
    chosen.offline_expected_qps = 1.4 * args.expected
    chosen.server_target_qps = args.qps
    chosen.server_target_latency_ns = int(args.bound * 1e6)
    chosen.server_target_latency_percentile = 0.99
    # Another seed for each round; the same for all who repeat it.
    chosen.qsl_rng_seed, chosen.sample_index_rng_seed, chosen.schedule_rng_seed = (
        args.seed + n for n in range(3)
    )
    return chosen


def logged(folder):
    """LoadGen's results by key, what it says of a run that is invalid, and of early stopping."""
    details = (folder / "mlperf_log_detail.txt").read_text().splitlines()
    entries = (json.loads(line.removeprefix(":::MLLOG ")) for line in details)
    results = {entry["key"]: entry["value"] for entry in entries}
    summary = (folder / "mlperf_log_summary.txt").read_text()
    reasons = re.findall(r"^ *(.* satisfied : NO)$", summary, re.MULTILINE)
    return results, reasons, re.findall(r"^ \* +(.*)$", summary, re.MULTILINE)


def percentiles(times):
    """Milliseconds."""
    cuts = numpy.percentile(numpy.array(times) / 1e6, [50, 90, 99], method="inverted_cdf")
    return dict(zip(("p50", "p90", "p99"), map(float, cuts)))


def run(args):
    folder = Path(args.folder)
    kind = {"http": Http, "nats": Nats}[args.transport]
    host, port = args.address.rsplit(":", 1)
    requests = [kind.request(frame, host, int(port)) for frame in frames(args)]
    connect = lambda: kind(host, int(port))
    threads = 1 if args.scenario == "SingleStream" else args.threads
    sut = Sut(connect, requests, threads, args.accuracy)
    warm_up = connect()
    for n in range(args.warm_up):
        warm_up.ask(requests[n % len(requests)])
    library = lg.ConstructQSL(args.frames, args.frames, lambda _: None, lambda _: None)
    system = lg.ConstructSUT(sut.issue, sut.flush)
    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    log = lg.LogSettings()
    log.log_output, log.enable_trace = output, False
    begun = time.monotonic()
    lg.StartTestWithLogSettings(system, library, settings(args), log)
    seconds, used = time.monotonic() - begun, cpu() - sut.cpu_before
    lg.DestroySUT(system)
    lg.DestroyQSL(library)
    sut.end()
    answer = {
        "scenario": args.scenario,
        "failures": len(sut.failures),
        "failure": (sut.failures or [None])[0],
    }
    if args.accuracy:
        return {**answer, **accuracy(folder, warm_up, requests)}
    results, reasons, advice = logged(folder)
    issued, sent, ended = zip(*sut.times)
    keys = (
        "result_qps_with_loadgen_overhead",
        "result_completed_samples_per_sec",
        "result_samples_per_second",
    )
    named = {
        name: f"result_{n}.00_percentile_latency_ns" for n, name in ((50, "p50"), (90, "p90"), (99, "p99"))
    }
    return {
        **answer,
        "valid": results["result_validity"] == "VALID",
        "reasons": reasons,
        "advice": advice,
        "queries": len(sut.times),
        "seconds": seconds,
        "rate": next(float(results[key]) for key in keys if key in results),
        # In Offline every query waits for all before it: no latency.
        "latency_ms": {name: float(results[key]) / 1e6 for name, key in named.items() if key in results},
        "handover_ms": percentiles(numpy.subtract(sent, issued)),
        "socket_ms": percentiles(numpy.subtract(ended, sent)),
        "cpu_us": used * 1e6 / len(sut.times),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--accuracy", action="store_true", help="AccuracyOnly: answers, and no times")
    parser.add_argument("--transport", choices=["http", "nats"], default="http")
    parser.add_argument(
        "--address", required=True, help="HOST:PORT of the daemon's HTTP, or of the NATS server"
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--sample-rate", type=float, default=1e6)
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--frames", type=int, default=64, help="different frames")
    parser.add_argument("--seconds", type=float, default=10, help="the shortest time of a run")
    parser.add_argument("--qps", type=float, default=1, help="of Server")
    parser.add_argument("--bound", type=float, default=100, help="of Server: 99 %% must be as fast, ms")
    parser.add_argument("--expected", type=float, default=1, help="queries a second that can be answered")
    parser.add_argument("--threads", type=int, default=32, help="connections, but in SingleStream")
    parser.add_argument("--warm-up", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", required=True, help="for LoadGen's logs")
    print(json.dumps(run(parser.parse_args())), flush=True)


if __name__ == "__main__":
    # What waits for a daemon that is gone does not keep the process.
    try:
        main()
    except (OSError, threading.BrokenBarrierError) as error:
        sys.exit(f"loadgen: error: {error or 'no connection'}")
