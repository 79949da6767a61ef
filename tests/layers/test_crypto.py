"""What keys are taken, and what a cipher refuses and says about it."""

from __future__ import annotations

import sys

import pytest
from cryptography.fernet import Fernet

from fastchannels.exceptions import InvalidChannelLayerError, InvalidPayloadError
from fastchannels.layers.crypto import Cipher, check_keys, derive
from fastchannels.layers.redis import RedisChannelLayer


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_key_is_derived_as_channels_redis_does() -> None:
    assert derive(b"k1") == b"arnx6499M4j0-dWG9m6Z_VQIDfLERvDlhmiwnAihbdA="
    token = Cipher([b"k1"], 70).encrypt(b"data")
    assert token.startswith(b"gAAAA")
    assert Fernet(derive(b"k1")).decrypt(token) == b"data"


def test_keys() -> None:
    assert check_keys(None) == check_keys([]) == check_keys(()) == []
    assert check_keys(["é", b"\xff"]) == ["é".encode(), b"\xff"]


@pytest.mark.parametrize("keys", ["hunter2", b"hunter2", {"hunter2"}, 7, {"a": "hunter2"}])
def test_keys_that_are_no_list(keys: object) -> None:
    with pytest.raises(
        InvalidChannelLayerError, match=f"symmetric_encryption_keys is a {type(keys).__name__}"
    ) as caught:
        check_keys(keys)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("key", "said"), [("", "empty"), (b"", "empty"), (None, "NoneType"), (5, "int"), (0, "int")])
def test_a_key_that_is_none(key: object, said: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=rf"symmetric_encryption_keys\[1\] is {said}: "):
        check_keys(["good", key])


def test_rotation() -> None:
    both, old, new = Cipher([b"new", b"old"], 70), Cipher([b"old"], 70), Cipher([b"new"], 70)
    assert both.decrypt(old.encrypt(b"1")) == b"1"
    assert new.decrypt(both.encrypt(b"2")) == b"2"
    with pytest.raises(InvalidPayloadError, match="none of symmetric_encryption_keys"):
        old.decrypt(both.encrypt(b"3"))


def test_every_changed_byte_is_noticed() -> None:
    cipher = Cipher([b"k"], 70)
    token = cipher.encrypt(b"data")
    for index in range(len(token)):
        # The last digits of base64 may hold bits that mean nothing, so a digit is put in that changes the high ones.
        other = b"A" if token[index : index + 1] != b"A" else b"z"
        if token[index:] != b"=" * (len(token) - index):
            with pytest.raises(InvalidPayloadError):
                cipher.decrypt(token[:index] + other + token[index + 1 :])
    for length in range(len(token)):
        with pytest.raises(InvalidPayloadError):
            cipher.decrypt(token[:length])


def test_clear_text_is_refused() -> None:
    with pytest.raises(InvalidPayloadError, match="it is not encrypted, and this layer has symmetric_encryption_keys"):
        Cipher([b"k"], 70).decrypt(b"\x81\xa1a\x01")


def test_old_and_future_tokens_are_refused() -> None:
    clock = Clock()
    cipher = Cipher([b"other", b"k"], 69.5, clock)
    token = Cipher([b"k"], 70, clock).encrypt(b"data")
    clock.now += 70
    assert cipher.decrypt(token) == b"data"
    clock.now += 1
    with pytest.raises(InvalidPayloadError, match=r"encrypted 71 s ago .* outside of -60 to 70 s"):
        cipher.decrypt(token)
    clock.now -= 71 + 60
    assert cipher.decrypt(token) == b"data"
    clock.now -= 1
    with pytest.raises(InvalidPayloadError, match="encrypted -61 s ago"):
        cipher.decrypt(token)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(InvalidChannelLayerError, match=r"pip install fastchannels\[encryption\]"):
        RedisChannelLayer(symmetric_encryption_keys=["k"])
    RedisChannelLayer(symmetric_encryption_keys=[])
