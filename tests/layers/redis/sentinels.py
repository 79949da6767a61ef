"""A replicated Redis and its Sentinels, of the tests' own."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from ..redis_server import BINARY, RedisServer, free_port

NAME = "themaster"


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


class Replicated:
    """A master, ``replicas`` and three Sentinels that take half a second of silence for death."""

    def __init__(self, directory: Path, replicas: int = 2) -> None:
        self._directory = directory
        quick = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.servers = [RedisServer(directory, *quick)]
        follow = ("--replicaof", "127.0.0.1", str(self.servers[0].port))
        self.servers += [RedisServer(directory, *quick, *follow) for _ in range(replicas)]
        self.ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    def start(self) -> Replicated:
        for server in self.servers:
            server.start()
        with self.servers[0].client() as client:
            wait_for(
                lambda: (
                    sum(str(row).count("online") for row in client.info("replication").values())
                    == len(self.servers) - 1
                )
            )
        for port in self.ports:
            config = self._directory / f"sentinel-{port}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {self._directory}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} 2\n"
                f"sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 5000\n"
            )
            assert BINARY is not None
            self._sentinels.append(subprocess.Popen([BINARY, str(config), "--sentinel"], stdout=subprocess.DEVNULL))
        for port in self.ports:
            with redis.Redis(port=port) as client:
                wait_for(lambda client=client: self._knows_all(client))  # type: ignore[misc]
        return self

    def _knows_all(self, client: Any) -> bool:
        # As plain commands: redis-py 6 cannot parse the answers to its own methods for Sentinels.
        answer = client.execute_command("SENTINEL", "MASTER", NAME)
        state = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
        return int(state[b"num-slaves"]) == len(self.servers) - 1 and int(state[b"num-other-sentinels"]) == 2

    @property
    def host(self) -> dict[str, Any]:
        """An entry of CONFIG ``hosts``."""
        return {"sentinels": [("127.0.0.1", port) for port in self.ports], "master_name": NAME}

    def master(self) -> RedisServer:
        """What the first Sentinel takes for the master."""
        with redis.Redis(port=self.ports[0]) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(server for server in self.servers if server.port == int(port))

    def kill(self) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait(10)
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def replicated(directory: Path) -> Iterator[Replicated]:
    cluster = Replicated(directory)
    try:
        yield cluster.start()
    finally:
        cluster.kill()
