#!/usr/bin/env python3
"""mosec: a front in Rust, and worker processes that each do the whole work of their batch.

    PEER_BATCH=8 PEER_WORKERS=2 mosec_server.py --address 127.0.0.1 --port PORT …

POST /inference, MessagePack. One stage: with features and runs in stages of their own, each tensor would
cross a socket once more.
"""
import os

import ormsgpack
from mosec import Server, Worker

from model import Model

BATCH = int(os.environ["PEER_BATCH"])


class Whole(Worker):
    """Decodes, computes the features, runs, encodes"""

    def __init__(self):
        self.model = Model()

    def deserialize(self, data):
        return ormsgpack.unpackb(data)["samples"]

    def forward(self, data):
        frames = data if BATCH > 1 else [data]
        answers = self.model.answers([self.model.features(samples) for samples in frames])
        return answers if BATCH > 1 else answers[0]

    def serialize(self, data):
        return ormsgpack.packb(data)


if __name__ == "__main__":
    server = Server()
    # A millisecond is the shortest wait for others that mosec has; a batch of one waits for nobody.
    workers = int(os.environ["PEER_WORKERS"])
    server.append_worker(Whole, num=workers, max_batch_size=BATCH, max_wait_time=1)
    server.run()
