import pytest
from django.contrib.auth.models import Group as Model

from fastchannels.binding import Binding
from fastchannels.binding.base import BindingMetaclass
from tests.talk import make_event, make_layer

LAYER = make_layer()


@pytest.fixture
def registered(monkeypatch):
    """The bindings of a test are forgotten after it."""
    monkeypatch.setattr(BindingMetaclass, "binding_classes", [])
    monkeypatch.setattr(BindingMetaclass, "register_immediately", False)
    return BindingMetaclass.binding_classes


@pytest.mark.usefixtures("registered")
class TestRegistration:
    def test_abstract_bindings_connect_to_nothing(self):
        class Abstract(Binding):
            model = None

        assert Abstract.get_registered_models() == []

    def test_a_model_is_needed(self):
        class NoModel(Binding):
            fields = ["name"]

        with pytest.raises(ValueError, match="NoModel needs a model"):
            NoModel.register()

    def test_fields_or_exclude_are_needed(self):
        class NoFields(Binding):
            model = Model

        with pytest.raises(ValueError, match=r"NoFields needs fields or exclude; fields = \['__all__'\]"):
            NoFields.register()

    def test_a_model_by_name(self):
        class ByName(Binding):
            model = "auth.Group"
            exclude = ()

        assert ByName.get_registered_models() == [Model]
        assert ByName.model_label == "auth.group"

    def test_all_at_once_then_each_as_it_comes(self, registered):
        made = []

        class First(Binding):
            model = None

            @classmethod
            def register(cls):
                made.append(cls.__name__)

        assert made == []
        BindingMetaclass.register_all()
        type("Second", (First,), {"model": None})
        assert made == ["First", "Second"]
        assert [binding.__name__ for binding in registered] == made


@pytest.mark.usefixtures("registered")
class TestInbound:
    @pytest.fixture
    def binding(self):
        class Echo(Binding):
            model = Model
            fields = ["name"]
            channel_session_user = False
            done: list = []

            def deserialize(self, message):
                return message["action"], message.get("pk"), message.get("data")

            def has_permission(self, user, action, pk):
                assert user.is_anonymous
                return self.kwargs.get("allow", True)

            def create(self, data):
                self.done.append(("create", data))

            def update(self, pk, data):
                self.done.append(("update", pk, data))

        return Echo

    def ask(self, binding, *, allow=True, **content):
        binding.consumer(make_event(LAYER, text="", **content), allow=allow)
        return binding.done

    def test_actions(self, binding, database):
        group = Model.objects.create(name="a")
        assert self.ask(binding, action="create", data={"n": 1}) == [("create", {"n": 1})]
        assert self.ask(binding, action="update", pk=3, data={"n": 2})[1:] == [("update", 3, {"n": 2})]
        self.ask(binding, action="delete", pk=group.pk)
        assert not Model.objects.exists()

    def test_nothing_happens_without_permission(self, binding):
        assert self.ask(binding, allow=False, action="create", data={}) == []
        assert self.ask(binding, allow=False, action="burn") == []

    def test_an_unknown_action(self, binding):
        with pytest.raises(ValueError, match="'burn'"):
            self.ask(binding, action="burn")

    @pytest.mark.parametrize(
        ("switches", "attribute"),
        [({"channel_session_user": True}, "user"), ({"channel_session": True}, "channel_session")],
    )
    def test_switches(self, binding, switches, attribute, database):
        message = make_event(LAYER, action="create", data={})
        type("Switched", (binding,), switches).consumer(message)
        assert hasattr(message, attribute)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("group_names", (None,)),
        ("serialize", (None, "create")),
        ("encode", ("stream", {})),
        ("deserialize", (None,)),
        ("has_permission", (None, "create", None)),
        ("create", ({},)),
        ("update", (1, {})),
    ],
)
def test_what_a_subclass_has_to_define(name, arguments):
    class Bare(Binding):
        model = None

    with pytest.raises(NotImplementedError, match=f"Bare defines no {name}"):
        getattr(Bare(), name)(*arguments)
