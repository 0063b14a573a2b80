#!/usr/bin/env python3
"""FastAPI with JSON in and out, and a cache in Redis: a design that is often drawn for such a service.

    PEER_REDIS=PORT PEER_WORKERS=2 fastapi_server.py PORT

POST /predict: `samples` in base64, or `iq_data` as a list of pairs. The answer is looked up by the SHA-256
of the body before anything else, and stored for an hour. Bodies are read with orjson and not through a
model of pydantic, which would look at every number of a list. Runs are in the event loop: there is a process
for each core already.
"""
import base64
import hashlib
import os
import sys

import numpy as np
import orjson
import redis.asyncio
import uvicorn
from fastapi import FastAPI, Request, Response

from model import Model


def make():
    app, model = FastAPI(), Model()
    cache = redis.asyncio.Redis(host="127.0.0.1", port=int(os.environ["PEER_REDIS"]))

    @app.post("/predict")
    async def predict(request: Request):
        body = await request.body()
        key = b"prediction:" + hashlib.sha256(body).digest()
        answer = await cache.get(key)
        if answer is None:
            frame = orjson.loads(body)
            if "samples" in frame:
                samples = base64.b64decode(frame["samples"])
            else:
                samples = np.array(frame["iq_data"], np.float32)
            answer = orjson.dumps(model.answers([model.features(samples)])[0])
            await cache.setex(key, 3600, answer)
        return Response(answer, media_type="application/json")

    return app


# In the processes that serve, which import this file by its name.
app = make() if __name__ == "fastapi_server" else None

if __name__ == "__main__":
    uvicorn.run(
        "fastapi_server:app",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=int(os.environ["PEER_WORKERS"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=600,
    )
