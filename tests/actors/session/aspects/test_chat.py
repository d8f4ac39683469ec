"""Chat: who reads what, who answers what, and what is left of a message taken back."""

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import chat
from actors.session.errors import Reason
from actors.session.ids import MessageId
from actors.session.state import VoiceNote
from tests.support.script import (
    ANN,
    AUDIO,
    BEN,
    CAT,
    CORA,
    EVE,
    HUGO,
    OLAF,
    TEACHER,
    UNKNOWN,
    Script,
    class_of,
    does,
    features,
    given,
    grants,
    joins,
    revokes,
    says,
    staff,
)

ONE, TWO = MessageId(1), MessageId(2)


def delete(message_id: MessageId = ONE) -> c.DeleteMessage:
    return c.DeleteMessage(message_id=message_id)


def like(message_id: MessageId = ONE, emoji: str = "👍", *, remove: bool = False) -> c.React:
    return c.React(message_id=message_id, emoji=emoji, remove=remove)


# Sending


def test_writing_to_everyone() -> None:
    script = given(class_of(ANN)).when(c.SendMessage(text="Hello"), by=ANN, after=2)
    script.then(e.ChatMessage(message_id=ONE, text="Hello"))
    message = script.state.messages[ONE]
    assert (message.user_id, message.text, message.at, message.seq) == (
        ANN.user_id,
        "Hello",
        script.now,
        script.state.seq,
    )
    script.when(c.SendMessage(text="Hello"), by=ANN).then(e.ChatMessage(message_id=TWO, text="Hello"))


def test_who_may_write() -> None:
    script = given(class_of(ANN, BEN), staff(), revokes(BEN, "chat"))
    for one in (OLAF, BEN):
        script.when(c.SendMessage(text="Hi"), by=one).rejected(Reason.NOT_PERMITTED)
    script.when(c.SendMessage(text="Hi"), by=EVE).rejected(Reason.NOT_JOINED)
    script.given(grants(OLAF, "chat")).when(c.SendMessage(text="Hi"), by=OLAF).then(
        e.ChatMessage(message_id=ONE, text="Hi")
    )


def test_an_owner_who_has_not_joined_may_write() -> None:
    script = given(joins(ANN), does(TEACHER, c.Start())).when(c.SendMessage(text="I am late"), by=TEACHER)
    script.then(e.ChatMessage(message_id=ONE, text="I am late"))


def test_chat_switched_off() -> None:
    script = given(class_of(ANN), says(ANN), features(chat=False))
    for one in (ANN, TEACHER):
        script.when(c.SendMessage(text="Hi"), by=one).rejected(Reason.FEATURE_OFF)
        script.when(like(), by=one).rejected(Reason.FEATURE_OFF)
    script.when(delete(), by=ANN).then(e.MessageDeleted(message_id=ONE))


# Direct messages


def test_writing_to_one() -> None:
    script = given(class_of(ANN, BEN)).when(c.SendMessage(text="Psst", to=BEN.user_id), by=ANN)
    script.then(e.ChatMessage(message_id=ONE, text="Psst", to=BEN.user_id))


def test_direct_messages_go_to_participants_and_the_owner() -> None:
    script = given(class_of(ANN, BEN), does(BEN, c.Leave()), features(lobby=True), joins(CAT))
    for one in (BEN, CAT, EVE):
        script.when(c.SendMessage(text="Hi", to=one.user_id), by=ANN).rejected(Reason.UNKNOWN_PARTICIPANT, field="to")
    script.when(c.SendMessage(text="Hi", to=ANN.user_id), by=ANN).rejected(Reason.NOT_ALLOWED, field="to")
    script.given(features(direct_messages=False))
    script.when(c.SendMessage(text="Hi", to=TEACHER.user_id), by=ANN).rejected(Reason.FEATURE_OFF, field="to")


def test_the_owner_can_always_be_written_to() -> None:
    script = given(joins(ANN), does(TEACHER, c.Start())).when(c.SendMessage(text="Ill", to=TEACHER.user_id), by=ANN)
    script.then(e.ChatMessage(message_id=ONE, text="Ill", to=TEACHER.user_id))


def private() -> Script:
    """Ann has written to Ben alone; Eve and the staff are in class too."""
    return given(class_of(ANN, BEN, EVE), staff(), says(ANN, "Secret", to=BEN))


def test_other_peoples_direct_messages_are_not_there() -> None:
    script = private()
    for by in (EVE, TEACHER):
        script.when(like(), by=by).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")
        script.when(c.SendMessage(text="Ha", reply_to=ONE), by=by).rejected(Reason.UNKNOWN_MESSAGE, field="reply_to")
    script.when(delete(), by=EVE).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")
    script.when(like(TWO), by=EVE).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")


