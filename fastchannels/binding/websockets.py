"""Bindings whose messages are JSON on one stream of a socket, behind a ``WebsocketDemultiplexer``.

A frame is ``{"stream": ..., "payload": {...}}``; the payload has ``action``, ``pk``, ``data``, and ``model`` outbound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from django.core import serializers
from django.core.serializers.json import DjangoJSONEncoder

from fastchannels.binding.base import Binding
from fastchannels.generic.websockets import WebsocketMultiplexer
from fastchannels.sessions import enforce_ordering, warn_slight_ordering

if TYPE_CHECKING:
    from fastchannels.message import Message

__all__ = ["WebsocketBinding", "WebsocketBindingWithMembers"]


class WebsocketBinding(Binding):
    """Put its ``consumer`` under its stream in the ``consumers`` of a demultiplexer."""

    model: ClassVar[Any] = None

    #: Gives ``channel_session``; the order is kept anyway (D-09).
    strict_ordering: ClassVar[bool] = False
    #: Not needed any more: it warns (D-03).
    slight_ordering: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("slight_ordering", False):
            warn_slight_ordering(f"{cls.__qualname__}.slight_ordering")

    @classmethod
    def allows(cls, name: str) -> bool:
        """Whether the field ``name`` is sent and may be written."""
        if cls.fields is not None:
            return cls._all_fields() or name in cls.fields
        return name not in (cls.exclude or ())

    @classmethod
    def _all_fields(cls) -> bool:
        return cls.fields is not None and (cls.fields == "__all__" or list(cls.fields) == ["__all__"])

    # ------------------------------------------------------------------ outbound

    @classmethod
    def encode(cls, stream: str, payload: Any) -> dict[str, Any]:
        """A text frame."""
        return WebsocketMultiplexer.encode(stream, payload)

    def serialize(self, instance: Any, action: str) -> Any:
        """What happened, to which instance of which model, and its fields."""
        return {
            "action": action,
            "pk": instance.pk,
            "data": self.serialize_data(instance),
            "model": self.model_label,
        }

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        """The fields of ``instance`` that :meth:`allows` lets through, as JSON can hold them."""
        fields = None
        if not self._all_fields():
            fields = [field.name for field in instance._meta.get_fields() if self.allows(field.name)]
        data: dict[str, Any] = json.loads(serializers.serialize("json", [instance], fields=fields))[0]["fields"]
        return data

    # ------------------------------------------------------------------ inbound

    @classmethod
    def get_handler(cls) -> Callable[..., None]:
        """:meth:`trigger_inbound` with its decorators."""
        handler = super().get_handler()
        return enforce_ordering(handler) if cls.strict_ordering else handler

    @classmethod
    def trigger_inbound(cls, message: Message, **kwargs: Any) -> None:
        """Only frames ask for something; connect and disconnect pass by."""
        if message.channel.name == "websocket.receive":
            super().trigger_inbound(message, **kwargs)

    def deserialize(self, message: Message) -> tuple[str, Any, Any]:
        """From the JSON in ``text``. ``KeyError`` without an action."""
        body = json.loads(message["text"])
        return body["action"], body.get("pk"), body.get("data")

    def _hydrate(self, pk: Any, data: dict[str, Any]) -> Any:
        """An unsaved instance of what ``data`` may set."""
        allowed = {name: value for name, value in data.items() if self.allows(name)}
        (found,) = serializers.deserialize("python", [{"pk": pk, "model": self.model_label, "fields": allowed}])
        return found, allowed

    def create(self, data: dict[str, Any]) -> None:
        """A new instance; fields outside ``fields`` and in ``exclude`` are left out (D-22)."""
        self._hydrate(None, data)[0].save()

    def update(self, pk: Any, data: dict[str, Any]) -> None:
        """Set what may be set on the instance ``pk``. ``DoesNotExist`` when there is none."""
        instance = self.model.objects.get(pk=pk)
        hydrated, allowed = self._hydrate(pk, data)
        for name in allowed:
            if name not in hydrated.m2m_data:
                setattr(instance, name, getattr(hydrated.object, name))
        instance.save()
        for name, value in hydrated.m2m_data.items():
            getattr(instance, name).set(value)


class WebsocketBindingWithMembers(WebsocketBinding):
    """Sends properties, attributes and results of methods beside the fields."""

    model: ClassVar[Any] = None

    #: Names, with dots into what they lead to; callables are called. The key has ``__`` for a dot.
    send_members: ClassVar[Iterable[str]] = []
    encoder: ClassVar[json.JSONEncoder] = DjangoJSONEncoder()

    def serialize_data(self, instance: Any) -> dict[str, Any]:
        """The fields, then the members."""
        members = {}
        for path in self.send_members:
            member = instance
            for name in path.split("."):
                member = getattr(member, name)
            members[path.replace(".", "__")] = member() if callable(member) else member
        return {**super().serialize_data(instance), **json.loads(self.encoder.encode(members))}
