"""A TCP proxy on loopback that delays, cuts or swallows what goes through it."""

import asyncio
import random

from process import free_port

CHUNK = 1 << 16


class Link:
    """A connection through the proxy: both of its ends."""

    def __init__(self, writers):
        self.writers, self.is_swallowing, self.is_to_be_cut = writers, False, False

    def close(self):
        for writer in self.writers:
            writer.close()


class Proxy:
    """Passes what it gets on to a port; `delay` is the range of seconds that each piece waits."""

    def __init__(self, port):
        self.target, self.port, self.links = port, free_port(), set()
        self.delay = None
        self.cuts = self.swallowed = self.connections = self.delayed = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.close()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def close(self):
        for link in list(self.links):
            link.close()

    def cut(self):
        """Each connection ends with the next piece that passes, somewhere within it."""
        for link in self.links:
            link.is_to_be_cut = True

    def swallow(self):
        """Nothing passes any more, and the connections stay open."""
        for link in self.links:
            link.is_swallowing = True

    async def connected(self, reader, writer):
        self.connections += 1
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        link = Link((writer, there[1]))
        self.links.add(link)
        try:
            await asyncio.gather(
                self.pass_on(reader, there[1], link), self.pass_on(there[0], writer, link)
            )
        except OSError:
            pass
        finally:
            self.links.discard(link)
            link.close()

    async def pass_on(self, reader, writer, link):
        while piece := await reader.read(CHUNK):
            if link.is_swallowing:
                self.swallowed += len(piece)
                continue
            if link.is_to_be_cut and len(piece) > 1:
                self.cuts += 1
                writer.write(piece[: random.randrange(1, len(piece))])
                break
            if self.delay:
                self.delayed += 1
                await asyncio.sleep(random.uniform(*self.delay))
            writer.write(piece)
            await writer.drain()
        link.close()
