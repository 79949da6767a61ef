from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.cluster import SLOTS, ClusterShard, parse_cluster, slot_of, tags
from fastchannels.layers.redis.sentinel import MasterUnknown

from ..contract import ContractTests
from ..waits import HELLO, soon, until
from .clusters import Cluster, clustered
from .endings import run_many
from .test_sentinel import FAILOVER, Traffic
from .test_shards import name_at


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def hosts(cluster: Cluster) -> list[Any]:
    return [cluster.host]


class TestContract(ContractTests):
    def group_beside(self, layer: ChannelLayer) -> str:
        """One on the shard of the process: for others no order is promised."""
        assert isinstance(layer, RedisChannelLayer)
        return name_at(layer, layer._home)


def test_slots() -> None:
    assert slot_of("123456789") == 0x31C3
    assert slot_of("foo") == 12182


@pytest.mark.parametrize("count", [1, 6, 100])
def test_tags_have_equal_parts(count: int) -> None:
    assert [slot_of(tag) * count // SLOTS for tag in tags(count)] == list(range(count))
    assert len(set(tags(count))) == count


def answers(shard: ClusterShard, *answers: Any) -> tuple[list[int], Address]:
    """The ports that ``find`` asks, and what it returns, when the nodes answer so."""
    steps = shard.find()
    asked = [next(steps).port]
    try:
        for answer in answers:
            asked.append((steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)).port)
    except StopIteration as found:
        return asked, found.value
    raise AssertionError("it asked for more")


def test_the_master_of_the_slot_is_found() -> None:
    shards = parse_cluster({"cluster": [("a", 1), ["b", "2"]], "shards": 2, "password": "p"})
    assert [shard.name for shard in shards] == [f"{{{tag}}}" for tag in tags(2)]
    assert str(shards[0]) == "redis+cluster://a:1,b:2"
    assert shards[1].probe == ("EXISTS", f"{{{tags(2)[1]}}}")
    whole = [[0, 8191, [b"c", 3, b"id"], [b"d", 4, b"id"]], [8192, 16383, [None, 5, b"id", []], [b"", 6, b"id"]]]
    assert answers(shards[0], whole) == ([1], Address("c", 3, password="p"))
    # It has learned of the others, and begins with another.
    asked, found = answers(shards[1], OSError("gone"), [[0, 8191, [b"c", 3, b"id"]]], whole)
    assert asked == [4, 5, 6]
    assert (found.port, found.password) == (5, "p")
    with pytest.raises(MasterUnknown, match=r"c:3 gone"):
        answers(parse_cluster({"cluster": [("c", 3)]})[0], OSError("gone"))


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"cluster": True}, "a list"),
        ({"cluster": []}, "a list"),
        ({"cluster": ["a:1"]}, "host, port"),
        ({"cluster": [("a", 1)], "shards": 0}, "shards"),
        ({"cluster": [("a", 1)], "db": 1}, "one database"),
        ({"cluster": [("a", 1)], "pasword": 1}, "'pasword'.*'password'"),
    ],
)
def test_what_cannot_be(entry: Any, text: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=text):
        parse_cluster(entry)


def test_prefix_without_a_tag() -> None:
    with pytest.raises(InvalidChannelLayerError, match="prefix"):
        RedisChannelLayer(hosts=[{"cluster": [("a", 1)]}], prefix="{x}")


def test_loops_that_end_at_any_step_leave_nothing_behind(make_layer: Any, view_of: Any) -> None:
    assert run_many(make_layer, view_of, 30) == (0, [])


async def test_a_node_named_as_a_server(cluster: Cluster, make_layer: Any) -> None:
    layer = make_layer(hosts=[cluster.servers[0].url])
    with pytest.raises(LayerUnavailable, match=r"node of a Redis Cluster.*\{'cluster'"):
        await layer.send("jobs", HELLO)
    with pytest.raises(LayerUnavailable, match=r"node of a Redis Cluster.*\{'cluster'"):
        await asyncio.to_thread(layer.send_sync, "jobs", HELLO)


async def test_every_slot_moves_under_traffic(cluster: Cluster, make_layer: Any, view_of: Any) -> None:
    layer = make_layer(reconnect_timeout=FAILOVER)
    layer.heartbeat = 0.2
    traffic = Traffic(layer, view_of(layer))
    await traffic.start()
    await traffic.flows()
    for number, tag in enumerate(tags(6)):
        slot = slot_of(tag)
        masters = [server for server in cluster.servers[:3] if server is not cluster.owner(slot)]
        await asyncio.to_thread(cluster.move, slot, masters[number % 2])
        await traffic.flows()
    await traffic.stop()
    for kind, got in traffic.got.items():
        assert got == sorted(set(got)), f"{kind}: out of order, or twice"
        assert len(set(traffic.sent[kind]) - set(got)) <= 5, kind
    await layer.close()
    await traffic.other.close()


@pytest.mark.parametrize("carried", ["lease", "counter", "group"])
async def test_messages_keep_their_order_while_a_slot_is_in_two_places(
    cluster: Cluster, make_layer: Any, view_of: Any, carried: str
) -> None:
    layer = make_layer(reconnect_timeout=FAILOVER)
    other = view_of(layer)
    name, home = await layer.new_channel(), layer._home
    group = name_at(layer, home)
    await other.group_add(group, name)
    await other.group_send(group, {"n": -1})
    assert await soon(layer.receive(name)) == {"n": -1}
    # A full channel of the process: then all keys of a direct send are there.
    layer._tell_full(f"x.{layer.client_id}!full")
    keys = layer._shard_keys[home]
    key = {"lease": keys.lease, "counter": keys.counter}.get(carried, lambda _: keys.group(group))(layer.client_id)
    slot = slot_of(tags(6)[home])
    target = next(server for server in cluster.servers[:3] if server is not cluster.owner(slot))
    await other.send(name, {"n": -2})
    assert await soon(layer.receive(name)) == {"n": -2}
    await asyncio.to_thread(cluster.begin_move, slot, target, key)
    sending = []
    for n in range(0, 20, 2):
        sending.append(asyncio.create_task(other.group_send(group, {"n": n})))
        sending.append(asyncio.create_task(other.send(name, {"n": n + 1})))
        await asyncio.sleep(0.01)
    assert not any(task.done() for task in sending), "they wait"
    await asyncio.to_thread(cluster.move, slot, target)
    await asyncio.wait_for(asyncio.gather(*sending), FAILOVER)
    assert [(await soon(layer.receive(name)))["n"] for _ in range(20)] == list(range(20))
    await layer.close()
    await other.close()


async def test_work_goes_on_without_a_master(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    with clustered(tmp_path, 1.0) as cluster:
        layer = make_layer(hosts=[cluster.host], reconnect_timeout=FAILOVER)
        layer.heartbeat = 0.2
        traffic = Traffic(layer, view_of(layer))
        await traffic.start()
        await traffic.flows()
        slot = slot_of(tags(6)[layer.shards.of("jobs")])
        first = cluster.owner(slot)
        await asyncio.to_thread(first.kill)
        await traffic.flows()
        # The nodes hear of it one by one.
        await until(lambda: cluster.owner(slot) is not first)
        await traffic.stop()
        for kind, got in traffic.got.items():
            assert got == sorted(set(got)), f"{kind}: out of order, or twice"
            # What the old master acknowledged last, and had not told its replica.
            assert len(set(traffic.sent[kind]) - set(got)) <= 100, kind
        await layer.close()
        await traffic.other.close()
