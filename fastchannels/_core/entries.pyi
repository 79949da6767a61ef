from collections.abc import Callable

from fastchannels._core.inbox import Inbox

def body(kind: int, name: str, rest: bytes = b"") -> bytes: ...
def parse(entry: bytes) -> tuple[int, int, str, bytes]: ...
def sized(made: bytes) -> bytes: ...
def hand_on(
    inbox: Inbox,
    entries: list[bytes],
    now: int,
    flying: dict[str, int],
    other: Callable[[int, str, bytes, float], object],
) -> None: ...
