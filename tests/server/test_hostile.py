"""Each hostile request of the table over a real socket: answered as the RFCs demand, and the server goes on."""

from __future__ import annotations

import logging

import pytest

from tests.server import hostile
from tests.server.hostile import CASES, Case, answers, ask
from tests.server.support import port_of, serving


def test_the_table_has_no_two_cases_of_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 80
    assert all(set(case.strict) <= set(case.allowed) for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_hostile_request(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(hostile.application) as server:
        outcome, found = await ask(port_of(server), case)
        assert outcome in case.demanded, f"RFC {case.section}: {case.data[:300]!r}"
        if outcome.startswith(("200", "100")):
            assert case.seen in found[-1 if case.more else 0].body
        again, (answer,) = await ask(port_of(server), Case("", "", hostile.GET + b"\r\n", ()))
        assert (again, answer.body[:8]) == ("200+", b"GET /  [")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"nonsense\r\n\r\n", b"HTTP/1.1 200"]
)
def test_the_reader_of_answers_refuses_what_is_none(data: bytes) -> None:
    h11 = pytest.importorskip("h11")
    with pytest.raises(h11.RemoteProtocolError):
        answers(data)
