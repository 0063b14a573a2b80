#!/usr/bin/env python3
"""LitServe: FastAPI in front of worker processes.

    PEER_BATCH=1 PEER_WORKERS=2 litserve_server.py PORT

POST /predict, MessagePack. LitServe reads bodies as JSON or forms; a dependency of FastAPI in the annotation
of decode_request gives the bytes themselves.
"""
import os
import sys
from typing import Annotated

import litserve
import ormsgpack
from fastapi import Depends, Request, Response

from model import Model

BATCH = int(os.environ["PEER_BATCH"])


async def body(request: Request):
    return await request.body()


class Api(litserve.LitAPI):
    """Decodes, computes the features, runs, encodes"""

    def setup(self, device):
        self.model = Model()

    def decode_request(self, request: Annotated[bytes, Depends(body)]):
        return self.model.features(ormsgpack.unpackb(request)["samples"])

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, frames):
        return self.model.answers([frames])[0] if BATCH == 1 else self.model.answers(frames)

    def encode_response(self, output):
        return Response(ormsgpack.packb(output), media_type="application/msgpack")


if __name__ == "__main__":
    # With no wait for others its batching loop would take a whole core while it is idle. As many fronts as
    # workers, its default, were faster than one; its ZeroMQ queue was not faster than the default one.
    api = Api(max_batch_size=BATCH, batch_timeout=0.001 if BATCH > 1 else 0.0)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        generate_client_file=False,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http="httptools",
    )
