import json

import pytest
from django.contrib.auth.models import Group as Model
from django.contrib.auth.models import Permission, User
from django.db.models import signals

from fastchannels.binding.base import BindingMetaclass
from fastchannels.binding.websockets import WebsocketBinding, WebsocketBindingWithMembers
from fastchannels.channel import Group
from fastchannels.generic.websockets import WebsocketDemultiplexer
from fastchannels.layers.codec import Codec
from tests.talk import make_event, make_layer, sent

CHANGES = (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete)


@pytest.fixture
def layer(monkeypatch):
    made = make_layer()
    monkeypatch.setattr("fastchannels.asgi.channel_layers._layers", {"default": made})
    return made


@pytest.fixture
def bind(monkeypatch, layer, database):
    """Makes a connected binding, and disconnects it after the test."""
    monkeypatch.setattr(BindingMetaclass, "binding_classes", [])
    connected = []

    def make(base=WebsocketBinding, **attributes):
        attributes = {"model": Model, "fields": ["name"], "stream": "s", **attributes}
        if not BindingMetaclass.register_immediately:
            BindingMetaclass.register_all()
        binding = type("Bound", (base,), attributes)
        connected.append(binding)
        return binding

    yield make
    for binding in connected:
        for signal, kind in zip(CHANGES, ("pre_save", "post_save", "pre_delete", "post_delete"), strict=True):
            assert signal.disconnect(getattr(binding, f"{kind}_receiver"), sender=binding.model)


def told(layer, name):
    """What the group ``name`` got: (action, data) of each frame."""
    frames = [json.loads(message["text"]) for message in sent(layer, name)]
    assert all(frame["stream"] == "s" for frame in frames)
    return [(frame["payload"]["action"], frame["payload"]["data"]) for frame in frames]


def in_groups(*names):
    """A listener for each group: an ordinary channel of its name."""
    for name in names:
        Group(name).add(name)


class TestOutbound:
    def test_create_update_delete(self, bind, layer):
        bind(group_names=classmethod(lambda cls, instance: ["all"]))
        in_groups("all")
        instance = Model.objects.create(name="a")
        instance.name = "b"
        instance.save()
        instance.delete()
        assert told(layer, "all") == [("create", {"name": "a"}), ("update", {"name": "b"}), ("delete", {"name": "b"})]

    def test_each_group_hears_the_change_as_it_sees_it(self, bind, layer):
        bind(group_names=classmethod(lambda cls, instance: list(instance.name)))
        in_groups("a", "b", "c")
        instance = Model.objects.create(name="ab")
        assert told(layer, "a") == told(layer, "b") == [("create", {"name": "ab"})]
        # The groups before a change are those of the instance as it is in memory then, as in 1.x.
        signals.pre_save.send(Model, instance=instance)
        instance.name = "bc"
        signals.post_save.send(Model, instance=instance, created=False)
        assert told(layer, "a") == [("delete", {"name": "bc"})]
        assert told(layer, "b") == [("update", {"name": "bc"})]
        assert told(layer, "c") == [("create", {"name": "bc"})]

    def test_the_payload(self, bind, layer):
        bind(group_names=classmethod(lambda cls, instance: ["all"]))
        in_groups("all")
        instance = Model.objects.create(name="a")
        (message,) = sent(layer, "all")
        assert json.loads(message["text"]) == {
            "stream": "s",
            "payload": {"action": "create", "pk": instance.pk, "data": {"name": "a"}, "model": "auth.group"},
        }

    @pytest.mark.parametrize(
        ("attributes", "keys"),
        [
            ({"fields": ["__all__"]}, {"name", "permissions"}),
            ({"fields": "__all__"}, {"name", "permissions"}),
            ({"fields": ["permissions"]}, {"permissions"}),
            ({"fields": None, "exclude": ["permissions"]}, {"name"}),
        ],
    )
    def test_fields(self, bind, attributes, keys):
        binding = bind(group_names=classmethod(lambda cls, instance: []), **attributes)
        assert set(binding().serialize_data(Model.objects.create(name="a"))) == keys

    def test_an_empty_payload_is_not_sent(self, bind, layer):
        bind(group_names=classmethod(lambda cls, instance: ["all"]), serialize=lambda self, instance, action: {})
        in_groups("all")
        Model.objects.create(name="a")
        assert sent(layer, "all") == []

    def test_a_stream_is_needed(self, bind):
        bind(group_names=classmethod(lambda cls, instance: ["all"]), stream=None)
        with pytest.raises(ValueError, match="needs a stream"):
            Model.objects.create(name="a")

    def test_signal_arguments_are_there(self, bind, layer):
        seen = []
        bind(
            group_names=classmethod(lambda cls, instance: ["all"]),
            serialize=lambda self, instance, action: seen.append(self.signal_kwargs["raw"]) or {},
        )
        Model.objects.create(name="a")
        assert seen == [False]

    def test_members(self, bind, layer):
        binding = bind(
            WebsocketBindingWithMembers,
            model=User,
            fields=["username"],
            send_members=["get_username", "date_joined.year", "is_anonymous"],
            group_names=classmethod(lambda cls, instance: []),
        )
        user = User.objects.create_user("ada")
        assert binding().serialize_data(user) == {
            "username": "ada",
            "get_username": "ada",
            "date_joined__year": user.date_joined.year,
            "is_anonymous": False,
        }


