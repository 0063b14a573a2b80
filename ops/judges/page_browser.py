"""A browser, a NATS client and the frames that ops/judges/page.py judges the operator's page with."""

import asyncio
import contextlib
import json
import math
import shutil
import threading
import time
import urllib.request

import msgpack
import nats
import numpy as np
from playwright.sync_api import sync_playwright

PATIENCE_S = 30
TOKEN = "secret"


class Bus:
    """A NATS client with a loop of its own: the browser's driver has another one."""

    def __init__(self, url):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.client = self.run(nats.connect(url))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def publish(self, source, frame):
        self.run(self.client.publish(f"iq.frames.{source}", msgpack.packb(frame)))


def fix(frame_id, latitude, longitude, **more):
    """A frame that the model `degrees` puts there: 90·I and 360·Q degrees."""
    sample = np.array([latitude / 90, longitude / 360], dtype="<f4").tobytes()
    return {"frame_id": frame_id, "samples": 64 * sample, "datatype": "cf32_le", "sample_rate": 1e6, **more}


def outcomes(page_url, count, query="types=outcome"):
    """The next outcomes as events have them; a function that waits for them."""
    stream = urllib.request.urlopen(f"{page_url}api/v1/events?{query}", timeout=PATIENCE_S)
    assert stream.readline().startswith(b"retry"), "no stream of events"

    def read():
        found = []
        while len(found) < count:
            line = stream.readline()
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
        stream.close()
        return found

    return read


def wait_for(what, condition):
    """Waits until a condition holds, and gives what it is."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        held = condition()
        if held:
            return held
        assert time.monotonic() < deadline, f"{what} is not seen within {PATIENCE_S} s"
        time.sleep(0.1)


@contextlib.contextmanager
def browser_page(url, strange_statuses=(), **options):
    """A page in Chromium that asks nobody but its own server, and says nothing on the console."""
    program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser"])))
    said, asked = [], []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_page(**{"viewport": {"width": 1440, "height": 1000}, **options})
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        yield page
        browser.close()
    origin = url.split("/", 3)[:3]
    strangers = [
        each for each in asked if each.split("/", 3)[:3] != origin and not each.startswith(("blob:", "data:"))
    ]
    assert asked and not strangers, f"requests elsewhere: {strangers}"
    # What is expected, and what the checks' own reading of pictures is about.
    expected = [f"status of {status}" for status in strange_statuses] + ["willReadFrequently", "verbose: "]
    said = [line for line in said if not any(part in line for part in expected)]
    assert not said, f"on the console: {said}"


def connected(page):
    page.wait_for_selector('#status[data-state="ok"]')


def project(latitude, longitude):
    """Web Mercator, a world of 256."""
    sine = math.sin(math.radians(latitude))
    return (longitude / 360 + 0.5) * 256, (0.5 - math.log((1 + sine) / (1 - sine)) / (4 * math.pi)) * 256
