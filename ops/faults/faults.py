"""Does harm to daemons and nats-servers on streams, and counts what became of each frame.

    ops/faults/run                  every fault
    ops/faults/run --quick          those that take seconds, with fewer frames
    ops/faults/run NAME…            only these
    ops/faults/run --markdown       the table at the end in Markdown
    ops/faults/run --sferic PATH    takes this program instead of building one

A line a fault: frames the stream had acknowledged to their sender, and how many of them have one outcome
(ok), none (lost), several (duplicated), or one that nothing excuses, of another frame for example
(unexpected). A table of all of them at the end. Exit code 1 where not all are ok; the logs are kept then, and
their folder is named. A fault that this machine lacks something for is skipped, and says so. Loopback only,
and it ends by itself.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cases  # noqa: F401
from harness import NATS_SERVER, World
from process import PASSING, Failed, Skipped
from registry import FAULTS

# No fault takes longer, whatever happens.
LONGEST = 900
SHOWN = ["sent", "ok", "lost", "excused", "duplicated", "unexpected", "notes"]
COLUMNS = ["fault", "mode", "what was done", "frames", "ok", "lost", "duplicated", "unexpected", "notes"]


def arguments():
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="ops/faults/run", description=__doc__, formatter_class=as_it_is)
    parser.add_argument("faults", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--quick", action="store_true", help="those that take seconds")
    parser.add_argument("--json", action="store_true", help="an object a fault, and no table")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    parser.add_argument("--keep-logs", action="store_true", help="also where all is ok")
    parser.add_argument("--sferic", type=Path, required=True, help="the program")
    args = parser.parse_args()
    for unknown in (name for name in args.faults if name not in FAULTS):
        parser.error(f"no fault named {unknown}: there are {', '.join(FAULTS)}")
    if not args.sferic.is_file():
        parser.error(f"no program at {args.sferic}")
    return args


async def carried_out(name, args):
    """(The report or none, the word for what became of it, the seconds it took)."""
    begun, report, word = time.monotonic(), None, "ok"
    try:
        function = FAULTS[name].function
        report = await asyncio.wait_for(function(args.sferic.resolve(), args.quick), LONGEST)
        word = "ok" if report.is_clean else "NOT OK"
    except Skipped as error:
        word = f"SKIPPED: {error}"
    except Failed as error:
        word = f"FAILED: {error}"
    except PASSING as error:
        word = f"FAILED: {type(error).__name__}: {error}"
    return report, word, time.monotonic() - begun


def line(name, report, word, seconds):
    """A fault's result in one line."""
    if not report:
        return f"{name}: {word}; {FAULTS[name].text}"
    notes = f" ({'; '.join(report.notes)})" if report.notes else ""
    counts = f"{report.sent} frames, {report.ok} ok, {report.lost} lost, {report.duplicated} duplicated"
    counts += f", {report.unexpected} unexpected"
    return f"{name}: {word}: {counts}{notes}; {FAULTS[name].text}; {seconds:.0f} s"


def row(name, report, word):
    counts = ["", "", "", "", ""]
    notes = word
    if report:
        counts = [report.sent, report.ok, report.lost, report.duplicated, report.unexpected]
        notes = "; ".join(report.notes)
    return [name, FAULTS[name].mode, FAULTS[name].text, *map(str, counts), notes]


def table(rows, as_markdown):
    if as_markdown:
        lines = [COLUMNS, ["---"] * 3 + ["---:"] * 5 + ["---"], *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
    padded = ([cell.ljust(width) for cell, width in zip(cells, widths)] for cells in [COLUMNS, *rows])
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


async def main():
    args = arguments()
    World.keeps_logs = args.keep_logs
    # Ended like this it still ends what it started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    version = subprocess.run([NATS_SERVER, "--version"], capture_output=True, text=True).stdout.strip()
    chosen = args.faults or [name for name, fault in FAULTS.items() if fault.is_quick or not args.quick]
    rows, has_failed, begun = [], False, time.monotonic()
    for number, name in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {name}: {FAULTS[name].text}", file=sys.stderr, flush=True)
        report, word, seconds = await carried_out(name, args)
        has_failed |= not word.startswith(("ok", "SKIPPED"))
        rows.append(row(name, report, word))
        if args.json:
            counts = {key: value for key, value in vars(report).items() if key in SHOWN} if report else {}
            print(json.dumps({"fault": name, "mode": FAULTS[name].mode, "result": word, "nats": version,
                              "seconds": round(seconds, 1), **counts}), flush=True)
        else:
            print(line(name, report, word, seconds), flush=True)
    if not args.json:
        print(f"\n{version}, {time.monotonic() - begun:.0f} s\n\n{table(rows, args.markdown)}")
    sys.exit(has_failed)


if __name__ == "__main__":
    asyncio.run(main())
