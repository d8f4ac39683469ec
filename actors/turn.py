"""A turn: what one run of an actor's mailbox decides, from being gathered until it has been shown."""

from collections.abc import Callable, Collection
from typing import Any

from msgspec import Raw, Struct
from pykka import ActorRef

from actors.channel import Published
from actors.event_log import Append, KeyRow, NotificationRow, Redaction
from actors.messages import Outcome, Reply, Subscribe
from actors.rows import JSON, audio_use, log_row, notices, participant_row
from actors.session import events as e
from actors.session import projection
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State


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
