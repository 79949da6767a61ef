from __future__ import annotations

from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.cluster import parse_cluster
from fastchannels.layers.redis.places import is_cluster, misplaced, probes, tag_of

NODE = [b"server", b"redis", b"mode", b"cluster", b"role", b"master"]
ALONE = [b"server", b"redis", b"mode", b"standalone", b"role", b"master"]


def test_a_shard_of_a_cluster_has_a_tag_and_a_probe() -> None:
    shard = parse_cluster({"cluster": [("a", 1)], "shards": 1})[0]
    assert (tag_of(shard), probes(shard)) == (shard.tag, [("EXISTS", f"{{{shard.tag}}}")])
    assert (tag_of(Address()), probes(Address())) == ("", [])


def test_nodes_tell_themselves_from_servers() -> None:
    assert is_cluster(NODE)
    for hello in (ALONE, Exception("unknown command"), None, [b"mode"]):
        assert not is_cluster(hello)
    assert "'cluster'" in misplaced(Address(), NODE)
    assert misplaced(Address(), ALONE) == ""
    assert misplaced(parse_cluster({"cluster": [("a", 1)]})[0], NODE) == ""
