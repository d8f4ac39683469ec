"""Events as rows of a commit: for the log, for lists, for users' notifications and for the outbox."""

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Raw

from actors.ports import (
    AudioUse,
    Creation,
    LogRow,
    NotificationRow,
    OutboxRow,
    ParticipantRow,
)
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine, notifications
from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State
from actors.session.visibility import Published, published_event

JSON = msgspec.json.Encoder()


def creation(log: Sequence[e.Recorded]) -> tuple[State, Creation]:
    """Return a new session's state after its first rows, and the commit of these rows."""
    state = machine.replay(log)
    rows = [log_row(recorded, JSON.encode(recorded.event)) for recorded in log]
    people = [participant_row(one) for one in state.participants.values()]
    outbox = outbox_rows(log, state.session.owner_id, {row.type for row in rows})
    by = c.Caller(state.session.owner_id, state.session.owner_name)
    notified = [row for recorded in log for row in notification_rows(state, recorded.event, by, recorded.at)]
    return state, Creation(state.session, rows, people, machine.deadline(state), outbox, notified)


def outgoing(row: e.Recorded, state: State) -> Published:
    """Return a row of the log for publication. Its audience follows from the current state."""
    return published_event(row, JSON.encode(row.event), state)


def log_row(r: e.Recorded, encoded: bytes) -> LogRow:
    """Return the log row of an event; `encoded` is the event as JSON."""
    return LogRow(r.session_id, r.epoch, r.seq, r.at, r.actor_id, type_of(r.event), Raw(encoded))


def participant_row(one: Participant) -> ParticipantRow:
    """Return a participant's row in lists."""
    return ParticipantRow(one.user_id, one.number, one.name, one.role, one.status, one.joined_at, one.left_at)


def notification_rows(state: State, event: e.Event, by: c.Caller, at: Millis) -> list[NotificationRow]:
    """Return the notifications that an event causes, given the state just before it."""
    return [
        NotificationRow(user_id, at, Raw(JSON.encode(notification)))
        for user_id, notification in notifications.notifications(state, event, by)
    ]


def audio_use(recorded: e.Recorded) -> AudioUse | None:
    """Return the audio that an event gives its audience access to; None if it gives none."""
    event = recorded.event
    if type(event) is e.AudioSelected:
        return AudioUse(recorded.seq, event.audio_id, True, recorded.actor_id, None)
    if type(event) is e.ChatMessage and event.voice is not None:
        return AudioUse(recorded.seq, event.voice.audio_id, False, recorded.actor_id, event.to)
    return None


def outbox_rows(log: Sequence[e.Recorded], owner_id: UserId, webhook_types: Collection[str]) -> list[OutboxRow]:
    """Return what is sent outside for these events: pushes for invitations, webhooks for the types listed."""
    outbox = [
        OutboxRow(recorded.seq, "push", type_of(recorded.event), recorded.event.user_id)
        for recorded in log
        if isinstance(recorded.event, e.ParticipantInvited) and recorded.event.user_id != recorded.actor_id
    ]
    if webhook_types:
        types = ((recorded.seq, type_of(recorded.event)) for recorded in log)
        outbox += [OutboxRow(seq, "webhook", kind, owner_id) for seq, kind in types if kind in webhook_types]
    return outbox


def type_of(event: e.AnyEvent) -> str:
    """Return an event's type as the log names it."""
    return e.TYPES[type(event)]