def test_both_sides_of_a_direct_message_react_and_only_they_receive_it() -> None:
    script = private().when(like(), by=BEN)
    script.then(e.MessageReacted(message_id=ONE, emoji="👍", to=[ANN.user_id, BEN.user_id]))
    script.when(like(), by=ANN).then(e.MessageReacted(message_id=ONE, emoji="👍", to=[ANN.user_id, BEN.user_id]))


def test_a_direct_message_is_answered_where_it_was_written() -> None:
    script = private()
    reply = c.SendMessage(text="Yes", reply_to=ONE, to=ANN.user_id)
    script.when(reply, by=BEN).then(e.ChatMessage(message_id=TWO, text="Yes", reply_to=ONE, to=ANN.user_id))
    script.when(c.SendMessage(text="PS", reply_to=ONE, to=BEN.user_id), by=ANN)
    script.then(e.ChatMessage(message_id=MessageId(3), text="PS", reply_to=ONE, to=BEN.user_id))
    script.when(c.SendMessage(text="See", reply_to=ONE), by=BEN).rejected(Reason.NOT_ALLOWED, field="reply_to")
    to_third = c.SendMessage(text="See", reply_to=ONE, to=EVE.user_id)
    script.when(to_third, by=BEN).rejected(Reason.NOT_ALLOWED, field="reply_to")


def test_a_public_message_may_be_answered_in_private() -> None:
    script = given(class_of(ANN, BEN), says(ANN)).when(c.SendMessage(text="Psst", reply_to=ONE, to=ANN.user_id), by=BEN)
    script.then(e.ChatMessage(message_id=TWO, text="Psst", reply_to=ONE, to=ANN.user_id))


# Replies


def test_replies_need_a_visible_message() -> None:
    script = given(class_of(ANN, BEN), says(ANN)).when(c.SendMessage(text="Hi", reply_to=ONE), by=BEN)
    script.then(e.ChatMessage(message_id=TWO, text="Hi", reply_to=ONE))
    for unknown in (MessageId(99), MessageId(0), MessageId(-1)):
        script.when(c.SendMessage(text="Hi", reply_to=unknown), by=BEN).rejected(
            Reason.UNKNOWN_MESSAGE, field="reply_to"
        )
    script.given(does(ANN, delete()))
    script.when(c.SendMessage(text="Hi", reply_to=ONE), by=BEN).rejected(Reason.UNKNOWN_MESSAGE, field="reply_to")


# Reactions


def test_reacting_and_taking_it_back() -> None:
    script = given(class_of(ANN, BEN), says(ANN))
    script.when(like(), by=BEN).then(e.MessageReacted(message_id=ONE, emoji="👍"))
    script.when(like(), by=BEN).then()
    script.when(like(remove=True), by=ANN).then()
    assert script.state.messages[ONE].reactions == {"👍": [BEN.user_id]}
    script.when(like(remove=True), by=BEN).then(e.MessageReacted(message_id=ONE, emoji="👍", removed=True))
    assert script.state.messages[ONE].reactions == {}


def test_who_may_react() -> None:
    script = given(class_of(ANN), staff(), says(ANN), does(TEACHER, c.SetPermissions(ANN.user_id, revoke=["chat"])))
    script.when(like(), by=OLAF).rejected(Reason.NOT_PERMITTED)
    script.when(like(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(like(), by=EVE).rejected(Reason.NOT_JOINED)


def test_a_message_takes_so_many_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "EMOJI_PER_MESSAGE", 2)
    script = given(class_of(ANN, BEN), says(ANN), does(ANN, like(emoji="1"), like(emoji="2")))
    script.when(like(emoji="3"), by=BEN).rejected(Reason.TOO_MANY, field="emoji")
    script.when(like(emoji="2"), by=BEN).then(e.MessageReacted(message_id=ONE, emoji="2"))


def test_a_message_takes_so_many_reactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "REACTIONS_PER_MESSAGE", 2)
    script = given(class_of(ANN, BEN, CAT), says(ANN), does(ANN, like()), does(BEN, like(emoji="2")))
    script.when(like(), by=CAT).rejected(Reason.TOO_MANY)
    script.when(like(remove=True), by=ANN).then(e.MessageReacted(message_id=ONE, emoji="👍", removed=True))
    script.when(like(), by=CAT).then(e.MessageReacted(message_id=ONE, emoji="👍"))


# Deleting


def test_the_author_takes_a_message_back() -> None:
    script = given(class_of(ANN, BEN), says(ANN), does(BEN, like()))
    script.when(delete(), by=ANN).then(e.MessageDeleted(message_id=ONE))
    message = script.state.messages[ONE]
    assert (message.text, message.deleted, message.reactions) == ("", True, {})
    script.when(delete(), by=ANN).then()
    script.when(like(), by=BEN).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")


