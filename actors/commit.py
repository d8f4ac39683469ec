"""Events as rows: what a commit holds of them for the log, for lists, for users and for the outside."""

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Raw

from actors.ports import (
    AudioUse,
    Creation,
    LogRow,
    Notice,
    NotificationRow,
    ParticipantRow,
    Published,
)
from actors.session import audience, machine, notifications
from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State

JSON = msgspec.json.Encoder()


def creation(log: Sequence[e.Recorded]) -> tuple[State, Creation]:
    """Give a new session's state after its first rows, and the commit of them."""
    state = machine.replay(log)
    rows = [log_row(recorded, JSON.encode(recorded.event)) for recorded in log]
    people = [participant_row(one) for one in state.participants.values()]
    told = notices(log, state.session.owner_id, {row.type for row in rows})
    by = c.Caller(state.session.owner_id, state.session.owner_name)
    notified = [row for recorded in log for row in notification_rows(state, recorded.event, by, recorded.at)]
    return state, Creation(state.session, rows, people, machine.deadline(state), told, notified)


def outgoing(row: e.Recorded, state: State) -> Published:
    """Give a row of the log as it goes out to whoever has yet to see it; the state as it is now says to whom."""
    whom = audience.audience(state, row.event, row.actor_id)
    return Published(row, JSON.encode(row.event), whom, state, audience.confidants(state, row.event, row.actor_id))


def log_row(r: e.Recorded, encoded: bytes) -> LogRow:
    return LogRow(r.session_id, r.epoch, r.seq, r.at, r.actor_id, type_of(r.event), Raw(encoded))


def participant_row(one: Participant) -> ParticipantRow:
    return ParticipantRow(one.user_id, one.number, one.name, one.role, one.status, one.joined_at, one.left_at)


def notification_rows(state: State, event: e.Event, by: c.Caller, at: Millis) -> list[NotificationRow]:
    """Give what users are told of an event, in the state just before it."""
    return [
        NotificationRow(user_id, at, Raw(JSON.encode(notification)))
        for user_id, notification in notifications.notifications(state, event, by)
    ]


def audio_use(recorded: e.Recorded) -> AudioUse | None:
    """Say which piece of audio an event gives its hearers to read."""
    event = recorded.event
    if type(event) is e.AudioSelected:
        return AudioUse(recorded.seq, event.audio_id, True, recorded.actor_id, None)
    if type(event) is e.ChatMessage and event.voice is not None:
        return AudioUse(recorded.seq, event.voice.audio_id, False, recorded.actor_id, event.to)
    return None


def notices(log: Sequence[e.Recorded], owner_id: UserId, wanted: Collection[str]) -> list[Notice]:
    """Say who outside is to hear of events: an invitation's devices always, the owner's endpoints of what is wanted."""
    told = [
        Notice(recorded.seq, "push", type_of(recorded.event), recorded.event.user_id)
        for recorded in log
        if isinstance(recorded.event, e.ParticipantInvited) and recorded.event.user_id != recorded.actor_id
    ]
    if wanted:
        types = ((recorded.seq, type_of(recorded.event)) for recorded in log)
        told += [Notice(seq, "webhook", kind, owner_id) for seq, kind in types if kind in wanted]
    return told


def type_of(event: e.AnyEvent) -> str:
    """Name an event's type as the log does."""
    return e.TYPES[type(event)]
