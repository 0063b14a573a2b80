#!/usr/bin/env python3
"""A nats-py worker of a queue group: a frame in, its answer as the reply, both in MessagePack.

    nats_worker.py URL SUBJECT BATCH OWN_SUBJECT

Runs are in the event loop: there is a process for each core already. With BATCH above 1 the frames that wait
already, BATCH at most, share a run; none waits for others to come. OWN_SUBJECT is outside the group, to
see that this worker is ready.
"""
import asyncio
import signal
import sys

import nats
import ormsgpack
import uvloop

from model import Model


async def serve(url, subject, batch, own_subject):
    model = Model()
    connection = await nats.connect(url, pending_size=64 << 20)
    limits = {"pending_msgs_limit": 4096, "pending_bytes_limit": 1 << 30}

    def features(message):
        return model.features(ormsgpack.unpackb(message.data)["samples"])

    async def alone(message):
        await message.respond(ormsgpack.packb(model.answers([features(message)])[0]))

    waiting = asyncio.Queue()

    async def together():
        while True:
            messages = [await waiting.get()]
            # What has arrived already takes a few turns of the loop from the socket to here.
            turns = 0
            while len(messages) < batch and turns < 3:
                if waiting.empty():
                    turns += 1
                    await asyncio.sleep(0)
                else:
                    messages.append(waiting.get_nowait())
            answers = model.answers([features(message) for message in messages])
            for message, answer in zip(messages, answers):
                await message.respond(ormsgpack.packb(answer))

    batches = asyncio.create_task(together())
    await connection.subscribe(
        subject, queue="peers", cb=alone if batch == 1 else waiting.put, **limits
    )
    await connection.subscribe(own_subject, cb=alone)
    await connection.flush()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, batches], return_when=asyncio.FIRST_COMPLETED)
    await connection.close()
    if batches.done():
        batches.result()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
