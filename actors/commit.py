"""Events as rows: what a commit holds of them for the log, for lists, for users and for the outside."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from pykka import ActorRef

from actors.messages import Outcome, Reply, Subscribe
from actors.ports import (
    Append,
    AudioUse,
    Creation,
    KeyRow,
    LogRow,
    Notice,
    NotificationRow,
    ParticipantRow,
    Published,
    Redaction,
)
from actors.session import audience, machine, notifications, projection
from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, SessionId, UserId
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


class Turn(Struct):
    """What a turn decides: being gathered, then on its way through the log, then shown.

    `appended`: it is in an append of its own; else it waits for those before it."""

    old_seq: int
    """Where the log ended before it."""
    published: list[Published] = []
    replies: list[tuple[Reply, Outcome]] = []
    arrivals: list[Subscribe] = []
    keys: list[KeyRow] = []
    redactions: list[Redaction] = []
    notifications: list[NotificationRow] = []
    passed_on: list[e.Event] = []
    """What concerns the session's room."""
    changed: dict[UserId, None] = {}
    """Whose rows in lists it changes."""
    session_changed: bool = False
    view_changed: dict[UserId, None] = {}
    """For whom other parts of the session are visible after it: `audience.changes_view`."""
    appended: bool = False
    after: list[Callable[[], None]] = []
    """What else happens once it has been committed, when what was published before has been shown."""

    def project(self, event: e.Event, state: State) -> None:
        """Note what an event changes besides the log, in the state just after it."""
        kind = type(event)
        if kind in projection.CHANGES_SESSION:
            self.session_changed = True
        if user_id := projection.changed_participant(event):
            self.changed[user_id] = None
        if kind in projection.CHANGES_EVERYONE:
            self.changed.update(dict.fromkeys(state.participants))
        if kind in audience.CHANGES_VIEW and (viewer := audience.changes_view(event, state.session.owner_id)):
            self.view_changed[viewer] = None
        if kind in projection.CONCERNS_ROOM:
            self.passed_on.append(event)

    def append(
        self,
        actor: ActorRef[Any],
        session_id: SessionId,
        epoch: int,
        state: State,
        due: Millis | None,
        wanted: Collection[str],
    ) -> Append:
        """Give this turn's part of a commit. `wanted`: see `Shared`; `due`: when the session wants to be woken."""
        rows = [log_row(out.recorded, out.event) for out in self.published]
        owner_id, told = state.session.owner_id, []
        # Whoever is invited is changed.
        if wanted or self.changed:
            told = notices([out.recorded for out in self.published], owner_id, wanted)
        return Append(
            actor=actor,
            session_id=session_id,
            epoch=epoch,
            old_seq=self.old_seq,
            new_seq=state.seq,
            rows=rows,
            keys=self.keys,
            redactions=self.redactions,
            session=Raw(JSON.encode(state.session)) if self.session_changed else None,
            participants=[participant_row(state.participants[user_id]) for user_id in self.changed],
            uses=[use for out in self.published if (use := audio_use(out.recorded))],
            notices=told,
            notifications=self.notifications,
            # With streams open an actor lives, and has its own timer; after it, the next start comes first.
            wake_at=Millis(0) if state.session.online else due,
            size=sum([200 + len(out.event) for out in self.published]),
        )
