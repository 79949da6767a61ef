"""fastchannels.layers.redis beside channels_redis: sender and receiver in processes of their own, one Redis."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from benchmarks.parts import HERE, OURS, PEERS, next_record, running

DRIVER = str(HERE / "drivers" / "layer.py")
RIVALS = ("fastchannels", "core", "pubsub")


def driver(layer: str, role: str, url: str, seconds: float, channel: object = None, credit: int | None = None):
    """One driver process, run by the interpreter of its layer."""
    command = [OURS if layer == "fastchannels" else PEERS, DRIVER, layer, role, url, str(seconds)]
    if channel is not None:
        command.append(str(channel))
    descriptors: tuple[int, ...] = ()
    if credit is not None:
        command += ["--credit", str(credit)]
        descriptors = (credit,)
    return running(command, stdout=subprocess.PIPE, pass_fds=descriptors)


def one_way(layer: str, url: str, seconds: float) -> dict[str, float]:
    with driver(layer, "receive_one_way", url, seconds) as receiver:
        channel = next_record(receiver)["channel"]
        with driver(layer, "send_one_way", url, seconds, channel) as sender:
            sent = next_record(sender)
        got = next_record(receiver)
    return {
        "messages/s": got["received"] / got["seconds"],
        "client CPU, µs a message": (sent["cpu"] + got["cpu"]) / got["received"] * 1e6,
        "lost": sent["sent"] - got["received"],
    }


def round_trip(layer: str, url: str, seconds: float) -> dict[str, float]:
    with driver(layer, "echo", url, seconds) as answerer:
        channel = next_record(answerer)["channel"]
        with driver(layer, "ping", url, seconds, channel) as caller:
            return {"p50, µs": next_record(caller)["p50_us"]}


def group(layer: str, url: str, seconds: float) -> dict[str, float]:
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"xxx")  # four group messages under way at a time
        with driver(layer, "receive_group", url, seconds, credit=write_end) as receiver:
            channel = next_record(receiver)["channel"]
            with driver(layer, "send_group", url, seconds, channel, credit=read_end) as sender:
                sent = next_record(sender)
            got = next_record(receiver)
    finally:
        os.close(read_end)
        os.close(write_end)
    return {
        "deliveries/s": got["received"] / got["seconds"],
        "client CPU, µs a delivery": (sent["cpu"] + got["cpu"]) / got["received"] * 1e6,
        "lost": sent["sent"] - got["received"],
    }


SCENARIOS: dict[str, Callable[[str, str, float], dict[str, float]]] = {
    "64 sends in flight, one receiver": one_way,
    "sequential round trip": round_trip,
    "group of 1,000 in one process": group,
}
