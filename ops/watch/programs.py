"""Starts the programs to check against, and queries them."""

import json
import math
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Failed(Exception):
    """The check cannot continue."""


def get(url, **query):
    url = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read().decode()


def until(what, check, seconds=60):
    """Waits until `check` returns something true; a network error counts as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := check():
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(stack, log, *command, **environment):
    """A process that ends with `stack`, asked first."""
    streams = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    process = subprocess.Popen(command, env={**os.environ, **environment}, **streams)

    def end():
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return process


class Collector:
    """Receives OTLP over HTTP and keeps it, until `stack` ends."""

    def __init__(self, stack):
        taken = self.taken = {"/v1/traces": b"", "/v1/metrics": b""}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                taken[self.path] += self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)


class Prometheus:
    """Its HTTP interface."""

    def __init__(self, url):
        self.url = url

    def ask(self, path, **query):
        answer = json.loads(get(f"{self.url}/api/v1/{path}", **query))
        if answer["status"] != "success":
            raise Failed(f"{path} {query}: {answer}")
        return answer["data"]

    def values(self, expr, begin):
        """Every number that `expr` had since then, by series."""
        end = time.time()
        try:
            series = self.ask("query_range", query=expr, start=begin, end=end, step=1)["result"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{expr}: {error.read().decode()}") from error
        numbers = ([float(value) for _, value in each["values"]] for each in series)
        return [kept for each in numbers if (kept := [number for number in each if not math.isnan(number)])]
