from collections.abc import Callable

from fastchannels._core.inbox import Inbox

def body(kind: int, name: str, rest: bytes = b"") -> bytes: ...
def parse(entry: bytes) -> tuple[int, int, str, bytes]: ...
def sized(made: bytes) -> bytes: ...

class Intake:
    def __init__(
        self,
        inbox: Inbox,
        flying: dict[str, int],
        other: Callable[[int, str, bytes, float], object],
        missed: Callable[[int], object],
    ) -> None: ...
    def hand_on(self, entries: list[bytes], now: int) -> None: ...
