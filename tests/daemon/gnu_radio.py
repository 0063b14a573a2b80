"""Sends numbered samples as GNU Radio's ZeroMQ sinks do: sink.py PUB|PUSH plain|tagged PORT MESSAGES.

The real libzmq, without GNU Radio. Sample n is n as little-endian I and n + 1 as Q, in ci16_le; a message
holds 64. Binds, waits until somebody is connected, and for a line on standard input before each half of the
messages.
"""

import struct
import sys
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

PER_MESSAGE = 64


def message(index, is_tagged):
    numbers = range(index, index + PER_MESSAGE)
    samples = b"".join(struct.pack("<HH", n & 0xFFFF, (n + 1) & 0xFFFF) for n in numbers)
    if not is_tagged:
        return samples
    # As gr-zeromq/lib/tag_headers.cc: magic, version, offset, tags; a tag is its offset and three PMTs.
    freq = b"\x02\x00\x07rx_freq" + b"\x04" + struct.pack(">d", 868e6) + b"\x02\x00\x01u"
    return struct.pack("<HBQQ", 0x5FF0, 1, index, 1) + struct.pack("<Q", index) + freq + samples


def main(kind, form, port, messages):
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    socket.bind(f"tcp://127.0.0.1:{port}")
    recv_monitor_message(monitor)
    # A subscription comes after the handshake.
    time.sleep(0.5)
    for n in range(messages):
        if n % (messages // 2) == 0:
            print("ready", flush=True)
            if not sys.stdin.readline():
                break
        socket.send(message(n * PER_MESSAGE, form == "tagged"))
    print("sent", flush=True)
    sys.stdin.read()
    context.destroy(linger=0)


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
