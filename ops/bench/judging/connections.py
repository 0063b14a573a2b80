"""Asks a daemon over a plain socket, one request at a time: HTTP/1.1 that is kept alive, or NATS.

The whole of a request is made beforehand, so that what is measured is the daemon and not Python.
"""

import json
import os
import socket
import struct

# Seconds for one answer.
PATIENCE = 30


def connected(host, port):
    """A socket whose calls block for PATIENCE at most, without the poll that Python makes before each."""
    made = socket.create_connection((host, port), timeout=PATIENCE)
    made.settimeout(None)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        made.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
    return made


class Reader:
    """What has come on a socket and is not taken yet."""

    def __init__(self, made):
        self.socket = made
        self.buffer = bytearray(1 << 16)
        self.begin = self.end = 0

    def fill(self, needed):
        """Waits for more, where there is room for `needed` bytes from the first that is not taken."""
        if self.begin == self.end:
            self.begin = self.end = 0
        if self.begin + needed > len(self.buffer) or self.end == len(self.buffer):
            rest = self.buffer[self.begin : self.end]
            self.buffer = rest + bytearray(max(needed, 1 << 16))
            self.begin, self.end = 0, len(rest)
        got = self.socket.recv_into(memoryview(self.buffer)[self.end :])
        if got == 0:
            raise ConnectionError("the other side has closed the connection")
        self.end += got

    def until(self, mark):
        """Takes the bytes before `mark`, and `mark`."""
        while (at := self.buffer.find(mark, self.begin, self.end)) < 0:
            self.fill(self.end - self.begin + 1)
        found = bytes(self.buffer[self.begin : at])
        self.begin = at + len(mark)
        return found

    def take(self, length):
        while self.end - self.begin < length:
            self.fill(length)
        found = bytes(self.buffer[self.begin : self.begin + length])
        self.begin += length
        return found


class Http:
    """A connection to the daemon's HTTP server."""

    def __init__(self, host, port):
        self.socket = connected(host, port)
        self.reader = Reader(self.socket)

    @staticmethod
    def request(frame, host, port):
        """All bytes of a call with this frame."""
        kind = "application/msgpack"
        lines = ["POST /api/v1/inference/predict HTTP/1.1", f"Host: {host}:{port}", f"Content-Type: {kind}"]
        lines += [f"Accept: {kind}", f"Content-Length: {len(frame)}", "", ""]
        return "\r\n".join(lines).encode() + frame

    def ask(self, request):
        """Whether the answer is a prediction, and the answer."""
        self.socket.sendall(request)
        status, *lines = self.reader.until(b"\r\n\r\n").split(b"\r\n")
        headers = dict(line.lower().split(b":", 1) for line in lines)
        body = self.reader.take(int(headers[b"content-length"]))
        return status.split()[1] == b"200", body


class Nats:
    """A connection to a NATS server, on which the daemon answers requests."""

    def __init__(self, host, port, prefix="iq"):
        self.socket = connected(host, port)
        self.reader = Reader(self.socket)
        name = os.urandom(8).hex()
        self.inbox, self.subject = f"_INBOX.{name}", f"{prefix}.frames.loadgen.{name}"
        self.reader.until(b"\r\n")
        options = {"verbose": False, "headers": True, "no_responders": True, "lang": "python", "version": "0"}
        hello = f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox} 1\r\nPING\r\n"
        self.socket.sendall(hello.encode())
        while (line := self.reader.until(b"\r\n")) != b"PONG":
            if line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())

    @staticmethod
    def request(frame, _host, _port):
        return frame + b"\r\n"

    def ask(self, request):
        """Whether the answer is a prediction, and the answer."""
        head = f"PUB {self.subject} {self.inbox} {len(request) - 2}\r\n".encode()
        sent = self.socket.sendmsg([head, request])
        if sent < len(head) + len(request):
            self.socket.sendall((head + request)[sent:])
        while True:
            word, *rest = self.reader.until(b"\r\n").split()
            if word == b"PING":
                self.socket.sendall(b"PONG\r\n")
            elif word == b"MSG":
                body = self.reader.take(int(rest[-1]))
                self.reader.until(b"\r\n")
                return True, body
            elif word == b"HMSG":
                before, all_of_it = map(int, rest[-2:])
                headers, body = self.reader.take(before), self.reader.take(all_of_it - before)
                self.reader.until(b"\r\n")
                is_failure = headers.startswith(b"NATS/1.0 ") or b"Nats-Service-Error-Code" in headers
                return not is_failure, body
            elif word == b"-ERR":
                raise ConnectionError(b" ".join(rest).decode())
