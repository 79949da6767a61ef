from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastchannels._core import shm
from fastchannels._core.shm import Address, Segment, SegmentGone, Waiter
from fastchannels.exceptions import CorruptSegmentError, InvalidChannelLayerError, LayerUnavailable

MIB = 1024 * 1024
FOREVER = 60_000


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    segment = Segment(str(tmp_path / "shm"), MIB, "a" * 32)
    yield segment
    if not segment.closed:
        assert segment.check() is None
        segment.close()


@pytest.mark.parametrize("size", [0, 1, 335, 336, 337, 703, 704, 705, 8150, 8192, 65536, 300_000])
def test_payload_of_any_size(segment: Segment, size: int) -> None:
    payload = os.urandom(size)
    assert segment.send("jobs", payload, 10, FOREVER) == shm.SENT
    assert segment.send_local("a" * 32, "x!" + "y" * 97, payload, 10, FOREVER) == shm.SENT
    assert segment.take(["none", "jobs"]) == ("jobs", payload)
    assert segment.take(["none", "!" + "a" * 32]) == ("!" + "a" * 32, payload)
    assert segment.take(["jobs"]) is None
    assert segment.counts()["room_used"] == 0


def test_outcomes(segment: Segment) -> None:
    assert segment.send("jobs", b"1", 1, FOREVER) == shm.SENT
    assert segment.send("jobs", b"2", 1, FOREVER) == shm.FULL
    assert segment.send("more", b"x" * 2 * MIB, 1, FOREVER) == shm.NO_ROOM
    assert segment.send_local("b" * 32, "x!y", b"", 1, FOREVER) == shm.GONE
    assert segment.send_local("", "x!y", b"", 1, FOREVER) == shm.GONE
    assert segment.add("g", "b" * 32, "x!y", 1) == shm.GONE
    segment.mark("x!y", True)
    assert segment.send_local("a" * 32, "x!y", b"", 1, FOREVER) == shm.FULL
    segment.mark("x!y", False)
    assert segment.send_local("a" * 32, "x!y", b"", 1, FOREVER) == shm.SENT
    assert segment.pending("jobs")[0] == 1
    segment.skip(61)
    assert segment.pending("jobs") == (0, 0.0)
    assert segment.take(["jobs"]) is None


def test_many_names(segment: Segment) -> None:
    names = [f"channel.{n}" for n in range(100)]
    assert segment.take([]) is None
    assert segment.take(names) is None
    for name in names:
        segment.send(name, name.encode(), 10, FOREVER)
    assert segment.take(names, 42) == ("channel.42", b"channel.42")
    assert segment.take(names, 142) == ("channel.43", b"channel.43")
    waiter = Waiter(segment)
    assert waiter.arm(names) == 0
    assert len([segment.take(names) for _ in range(98)]) == 98
    assert waiter.arm(names) == -1
    segment.send("channel.99", b"", 10, FOREVER)
    assert waiter.wait(10)
    assert waiter.arm(names) == 99
    waiter.close()


def test_publish(segment: Segment) -> None:
    segment.join("g")
    segment.add_channel("g", "jobs", 5)
    for n in range(7):
        assert segment.publish(("g",), b"%d" % n, 1000, FOREVER, 60.0) == (2, n >= 5)
    assert [segment.take(["!" + "a" * 32]) for _ in range(7)] == [("!" + "a" * 32, b"%d" % n) for n in range(7)]
    segment.wipe()
    assert segment.publish(("g",), b"", 10, FOREVER, 60.0) == (0, 0)


def test_name_too_long_for_an_address() -> None:
    Address("a" * 102, "x" * 103, 1)
    for process, channel in (("a" * 103, "x"), ("", "x" * 104), ("a", "x" * 104)):
        with pytest.raises(ValueError, match="too long"):
            Address(process, channel, 1)


def test_blocked_thread_wakes(segment: Segment) -> None:
    waiter = Waiter(segment)
    assert waiter.arm(["jobs"]) == -1
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(waiter.wait(10)))
    thread.start()
    segment.send("jobs", b"", 1, FOREVER)
    thread.join(10)
    assert results == [True]
    begun = time.monotonic()
    assert not waiter.wait(0.05)
    assert 0.04 < time.monotonic() - begun < 5


def test_signal_handlers_run_while_it_waits(segment: Segment) -> None:
    waiter = Waiter(segment)
    handled: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: handled.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert not waiter.wait(10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled == [signal.SIGALRM]


def test_close(segment: Segment, tmp_path: Path) -> None:
    other = Segment(str(tmp_path / "shm"), MIB, "b" * 32)
    waiter = Waiter(other)
    used = other.counts()
    assert (used["processes"], used["waiters"], used["size"]) == (2, 1, MIB)
    other.close()
    other.close()
    assert other.closed
    assert segment.counts()["processes"] == 1
    assert segment.counts()["waiters"] == 0
    for call in (other.counts, lambda: other.take(["a"]), lambda: waiter.arm(["a"]), lambda: Waiter(other)):
        with pytest.raises(SegmentGone):
            call()
    waiter.close()
    with pytest.raises(SegmentGone):
        waiter.fileno()


def test_dropped_handles_leave_nothing(segment: Segment, tmp_path: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for n in range(20):
        other = Segment(str(tmp_path / "shm"), MIB, f"{n:032d}")
        waiter = Waiter(other)
        waiter.arm(["jobs"])
        del other, waiter
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert segment.counts()["processes"] == 1
    assert segment.counts()["waiters"] == 0
    assert sorted(os.listdir(tmp_path / "shm")) == ["lock", "segment"]


def use_until_closed(segment: Segment, begun: threading.Barrier, errors: list[BaseException]) -> None:
    begun.wait(10)
    try:
        while True:
            segment.send("jobs", b"x" * 1000, 5, FOREVER)
            segment.take(["jobs"])
    except BaseException as error:
        errors.append(error)


def test_close_while_other_threads_use_it(tmp_path: Path) -> None:
    for n in range(20):
        segment = Segment(str(tmp_path / "shm"), MIB, f"{n:032d}")
        begun = threading.Barrier(4)
        errors: list[BaseException] = []

        threads = [threading.Thread(target=use_until_closed, args=(segment, begun, errors)) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(10)
        segment.close()
        for thread in threads:
            thread.join(10)
        assert [type(error) for error in errors] == [SegmentGone] * 3


def test_errors_of_opening(segment: Segment, tmp_path: Path) -> None:
    with pytest.raises(InvalidChannelLayerError, match="size=1000"):
        Segment(str(tmp_path / "b"), 1000, "b")
    with pytest.raises(LayerUnavailable, match="client id"):
        Segment(str(tmp_path / "shm"), MIB, "a" * 32)
    with pytest.raises(CorruptSegmentError, match="too long, or empty"):
        Segment(str(tmp_path / "shm"), MIB, "")
    (tmp_path / "file").write_text("")
    with pytest.raises(CorruptSegmentError, match="no directory"):
        Segment(str(tmp_path / "file"), MIB, "b")
    # A full disk: here a limit on the size of files.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        with pytest.raises(LayerUnavailable, match=r"reserved: .*'size' \(4194304 bytes\)"):
            Segment(str(tmp_path / "c"), 4 * MIB, "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "c") == ["lock"]


def test_long_directory(tmp_path: Path) -> None:
    """The path of a socket is short; the directory need not be."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    segment = Segment(str(deep), MIB, "a")
    waiter = Waiter(segment)
    waiter.arm(["jobs"])
    segment.send("jobs", b"", 1, FOREVER)
    assert waiter.wait(10)
    segment.close()
