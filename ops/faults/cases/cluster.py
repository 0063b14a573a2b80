"""Three copies of each stream on three servers: leaders that step down, servers that are lost or damaged."""

import asyncio
import random

from cluster import Cluster
from harness import DURABLE, FRAMES, OUTCOMES
from process import PASSING, Failed, until
from registry import fault, while_publishing
from report import readable

R3 = "3 servers, R3"


@fault("2000 frames wait while no daemon runs, then one reads them", mode=R3, quick=True)
async def cluster_backlog(sferic, quick):
    async with Cluster(sferic) as world:
        daemon = await world.daemon()
        daemon.kill("TERM")
        await daemon.ended()
        await world.publish(2000)
        daemon.start()
        await world.settled()
        return await world.report(failures=())


@fault("the leaders of both streams and of the consumer step down every 2 to 3 s", mode=R3, quick=True)
async def leader_steps_down(sferic, quick):
    times = 3 if quick else 15
    async with Cluster(sferic) as world:
        await world.daemon()
        changes = []

        async def harm():
            for _ in range(times):
                before = await until("leaders", world.groups, 30)
                for what in (FRAMES, OUTCOMES, DURABLE):
                    await until(f"{what} has a leader", lambda: stepped(what), 30)
                await asyncio.sleep(random.uniform(2, 3))
                after = await until("leaders", world.groups, 30)
                changes.extend(what for what in before if before[what]["leader"] != after[what].get("leader"))

        async def stepped(what):
            await world.step_down(what)
            return True

        report = await while_publishing(world, 1000, harm)
        if len(changes) < times:
            raise Failed(f"{len(changes)} leaders changed in {times} rounds")
        report.note(f"{len(changes)} leaders changed in {times} rounds of 3")
        return report


@fault("each of three servers is put into lame duck mode, in turn, and started again", mode=R3)
async def server_lame_duck(sferic, quick):
    async with Cluster(sferic) as world:
        await world.daemon()

        async def harm():
            for server in world.servers:
                server.kill("USR2")
                await server.ended(90)
                if "Entering lame duck mode" not in server.log.read_text():
                    raise Failed(f"{server.name} ended without lame duck mode")
                server.start()
                await world.healed()
                await world.ready()

        return await while_publishing(world, 2000, harm, pause=0.01)


@fault("a server is removed from both streams, three times; a fourth takes its place", mode="4 servers, R3")
async def peer_removed(sferic, quick):
    async with Cluster(sferic, servers=4) as world:
        await world.daemon()
        removed = []

        async def remove(stream, leader_too):
            group = await world.group(stream)
            peer = group["leader"] if leader_too else group["replicas"][0]["name"]
            await world.api(f"STREAM.PEER.REMOVE.{stream}", peer=peer, timeout=10)
            removed.append(peer)
            return True

        async def harm():
            for number in range(3):
                for stream in (FRAMES, OUTCOMES):
                    await until("a peer is removed", lambda: remove(stream, number == 1), 30, pause=1)
                await asyncio.sleep(1)
                await world.healed()

        report = await while_publishing(world, 2000, harm)
        report.note(f"removed {', '.join(removed)}")
        return report


@fault("a server is killed and its store deleted; 10 s later an empty one of its name joins", mode=R3)
async def server_lost(sferic, quick):
    async with Cluster(sferic) as world:
        await world.daemon()

        async def harm():
            await asyncio.sleep(2)
            name = (await world.group(FRAMES))["leader"]
            await world.replace_empty(name, 10)
            await world.healed()
            await world.ready()

        return await while_publishing(world, 2000, harm)


async def with_damage(sferic, damage):
    """Damages the store of one of three servers while it is stopped; then it leads, and frames are read."""
    async with Cluster(sferic) as world:
        daemon = await world.daemon()
        await world.publish(200)
        await world.settled()
        # What comes now is unread when it is damaged.
        daemon.kill("TERM")
        await daemon.ended()
        await world.publish(2000, first=200)
        await world.healed()
        name = (await world.group(FRAMES))["replicas"][0]["name"]
        server = world.named(name)
        server.kill("TERM")
        await server.ended()
        done = damage(world.blocks(name))
        server.start()
        await world.healed()
        leads = await made_leader(world, name)
        daemon.start()
        await world.ready()
        await world.publish(500, first=5000)
        held_up = await settled_by_any(world, name)
        report = await world.report(failures=(), may_nats_lose=True)
        report.note(f"{done} of {name}, which {leads}")
        report.note(held_up)
        await note_stores(report, world, name)
        return report


async def made_leader(world, name):
    """NATS may refuse: a leader has to be up to date."""
    led = []
    for what in (FRAMES, DURABLE):
        try:
            await world.lead(name, what, 20)
            led.append(what)
        except Failed:
            pass
    return f"then led {' and '.join(led)}" if led else "could not be made a leader"


async def settled_by_any(world, name):
    """Waits for the frames; where they do not come, lets a sound server lead the consumer."""
    try:
        await world.settled(90)
        return ""
    except Failed:
        waiting = max(world.sent) - (await world.consumer())["ack_floor"]["stream_seq"]
    other = next(server.name for server in world.servers if server.name != name)
    await world.lead(other, DURABLE)
    await world.settled()
    return f"while {name} led the consumer, NATS held {waiting} frames up for 90 s, until {other} led it"


async def note_stores(report, world, name):
    """What the stream has by each of its leaders."""
    seen = []
    for server in world.servers:
        try:
            await world.lead(server.name, FRAMES, 20)
            state = (await world.api(f"STREAM.INFO.{FRAMES}"))["state"]
        except PASSING + (Failed,):
            seen.append(f"{server.name} could not lead")
            continue
        mark = " (damaged)" if server.name == name else ""
        has = f"{server.name}{mark} {state['messages']} of {state['first_seq']}-{state['last_seq']}"
        if lost := report.lost_sequences:
            has += f" and can read {await readable(world, lost)} of the lost"
        seen.append(has)
    report.note("IQ_FRAMES by leader: " + ", ".join(seen))


def flip_bit(blocks):
    """In the middle half of the last block."""
    data = bytearray(blocks[-1].read_bytes())
    place = random.randrange(len(data) // 4, 3 * len(data) // 4)
    data[place] ^= 1 << random.randrange(8)
    blocks[-1].write_bytes(data)
    return f"a bit flipped at byte {place} of {len(data)} in {blocks[-1].name}"


def truncate(blocks):
    """Takes a third of the last block and a part of a message away."""
    data = blocks[-1].read_bytes()
    length = 2 * len(data) // 3 + random.randrange(50)
    blocks[-1].write_bytes(data[:length])
    return f"{blocks[-1].name} cut from {len(data)} to {length} bytes"


@fault("a bit of unread frames is flipped in one of three stores; that server leads then", mode=R3)
async def bit_flipped(sferic, quick):
    return await with_damage(sferic, flip_bit)


@fault("the last block of frames is cut in one of three stores; that server leads then", mode=R3)
async def block_truncated(sferic, quick):
    return await with_damage(sferic, truncate)
