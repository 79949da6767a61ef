from fastchannels import envelope
from fastchannels.message import Message, PendingMessageStore, pending_message_store
from tests.talk import make_event, make_layer, make_message


def test_reading_and_writing_act_on_the_content():
    message = make_message(make_layer(), text="hi")
    message["more"] = 1
    assert message["text"] == "hi"
    assert "more" in message
    assert message.get("absent", 5) == 5
    assert dict(message.items()) == dict(zip(message.keys(), message.values(), strict=True)) == message.content
    assert message.content["more"] == 1


def test_channel_and_reply_channel():
    layer = make_layer()
    message = make_message(layer)
    assert message.channel.name == "websocket.receive"
    assert message.channel_layer is layer
    assert message.reply_channel.name == "replies"
    assert message.reply_channel.channel_layer is layer


def test_no_reply_channel():
    assert Message({}, "news", make_layer()).reply_channel is None
    assert Message({"reply_channel": None}, "news", make_layer()).reply_channel is None


def test_a_copy_is_deep_and_takes_no_attributes():
    message = make_event(make_layer(), rooms=["a"])
    message.user = "Ada"
    copied = message.copy()
    copied["rooms"].append("b")
    assert message["rooms"] == ["a"]
    assert not hasattr(copied, "user")
    assert copied.channel.name == message.channel.name
    assert copied.event is None


def test_the_envelope_is_not_content():
    message = make_event(make_layer(), event=4, session=b"bytes")
    assert (message.event, message.session_payload, message["order"]) == (4, b"bytes", 4)
    assert not {envelope.EVENT, envelope.SESSION} & set(message.keys())
    assert "order" not in make_message(make_layer())


def test_the_store_of_held_messages_is_here_too():
    assert isinstance(pending_message_store, PendingMessageStore)
