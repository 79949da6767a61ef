"""A Redis Cluster of the tests' own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from ..redis_server import RedisServer
from .sentinels import wait_for

SLOTS = 16384
#: A node speaks to the others on a port that is so much higher (before Redis 7 no other can be set).
BUS = 10000


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


class Cluster:
    """Three masters with a third of the slots and a replica each; ``patience`` seconds of silence are death."""

    def __init__(self, directory: Path, patience: float) -> None:
        self.servers: list[RedisServer] = []
        while len(self.servers) < 6:
            options = (
                *("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{len(self.servers)}.conf"),
                *("--cluster-node-timeout", str(round(patience * 1000)), "--repl-diskless-sync-delay", "0"),
                *("--repl-ping-replica-period", "1", "--cluster-replica-validity-factor", "0"),
            )
            server = RedisServer(directory, *options)
            if is_free(server.port + BUS):
                self.servers.append(server)

    def cluster(self, server: RedisServer, *command: Any) -> Any:
        """The plain answer of ``CLUSTER``."""
        connection = redis.Connection(port=server.port)
        try:
            connection.send_command("CLUSTER", *command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def start(self) -> Cluster:
        for server in self.servers:
            server.start()
        for number, server in enumerate(self.servers):
            self.cluster(server, "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                self.cluster(server, "ADDSLOTS", *range(SLOTS * number // 3, SLOTS * (number + 1) // 3))
        for server in self.servers[1:]:
            self.cluster(self.servers[0], "MEET", "127.0.0.1", server.port)
        wait_for(lambda: all(self._info(server, "cluster_known_nodes") == "6" for server in self.servers))
        for master, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            self.cluster(replica, "REPLICATE", self.number(master))
        wait_for(lambda: all(self._info(server, "cluster_state") == "ok" for server in self.servers))
        for server in self.servers[3:]:
            with server.client() as client:
                wait_for(lambda client=client: client.info("replication").get("master_link_status") == "up")  # type: ignore[misc]
        return self

    def _info(self, server: RedisServer, field: str) -> str:
        lines = self.cluster(server, "INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)[field]

    def number(self, server: RedisServer) -> str:
        """The identifier of a node."""
        name: str = self.cluster(server, "MYID").decode()
        return name

    def owner(self, slot: int) -> RedisServer:
        """The master of ``slot``, as the last server that runs has it."""
        running = next(server for server in reversed(self.servers) if server._process is not None)
        for first, last, (_, port, *_), *_ in self.cluster(running, "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def begin_move(self, slot: int, target: RedisServer, *keys: str) -> RedisServer:
        """Prepare a :meth:`move`, and carry ``keys`` over; returns the node that has the others still."""
        source = self.owner(slot)
        self.cluster(target, "SETSLOT", slot, "IMPORTING", self.number(source))
        self.cluster(source, "SETSLOT", slot, "MIGRATING", self.number(target))
        if keys:
            self._carry(source, target, keys)
        return source

    def _carry(self, source: RedisServer, target: RedisServer, keys: Any) -> None:
        connection = redis.Connection(port=source.port)
        try:
            connection.send_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            connection.read_response()
        finally:
            connection.disconnect()

    def move(self, slot: int, target: RedisServer) -> None:
        """As ``redis-cli --cluster reshard`` does."""
        source = self.begin_move(slot, target)
        while keys := self.cluster(source, "GETKEYSINSLOT", slot, 10):
            self._carry(source, target, keys)
        for server in (target, source, *(s for s in self.servers[:3] if s not in (source, target))):
            self.cluster(server, "SETSLOT", slot, "NODE", self.number(target))

    @property
    def host(self) -> dict[str, Any]:
        """An entry of CONFIG ``hosts``."""
        return {"cluster": [("127.0.0.1", server.port) for server in self.servers[:2]]}

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def clustered(directory: Path, patience: float = 30.0) -> Iterator[Cluster]:
    cluster = Cluster(directory, patience)
    try:
        yield cluster.start()
    finally:
        cluster.kill()
