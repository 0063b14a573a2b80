"""Publishes one frame, a tone in noise, and prints its prediction: pip install nats-py msgpack numpy"""
import asyncio

import msgpack
import nats
import numpy as np


async def main(url="nats://127.0.0.1:4222", rate=48_000):
    t, noise = np.arange(8192) / rate, np.random.default_rng().normal(0, 0.05, (2, 8192))
    iq = (0.5 * np.exp(2j * np.pi * 3000 * t) + noise[0] + 1j * noise[1]).astype(np.complex64)
    frame = {
        "samples": iq.tobytes(),
        "datatype": "cf32_le",
        "sample_rate": float(rate),
        "model": "modulation",
        "timeout_ms": 2000,
    }
    connection = await nats.connect(url)
    reply = await connection.request("iq.frames.python", msgpack.packb(frame), timeout=10)
    outcome = msgpack.unpackb(reply.data)  # with `labels`, or with a failure's `code` and `message`
    print(outcome.get("labels") or f"{outcome['code']}: {outcome['message']}")
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
