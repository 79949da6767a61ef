"""Holds the sockets of a room, says something from one of them, and waits until all have it: ``PORT MEMBERS SECONDS``.

Prints {"members"} when all are in, then {"count", "seconds", "client_cpu", "p50", "p99"}: deliveries, and milliseconds
from a send to the last receipt. Every byte is counted: a lost delivery fails the run after ten seconds.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from benchmarks.servers_load import HANDSHAKE, TEXT, frame

SAID = b"x" * 64
PATIENCE = 10.0
EVENTS = 1024


def enter(port: int) -> socket.socket:
    member = socket.create_connection(("127.0.0.1", port), PATIENCE)
    member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    member.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += member.recv(1)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"refused: {head!r}")
    return member


class Room:
    def __init__(self, port: int, members: int) -> None:
        self.poll = select.epoll()
        self.members = {}
        for _ in range(members):
            member = enter(port)
            member.setblocking(False)
            self.members[member.fileno()] = member
            self.poll.register(member, select.EPOLLIN)
        self.speaker = member

    def say(self, most: float = PATIENCE) -> int:
        """Bytes that came until all members had the message, or until ``most`` seconds have passed."""
        self.speaker.sendall(frame(TEXT, SAID))
        wanted = len(self.members) * (2 + len(SAID))
        got = 0
        end = time.perf_counter() + most
        while got < wanted and time.perf_counter() < end:
            for number, _ in self.poll.poll(0.1, EVENTS):
                got += len(self.members[number].recv(65536))
        return got - wanted


def main() -> None:
    port, members, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    room = Room(port, members)
    end = time.perf_counter() + PATIENCE
    while room.say(1.0) != 0:  # the last ones may still be on their way in
        if time.perf_counter() > end:
            raise SystemExit("not all members hear")
    for _ in range(3):
        room.say()
    print(json.dumps({"members": members}), flush=True)
    taken = []
    begun, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() < begun + seconds or len(taken) < 3:
        said = time.perf_counter()
        if room.say() != 0:
            raise SystemExit("deliveries were lost")
        taken.append((time.perf_counter() - said) * 1000)
    spent = time.perf_counter() - begun
    taken.sort()
    figures = {"count": members * len(taken), "seconds": spent, "client_cpu": time.process_time() - cpu}
    figures |= {"p50": taken[len(taken) // 2], "p99": taken[len(taken) * 99 // 100]}
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
