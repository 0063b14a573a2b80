"""What became of each frame."""

import json
from collections import Counter
from dataclasses import dataclass, field

import frames
from process import PASSING, Failed, until


# Failures that a frame may end in when it was too late, or there was no room for it, at each delivery.
# `internal` is not among them: only a frame that ended the daemon each time may end so.
LATE = ("deadline_exceeded", "model_unavailable", "overloaded")


# So many lost frames are looked for.
MANY = 500


@dataclass
class Report:
    """What became of the frames that the stream has acknowledged to their sender."""

    sent: int
    ok: int
    lost: int
    duplicated: int
    unexpected: int
    notes: list = field(default_factory=list)
    # Of the lost: those that NATS lost, in a fault that may make it lose, and that the ledger counts.
    excused: int = 0
    lost_sequences: list = field(default_factory=list)

    @property
    def is_clean(self):
        lost = self.lost - self.excused
        return lost == self.duplicated == self.unexpected == 0 and self.ok + self.excused == self.sent

    def note(self, text):
        if text:
            self.notes.append(text)

    def wrong(self, text, times=1):
        """Counts something that no fault excuses."""
        self.unexpected += times
        self.note(text)


def of(sent, clashes, outcomes):
    """`outcomes` are (message id, subject, body); `clashes` are frames whose place was given to another."""
    counts = Counter(id for id, _, _ in outcomes)
    expected = {f"IQ_FRAMES:{seq}": frame for seq, frame in sent.items()}
    values = [counts[id] for id in expected]
    ok, lost, duplicated = (sum(map(rule, values)) for rule in (
        lambda count: count == 1, lambda count: count == 0, lambda count: count > 1,
    ))
    report = Report(len(expected) + len(clashes), ok, lost + len(clashes), duplicated, 0)
    if clashes:
        report.note(f"{len(clashes)} sequences were acknowledged for two frames")
    if strangers := sorted(set(counts) - set(expected)):
        report.wrong(f"{len(strangers)} outcomes of no frame, {strangers[0]} first", len(strangers))
    wrong = [id for id, subject, body in outcomes if id in expected and not fits(expected[id], subject, body)]
    if wrong:
        report.wrong(f"{len(wrong)} outcomes of another frame, {wrong[0]} first", len(wrong))
    return report


def fits(frame, subject, body):
    """Whether an outcome is of this frame."""
    _, kind, source = subject.split(".", 2)
    is_of_it = (source, body["frame_id"]) == (frame.source, str(frame.number))
    return is_of_it and (kind == "failures" or frames.has_position_of(frame.number, body))


def note_failures(report, outcomes, allowed):
    """Names the failures; those not `allowed` are unexpected."""
    codes = Counter(body["code"] for _, subject, body in outcomes if subject.startswith("iq.failures."))
    report.note(", ".join(f"{count} {code}" for code, count in sorted(codes.items())))
    if others := sum(codes[code] for code in set(codes) - set(allowed)):
        report.wrong(f"{others} of these failures nothing excuses", others)


async def note_lost(report, world, outcomes):
    """Says of lost frames where they are, which shows who has lost them."""
    there = {id for id, _, _ in outcomes}
    report.lost_sequences = lost = [seq for seq in world.sent if f"IQ_FRAMES:{seq}" not in there]
    if not lost:
        return
    there = f"{await readable(world, lost)} of {min(len(lost), MANY)} can be read from IQ_FRAMES"
    report.note(f"lost are {shown(lost)}; {there}")
    if world.is_watched:
        published = sum(f"IQ_FRAMES:{seq}" in world.seen for seq in lost)
        report.note(f"outcomes of {published} of them were seen on their way to IQ_OUTCOMES")


async def readable(world, sequences):
    """How many of these frames, of many the first ones, the leader of their stream can read."""
    found = 0
    for seq in sequences[:MANY]:
        try:
            found += bool(await world.api("STREAM.MSG.GET.IQ_FRAMES", seq=seq))
        except PASSING:
            pass
    return found


def shown(numbers):
    """[1, 2, 3, 7] as "1-3, 7", not more than five ranges."""
    ranges = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    text = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:5]]
    return ", ".join(text) + (" …" if len(ranges) > 5 else "")


async def note_ledgers(report, world, lost=0):
    """Checks the ledger of every daemon that should be there, once nothing is in flight; gives their sums.
    Waits for them to count `lost` frames: what was passed over unread is looked for once a second."""
    alive = sum(daemon.is_alive and not daemon.is_stopped for daemon in world.daemons)
    found = {}

    async def at_rest():
        found["ledgers"] = [health["ledger"] for health in await world.healths(alive)]
        if len(found["ledgers"]) < alive or any(each["in_flight"] for each in found["ledgers"]):
            return False
        return sum(each["lost"] for each in found["ledgers"]) >= lost

    try:
        await until("every daemon's ledger at rest", at_rest, 20, pause=0.5)
    except Failed as error:
        report.wrong(f"{error}: {json.dumps(found.get('ledgers'))}")
    sums = Counter()
    for ledger in found.get("ledgers", []):
        if ledger["received"] != sum(count for key, count in ledger.items() if key != "received"):
            report.wrong(f"a ledger does not balance: {json.dumps(ledger)}")
        sums.update(ledger)
    for key in ("redelivered", "duplicates_dropped", "lost"):
        if sums[key]:
            report.note(f"{key} {sums[key]}")
    return sums


def note_ends(report, world):
    """A program that ended by itself is a defect, whatever became of the frames."""
    for each in [*world.daemons, *world.servers]:
        if not each.is_alive and not each.may_end:
            report.wrong(f"{each.name} ended by itself with {each.process.returncode}")
    for each in world.daemons:
        said = each.log.read_text(errors="replace")
        if panics := said.count("panicked at"):
            report.wrong(f"{each.name} panicked {panics} times", panics)
        if errors := said.count(" ERROR "):
            report.note(f"{each.name} logged {errors} errors")
