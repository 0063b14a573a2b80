"""Answers HTTP requests from memory: each path's first request goes to the daemon, later ones get its answer.

What a load generator measures of it is the generator's own time, and that of a socket.
"""

import http.client
import socket
import threading

from connections import Reader


class Replay:
    """A server on loopback in front of the daemon at `host:port`, until `stack` ends."""

    def __init__(self, stack, host, port):
        self.daemon, self.answers, self.first = (host, port), {}, None
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        stack.callback(lambda: listener.shutdown(socket.SHUT_RDWR))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                taken = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(taken,), daemon=True).start()

    def serve(self, taken):
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = Reader(taken)
        try:
            while True:
                head = reader.until(b"\r\n\r\n")
                line, *lines = head.split(b"\r\n")
                headers = {
                    name.lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines)
                }
                if headers.get(b"expect", b"").lower() == b"100-continue":
                    taken.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = reader.take(int(headers.get(b"content-length", 0)))
                asked = line.rsplit(b" ", 1)[0]
                taken.sendall(self.answer(asked, headers, body))
        except OSError:
            taken.close()

    def answer(self, asked, headers, body):
        is_of_counters = asked.endswith(b"/stats")
        if is_of_counters and self.first:
            # perf_analyzer gives up where they do not move.
            self.forward(*self.first)
        if asked not in self.answers or is_of_counters:
            self.answers[asked] = self.forward(asked.decode(), headers, body)
            self.first = (asked.decode(), headers, body) if body else self.first
        return self.answers[asked]

    def forward(self, asked, headers, body):
        method, path = asked.split(" ", 1)
        kept = {name.decode(): value.decode() for name, value in headers.items()}
        connection = http.client.HTTPConnection(*self.daemon, timeout=30)
        connection.request(method, path, body, {**kept, "host": "{}:{}".format(*self.daemon)})
        answer = connection.getresponse()
        body = answer.read()
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", f"content-length: {len(body)}"]
        for name in ("content-type", "inference-header-content-length"):
            lines += [f"{name}: {value}"] if (value := answer.getheader(name)) else []
        connection.close()
        return "\r\n".join([*lines, "", ""]).encode() + body
