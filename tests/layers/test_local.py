from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.local import LocalChannelLayer

from .contract import ContractTests, MakeLayer, ViewOf

MIB = 1024 * 1024


@pytest.fixture
def made() -> Iterator[list[LocalChannelLayer]]:
    """Layers to release at the end; each leaves its segment in order."""
    layers: list[LocalChannelLayer] = []
    yield layers
    for layer in layers:
        assert layer._open().check() is None
    for layer in layers:
        layer._release()


class TestLocal(ContractTests):
    @pytest.fixture
    def make_layer(self, tmp_path: Path, made: list[LocalChannelLayer]) -> MakeLayer:
        def make(**options: Any) -> ChannelLayer:
            layer = LocalChannelLayer(path=tmp_path / f"segment{len(made)}", size=64 * MIB, **options)
            made.append(layer)
            layer.options = options  # type: ignore[attr-defined]
            return layer

        return make

    @pytest.fixture
    def view_of(self, made: list[LocalChannelLayer]) -> ViewOf:
        def view(layer: ChannelLayer) -> ChannelLayer:
            assert isinstance(layer, LocalChannelLayer)
            other = LocalChannelLayer(path=layer.path, size=layer.size, **layer.options)  # type: ignore[attr-defined]
            made.append(other)
            return other

        return view
