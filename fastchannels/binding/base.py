"""A binding ties a model to groups (outbound) and to the messages of a socket (inbound), whatever the encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from fastchannels.channel import Group

if TYPE_CHECKING:
    from django.db.models import Model

    from fastchannels.message import Message

__all__ = ["CREATE", "DELETE", "UPDATE", "Binding", "BindingMetaclass"]

CREATE = "create"
UPDATE = "update"
DELETE = "delete"


class BindingMetaclass(type):
    """Keeps every binding, and connects it to its model's signals when all apps are ready."""

    register_immediately = False
    binding_classes: ClassVar[list[Any]] = []

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        made: Any = super().__new__(mcs, name, bases, body)
        if bases:
            mcs.binding_classes.append(made)
            if mcs.register_immediately:
                made.register()
        return made

    @classmethod
    def register_all(mcs) -> None:
        """Connect the bindings so far, and each later one at once."""
        for binding in mcs.binding_classes:
            binding.register()
        mcs.register_immediately = True


class Binding(metaclass=BindingMetaclass):
    """Subclasses name ``model`` (a class or ``"app.Model"``), ``fields`` or ``exclude``, and ``stream``.

    ``model = None`` in the body of a class makes it abstract. Outbound: define :meth:`group_names`. Inbound: define
    :meth:`has_permission`, and use :attr:`consumer` where a consumer is asked for.
    """

    model: ClassVar[Any] = None
    #: Names that are sent and may be written; ``["__all__"]`` for every field.
    fields: ClassVar[Iterable[str] | None] = None
    exclude: ClassVar[Iterable[str] | None] = None
    #: The stream of a demultiplexer that the messages carry.
    stream: ClassVar[str | None] = None
    #: The consumer gets ``message.user``, and ``message.channel_session`` with it.
    channel_session_user: ClassVar[bool] = True
    channel_session: ClassVar[bool] = False

    #: ``app.model``.
    model_label: ClassVar[str] = ""
    #: What the signal that is being sent was called with.
    signal_kwargs: dict[str, Any] | None = None

    # Set for an inbound message, and the instance for an outbound one.
    instance: Model
    message: Message
    kwargs: dict[str, Any]
    action: str
    pk: Any
    data: Any
    user: Any

    @classmethod
    def register(cls) -> None:
        """Connect to the signals of the model; called once all apps are ready."""
        for model in cls.get_registered_models():
            pre_save.connect(cls.pre_save_receiver, sender=model)
            post_save.connect(cls.post_save_receiver, sender=model)
            pre_delete.connect(cls.pre_delete_receiver, sender=model)
            post_delete.connect(cls.post_delete_receiver, sender=model)

    @classmethod
    def get_registered_models(cls) -> list[Any]:
        """The model in a list; an empty one for an abstract binding. ``ValueError`` when an attribute is missing."""
        if cls.model is None:
            if "model" in cls.__dict__:
                return []
            raise ValueError(f"{cls.__qualname__} needs a model, or model = None to be abstract")
        if cls.fields is None and cls.exclude is None:
            raise ValueError(f"{cls.__qualname__} needs fields or exclude; fields = ['__all__'] names every field")
        if isinstance(cls.model, str):
            cls.model = apps.get_model(cls.model)
        cls.model_label = cls.model._meta.label_lower
        return [cls.model]

    # ------------------------------------------------------------------ outbound

    @classmethod
    def pre_save_receiver(cls, instance: Model, **kwargs: Any) -> None:
        """Note the groups before the change."""
        cls.pre_change_receiver(instance, CREATE if instance._state.adding else UPDATE)

    @classmethod
    def post_save_receiver(cls, instance: Model, created: bool, **kwargs: Any) -> None:
        """Send the change."""
        cls.post_change_receiver(instance, CREATE if created else UPDATE, **kwargs)

    @classmethod
    def pre_delete_receiver(cls, instance: Model, **kwargs: Any) -> None:
        """Note the groups before the end."""
        cls.pre_change_receiver(instance, DELETE)

    @classmethod
    def post_delete_receiver(cls, instance: Model, **kwargs: Any) -> None:
        """Send the end."""
        cls.post_change_receiver(instance, DELETE, **kwargs)

    @classmethod
    def pre_change_receiver(cls, instance: Any, action: str) -> None:
        """Keep, on the instance, the groups that know it so far."""
        if not hasattr(instance, "_binding_group_names"):
            instance._binding_group_names = {}
        instance._binding_group_names[cls] = set() if action == CREATE else set(cls.group_names(instance))

    @classmethod
    def post_change_receiver(cls, instance: Any, action: str, **kwargs: Any) -> None:
        """Tell each group what it sees: ``delete`` where the instance left, ``update``, ``create`` where it came."""
        before: set[str] = instance._binding_group_names[cls]
        after = set() if action == DELETE else set(cls.group_names(instance))
        binding = cls()
        binding.instance = instance
        binding.send_messages(instance, before - after, DELETE, **kwargs)
        binding.send_messages(instance, before & after, UPDATE, **kwargs)
        binding.send_messages(instance, after - before, CREATE, **kwargs)

    def send_messages(self, instance: Model, group_names: set[str], action: str, **kwargs: Any) -> None:
        """Send ``action`` to each of ``group_names``; nothing when :meth:`serialize` gives ``{}``."""
        if not group_names:
            return
        self.signal_kwargs = kwargs
        payload = self.serialize(instance, action)
        if payload == {}:
            return
        if self.stream is None:
            raise ValueError(f"{type(self).__qualname__} needs a stream to send on")
        message = self.encode(self.stream, payload)
        for name in group_names:
            Group(name).send(message)

    @classmethod
    def encode(cls, stream: str, payload: Any) -> dict[str, Any]:
        """The reply that carries ``payload`` on ``stream``."""
        raise NotImplementedError(f"{cls.__qualname__} defines no encode(stream, payload)")

    @classmethod
    def group_names(cls, instance: Any) -> Iterable[str]:
        """The groups that hear of ``instance`` as it is now."""
        raise NotImplementedError(f"{cls.__qualname__} defines no group_names(instance)")

    def serialize(self, instance: Any, action: str) -> Any:
        """What is sent of ``instance``; ``{}`` for nothing."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no serialize(instance, action)")

    # ------------------------------------------------------------------ inbound

    @classmethod
    def trigger_inbound(cls, message: Message, **kwargs: Any) -> None:
        """Do what ``message`` asks for, when its user may."""
        from django.contrib.auth.models import AnonymousUser

        binding = cls()
        binding.message = message
        binding.kwargs = kwargs
        binding.action, binding.pk, binding.data = binding.deserialize(message)
        binding.user = getattr(message, "user", None) or AnonymousUser()
        binding.run_action(binding.action, binding.pk, binding.data)

    @classmethod
    def get_handler(cls) -> Callable[..., None]:
        """:meth:`trigger_inbound` with its decorators. Override it to add your own."""
        from fastchannels.auth import channel_session_user
        from fastchannels.sessions import channel_session

        if cls.channel_session_user:
            return channel_session_user(cls.trigger_inbound)
        return channel_session(cls.trigger_inbound) if cls.channel_session else cls.trigger_inbound

    @classmethod
    def consumer(cls, message: Message, **kwargs: Any) -> None:
        """The consumer of inbound messages."""
        cls.get_handler()(message, **kwargs)

    def deserialize(self, message: Message) -> tuple[str, Any, Any]:
        """``(action, pk, data)`` of ``message``: no pk for ``create``, no data for ``delete``."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no deserialize(message)")

    def has_permission(self, user: Any, action: str, pk: Any) -> bool:
        """Whether ``user`` may do ``action``; when not, nothing happens."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no has_permission(user, action, pk)")

    def run_action(self, action: str, pk: Any, data: Any) -> None:
        """Do it. ``ValueError`` for an action that is none of the three."""
        if not self.has_permission(self.user, action, pk):
            return
        if action == CREATE:
            self.create(data)
        elif action == UPDATE:
            self.update(pk, data)
        elif action == DELETE:
            self.delete(pk)
        else:
            raise ValueError(f"a client asked for the action {action!r}: there is create, update, delete")

    def create(self, data: Any) -> None:
        """Make an instance from ``data``."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no create(data)")

    def update(self, pk: Any, data: Any) -> None:
        """Change the instance ``pk`` by ``data``."""
        raise NotImplementedError(f"{type(self).__qualname__} defines no update(pk, data)")

    def delete(self, pk: Any) -> None:
        """Delete the instance ``pk``."""
        self.model.objects.filter(pk=pk).delete()
