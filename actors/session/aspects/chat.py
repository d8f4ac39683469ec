"""Chat: messages to everyone or to one participant, replies, reactions, deletion.

The state holds the latest `HISTORY` messages. Older ones are in the log, and can no longer be answered or changed.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import allowed, require, role_of, target
from actors.session.state import Message, State, VoiceNote

HISTORY = 1_000
EMOJI_PER_MESSAGE = 20
REACTIONS_PER_MESSAGE = 1_000


def send_message(state: State, command: c.SendMessage, by: c.Caller, now: Millis) -> list[e.Event]:
    require_sendable(state, command, by)
    message_id = MessageId(state.last_message_id + 1)
    return [e.ChatMessage(message_id=message_id, text=command.text, to=command.to, reply_to=command.reply_to)]


def send_voice(state: State, command: c.SendVoice, by: c.Caller, now: Millis) -> list[e.Event]:
    require_sendable(state, command, by)
    track = by.tracks.get(command.audio_id)
    if track is None:
        raise Rejected(Reason.UNKNOWN_AUDIO, f"There is no audio {command.audio_id!r}.", field="audio_id")
    return [
        e.ChatMessage(
            message_id=MessageId(state.last_message_id + 1),
            text="",
            to=command.to,
            reply_to=command.reply_to,
            voice=VoiceNote(track.audio_id, track.duration_s, track.number),
        )
    ]


def require_sendable(state: State, command: c.SendMessage | c.SendVoice, by: c.Caller) -> None:
    """Raise Rejected for a message that this caller may not send: at all, to this recipient, or as this reply."""
    require_chat(state, by)
    if command.to is not None:
        if not state.session.features.direct_messages:
            raise Rejected(Reason.FEATURE_OFF, "Direct messages are switched off in this session.", field="to")
        if command.to == by.user_id:
            raise Rejected(Reason.NOT_ALLOWED, "You cannot send a direct message to yourself.", field="to")
        if command.to != state.session.owner_id:
            target(state, command.to, field="to")
    if command.reply_to is not None:
        original = visible_message(state, command.reply_to, by.user_id, "reply_to")
        if original.to is not None and command.to not in (original.to, original.user_id):
            raise Rejected(
                Reason.NOT_ALLOWED,
                "Answer a direct message with one to the same participant.",
                field="reply_to",
            )


def require_chat(state: State, by: c.Caller) -> None:
    """Raise Rejected if the caller may not use the chat, or it is switched off."""
    require(state, by, "chat")
    if not state.session.features.chat:
        raise Rejected(Reason.FEATURE_OFF, "Chat is switched off in this session.")


def visible_message(state: State, message_id: MessageId, user_id: UserId, field: str = "message_id") -> Message:
    """Return a message that a user may see. Raise Rejected for others, such as direct messages between other users."""
    message = state.messages.get(message_id)
    if message is None or message.deleted or (message.to and user_id not in (message.to, message.user_id)):
        raise Rejected(
            Reason.UNKNOWN_MESSAGE, f"There is no message {message_id} among the latest {HISTORY}.", field=field
        )
    return message


def delete_message(state: State, command: c.DeleteMessage, by: c.Caller, now: Millis) -> list[e.Event]:
    if role_of(state, by.user_id) is None:
        require(state, by, "chat")
    message = state.messages.get(command.message_id)
    if message is not None and message.deleted:
        return []
    if not (message and allowed(state, by.user_id, "moderate")):
        message = visible_message(state, command.message_id, by.user_id)
    if message.user_id != by.user_id:
        require(state, by, "moderate")
    return [e.MessageDeleted(message_id=message.message_id, to=message.to)]


def react(state: State, command: c.React, by: c.Caller, now: Millis) -> list[e.Event]:
    require_chat(state, by)
    message = visible_message(state, command.message_id, by.user_id)
    users = message.reactions.get(command.emoji, [])
    if (by.user_id in users) != command.remove:
        return []
    if not users and len(message.reactions) >= EMOJI_PER_MESSAGE:
        raise Rejected(Reason.TOO_MANY, f"A message has at most {EMOJI_PER_MESSAGE} different emoji.", field="emoji")
    if not command.remove and sum(map(len, message.reactions.values())) >= REACTIONS_PER_MESSAGE:
        raise Rejected(Reason.TOO_MANY, f"A message has at most {REACTIONS_PER_MESSAGE} reactions.")
    sides = None if message.to is None else [message.user_id, message.to]
    return [e.MessageReacted(message_id=message.message_id, emoji=command.emoji, removed=command.remove, to=sides)]


def redaction(state: State, event: e.MessageDeleted) -> tuple[int, e.ChatMessage] | None:
    """Return the log row that a deletion redacts, as its `seq` and new content. Call this before `apply`."""
    message = state.messages.get(event.message_id)
    if message is None:
        return None
    return message.seq, e.ChatMessage(
        message_id=message.message_id, text="", to=message.to, reply_to=message.reply_to, deleted=True
    )


def on_message(state: State, event: e.ChatMessage, recorded: e.Recorded) -> None:
    state.last_message_id = event.message_id
    state.messages[event.message_id] = Message(
        message_id=event.message_id,
        seq=recorded.seq,
        user_id=recorded.actor_id or state.session.owner_id,
        text=event.text,
        at=recorded.at,
        to=event.to,
        reply_to=event.reply_to,
        voice=event.voice,
        deleted=event.deleted,
    )
    if len(state.messages) > HISTORY:
        del state.messages[next(iter(state.messages))]


def on_deleted(state: State, event: e.MessageDeleted, recorded: e.Recorded) -> None:
    if message := state.messages.get(event.message_id):
        message.text = ""
        message.voice = None
        message.deleted = True
        message.reactions = {}


def on_reacted(state: State, event: e.MessageReacted, recorded: e.Recorded) -> None:
    message = state.messages.get(event.message_id)
    if message is None or recorded.actor_id is None:
        return
    others = [u for u in message.reactions.get(event.emoji, []) if u != recorded.actor_id]
    users = others if event.removed else [*others, recorded.actor_id]
    message.reactions = {**message.reactions, event.emoji: users}
    if not users:
        del message.reactions[event.emoji]


HANDLERS = {c.SendMessage: send_message, c.DeleteMessage: delete_message, c.React: react, c.SendVoice: send_voice}
APPLIERS = {e.ChatMessage: on_message, e.MessageDeleted: on_deleted, e.MessageReacted: on_reacted}
