from __future__ import annotations

from fastchannels.server.timer import NEVER, Timed, Wheel


class Entry(Timed):
    def __init__(self, name, log, then=None):
        super().__init__()
        self.name = name
        self.log = log
        self.then = then

    def expired(self, now):
        self.log.append((self.name, now))
        if self.then:
            self.then()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def make():
    clock = Clock()
    return clock, Wheel(clock, resolution=0.25), []


def run(clock, wheel, seconds):
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 0.25
        wheel.tick()


def test_fires_once_and_not_early():
    clock, wheel, log = make()
    for tenth in range(1, 40):
        wheel.arm(Entry(tenth, log), 1000 + tenth / 10)
    run(clock, wheel, 10)
    assert sorted(name for name, _ in log) == list(range(1, 40))
    assert all(0 <= at - (1000 + name / 10) <= 0.5 for name, at in log)


def test_armed_later_fires_later():
    clock, wheel, log = make()
    entry = Entry("a", log)
    wheel.arm(entry, 1001)
    wheel.arm(entry, 1005)
    run(clock, wheel, 4.5)
    assert log == []
    run(clock, wheel, 2)
    assert len(log) == 1


def test_armed_earlier_fires_earlier_and_once():
    clock, wheel, log = make()
    entry = Entry("a", log)
    wheel.arm(entry, 1005)
    wheel.arm(entry, 1001)
    run(clock, wheel, 2)
    assert len(log) == 1
    run(clock, wheel, 10)
    assert len(log) == 1


def test_disarm_and_never():
    clock, wheel, log = make()
    first, second = Entry("a", log), Entry("b", log)
    wheel.arm(first, 1001)
    wheel.disarm(first)
    wheel.arm(second, 1001)
    wheel.arm(second, NEVER)
    run(clock, wheel, 5)
    assert log == []
    assert not any(wheel._slots.values()), "what is disarmed is not kept alive"


def test_an_entry_may_disarm_and_move_its_neighbours():
    clock, wheel, log = make()
    victim, moved = Entry("victim", log), Entry("moved", log)

    def act():
        wheel.disarm(victim)
        wheel.arm(moved, clock.now + 1)

    actors = [Entry("actor", log, act) for _ in range(2)]
    for entry in (actors[0], victim, moved, actors[1]):
        wheel.arm(entry, 1001)
    # The order within a slot is arbitrary, so the neighbours may have fired before; never twice for one arming.
    run(clock, wheel, 1.5)
    before = [name for name, _ in log]
    assert before.count("actor") == 2
    assert before.count("victim") <= 1
    run(clock, wheel, 5)
    assert [name for name, _ in log].count("moved") in (1, 2)
    assert [name for name, _ in log].count("victim") == before.count("victim")


def test_an_error_does_not_stop_the_others(caplog):
    clock, wheel, log = make()

    def fail():
        raise RuntimeError("broken")

    for number in range(5):
        wheel.arm(Entry(number, log, fail), 1001)
    run(clock, wheel, 2)
    assert len(log) == 5
    assert "broken" in caplog.text


def test_a_clock_that_jumps():
    clock, wheel, log = make()
    wheel.arm(Entry("a", log), 1001)
    clock.now += 10**7
    wheel.tick()
    assert len(log) == 1