class TestInbound:
    @pytest.fixture
    def ask(self, bind, layer):
        def ask(payload, user_may=True, **attributes):
            binding = bind(
                group_names=classmethod(lambda cls, instance: []),
                has_permission=lambda self, user, action, pk: user_may,
                **attributes,
            )
            streams = type("Streams", (WebsocketDemultiplexer,), {"consumers": {"s": binding.consumer}})
            streams(make_event(layer, "websocket.connect", 0))
            streams(make_event(layer, text=json.dumps({"stream": "s", "payload": payload})))

        return ask

    def test_create(self, ask):
        ask({"action": "create", "data": {"name": "a"}})
        assert Model.objects.get().name == "a"

    def test_create_sets_only_what_may_be_set(self, ask):
        """D-22."""
        ask({"action": "create", "data": {"name": "a", "id": 77, "permissions": [Permission.objects.first().pk]}})
        assert Model.objects.get().pk != 77
        assert not Model.objects.get().permissions.exists()

    def test_update_sets_only_what_may_be_set(self, ask):
        instance = Model.objects.create(name="a")
        permission = Permission.objects.first()
        instance.permissions.add(permission)
        ask({"action": "update", "pk": instance.pk, "data": {"name": "b", "permissions": []}})
        instance.refresh_from_db()
        assert instance.name == "b"
        assert list(instance.permissions.all()) == [permission]

    def test_update_of_relations(self, ask):
        instance = Model.objects.create(name="a")
        permission = Permission.objects.first()
        ask({"action": "update", "pk": instance.pk, "data": {"permissions": [permission.pk]}}, fields="__all__")
        assert list(instance.permissions.all()) == [permission]

    def test_delete(self, ask):
        ask({"action": "delete", "pk": Model.objects.create(name="a").pk})
        assert not Model.objects.exists()

    def test_nothing_happens_without_permission(self, ask):
        instance = Model.objects.create(name="a")
        ask({"action": "delete", "pk": instance.pk}, user_may=False)
        assert Model.objects.exists()

    def test_strict_ordering_gives_the_channel_session(self, bind, layer):
        binding = bind(
            group_names=classmethod(lambda cls, instance: []),
            has_permission=lambda self, user, action, pk: self.message.channel_session.get("may"),
            strict_ordering=True,
            channel_session_user=False,
        )
        text = json.dumps({"action": "create", "data": {"name": "a"}})
        binding.consumer(make_event(layer, text=text, session=Codec().encode({"may": True})))
        assert Model.objects.exists()

    def test_slight_ordering_warns(self):
        with pytest.warns(DeprecationWarning, match="slight_ordering"):
            type("Old", (WebsocketBinding,), {"model": None, "slight_ordering": True})