def test_moderators_take_back_anyones_message_also_a_direct_one() -> None:
    given(class_of(ANN), staff(), says(ANN)).when(delete(), by=CORA).then(e.MessageDeleted(message_id=ONE))
    private().when(delete(), by=CORA).then(e.MessageDeleted(message_id=ONE, to=BEN.user_id))


def test_only_the_author_or_a_moderator_deletes_a_message() -> None:
    script = given(class_of(ANN, BEN), says(ANN))
    script.when(delete(), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(delete(), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(delete(TWO), by=TEACHER).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")
    private().when(delete(), by=BEN).rejected(Reason.NOT_PERMITTED)


def test_who_lost_the_right_to_write_may_still_take_back_unless_removed() -> None:
    script = given(class_of(ANN, BEN), says(ANN), says(BEN), revokes(ANN, "chat"), does(TEACHER, c.Kick(BEN.user_id)))
    script.when(delete(TWO), by=BEN).rejected(Reason.KICKED)
    script.when(delete(ONE), by=ANN).then(e.MessageDeleted(message_id=ONE))


def test_the_owner_may_redact_after_the_end() -> None:
    script = given(class_of(ANN), says(ANN), does(TEACHER, c.End()))
    script.when(delete(), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(delete(), by=TEACHER).then(e.MessageDeleted(message_id=ONE))


def test_a_redaction_has_the_row_and_its_new_content() -> None:
    script = private()
    row = script.log[-1]
    redacted = chat.redaction(script.state, e.MessageDeleted(message_id=ONE, to=BEN.user_id))
    assert redacted == (row.seq, e.ChatMessage(message_id=ONE, text="", to=BEN.user_id, deleted=True))
    assert chat.redaction(script.state, e.MessageDeleted(message_id=TWO)) is None


def test_between_a_redacted_row_and_its_deletion_the_message_counts_as_deleted() -> None:
    script = given(class_of(ANN), says(ANN))
    row = script.log[-1]
    gone = e.Recorded(
        row.session_id, row.epoch, row.seq, row.at, row.actor_id, e.ChatMessage(message_id=ONE, text="", deleted=True)
    )
    assert machine.replay([*script.log[:-1], gone]).messages[ONE].deleted


# History


def test_the_state_holds_the_latest_messages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "HISTORY", 3)
    script = given(class_of(ANN, BEN), [says(ANN, str(n)) for n in range(5)])
    assert list(script.state.messages) == [3, 4, 5]
    script.when(delete(TWO), by=ANN).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")
    script.when(c.SendMessage(text="6"), by=BEN).then(e.ChatMessage(message_id=MessageId(6), text="6"))


def test_a_host_reads_no_direct_messages_either() -> None:
    private().when(like(), by=HUGO).rejected(Reason.UNKNOWN_MESSAGE, field="message_id")


# Voice notes


def test_a_voice_note_is_a_message_without_text() -> None:
    script = given(class_of(ANN)).when(c.SendVoice(AUDIO), by=TEACHER)
    script.then(e.ChatMessage(message_id=ONE, text="", voice=VoiceNote(AUDIO, 60.0, 7)))
    assert script.state.messages[ONE].voice == VoiceNote(AUDIO, 60.0, 7)
    script.when(c.SendVoice(UNKNOWN), by=TEACHER).rejected(Reason.UNKNOWN_AUDIO, field="audio_id")


def test_a_voice_note_to_one_and_in_answer() -> None:
    script = given(class_of(ANN), says(ANN, to=TEACHER)).when(c.SendVoice(AUDIO, ANN.user_id, ONE), by=TEACHER)
    script.then(
        e.ChatMessage(message_id=MessageId(2), text="", to=ANN.user_id, reply_to=ONE, voice=VoiceNote(AUDIO, 60.0, 7))
    )
    script.when(c.SendVoice(AUDIO, reply_to=ONE), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="reply_to")
    script.when(c.SendVoice(AUDIO, TEACHER.user_id), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="to")
    script.given(features(chat=False)).when(c.SendVoice(AUDIO), by=TEACHER).rejected(Reason.FEATURE_OFF)


def test_a_deleted_voice_note_is_nowhere() -> None:
    script = given(class_of(), does(TEACHER, c.SendVoice(AUDIO)))
    redacted = chat.redaction(script.state, e.MessageDeleted(message_id=ONE))
    assert redacted is not None
    assert redacted[1].voice is None
    script.given(does(TEACHER, c.DeleteMessage(ONE)))
    assert script.state.messages[ONE].voice is None
