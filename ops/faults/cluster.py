"""Three or four nats-servers in a cluster, with three copies of each stream."""

import asyncio
import shutil

from harness import DURABLE, FRAMES, NATS_SERVER, OUTCOMES, World
from process import Process, free_port, until

CONFIG = """server_name: {name}
listen: "127.0.0.1:{client}"
jetstream {{ store_dir: "{store}", max_file_store: 4GB }}
cluster {{ name: faults, listen: "127.0.0.1:{route}", routes: [{routes}] }}
# The shortest that nats-server takes.
lame_duck_duration: 30s
lame_duck_grace_period: 1s
"""


class Cluster(World):
    """A world on several servers; a daemon and the client know all of them."""

    def __init__(self, sferic, servers=3, **settings):
        super().__init__(sferic, JETSTREAM__REPLICAS="3", **settings)
        self.count = servers

    async def start_servers(self):
        names = [f"s{number}" for number in range(1, self.count + 1)]
        ports = {name: (free_port(), free_port()) for name in names}
        self.urls = [f"nats://127.0.0.1:{client}" for client, _ in ports.values()]
        routes = ", ".join(f'"nats://127.0.0.1:{route}"' for _, route in ports.values())
        for name, (client, route) in ports.items():
            config = self.folder / f"{name}.conf"
            values = {"name": name, "client": client, "route": route, "routes": routes}
            config.write_text(CONFIG.format(store=self.store(name), **values))
            command = [str(NATS_SERVER), "-c", str(config)]
            self.servers.append(Process(name, self.folder / f"{name}.log", *command))

    def store(self, name):
        return self.folder / "store" / name

    def blocks(self, name, stream=FRAMES):
        """The files of a stream's messages in one server's store, in order."""
        found = self.store(name).glob(f"jetstream/*/streams/{stream}/msgs/*.blk")
        return sorted(found, key=lambda path: int(path.stem))

    def named(self, name):
        return next(server for server in self.servers if server.name == name)

    async def __aenter__(self):
        await super().__aenter__()
        try:
            # Also the elections have to be over.
            await until("JetStream", lambda: self.api("INFO"), 60)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def group(self, stream, consumer=None):
        """The leader of a stream or consumer and its other servers."""
        subject = f"CONSUMER.INFO.{stream}.{consumer}" if consumer else f"STREAM.INFO.{stream}"
        return (await self.api(subject))["cluster"]

    async def groups(self):
        """By the name of what they hold: both streams and the consumer."""
        return {
            FRAMES: await self.group(FRAMES), OUTCOMES: await self.group(OUTCOMES),
            DURABLE: await self.group(FRAMES, DURABLE),
        }

    async def healed(self, seconds=60):
        """Waits until every group has a leader and two others, all of them current."""
        async def check():
            self.check_alive()
            groups = (await self.groups()).values()
            others = [group.get("replicas", []) for group in groups]
            is_whole = all(group.get("leader") for group in groups) and all(len(each) == 2 for each in others)
            current = [each["current"] and not each.get("offline") for some in others for each in some]
            return is_whole and all(current)

        await until("three copies of everything", check, seconds, pause=0.2)

    async def step_down(self, what, to=None):
        """Lets the leader of a stream, or of the consumer, step down, maybe in favour of a server."""
        subject = f"CONSUMER.LEADER.STEPDOWN.{FRAMES}.{DURABLE}" if what == DURABLE else (
            f"STREAM.LEADER.STEPDOWN.{what}"
        )
        body = {"placement": {"preferred": to}} if to else {}
        await self.api(subject, **body)

    async def lead(self, name, what, seconds=60):
        """Makes a server the leader of a stream or the consumer."""
        async def check():
            group = (await self.groups())[what]
            if group.get("leader") == name:
                return True
            await self.step_down(what, to=name)
            await asyncio.sleep(1)
            return False

        await until(f"{name} leads {what}", check, seconds, pause=0.5)

    async def replace_empty(self, name, seconds):
        """Kills a server, deletes its store, and after some seconds starts it with nothing."""
        server = self.named(name)
        server.kill()
        await server.ended()
        shutil.rmtree(self.store(name))
        await asyncio.sleep(seconds)
        server.start()
