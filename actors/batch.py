"""A batch: everything that one session decides in one drain of its mailbox. It is committed together, answered after
that, and then published.
"""

from collections.abc import Callable, Collection
from typing import Any

from msgspec import Raw, Struct
from pykka import ActorRef

from actors.commit import JSON, audio_use, log_row, notification_rows, outbox_rows, participant_row
from actors.messages import Outcome, ReplyFuture, Subscribe
from actors.ports import Append, KeyRow, NotificationRow, Redaction
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine, notifications
from actors.session.aspects import chat
from actors.session.event_rules import new_view
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from actors.session.visibility import Published, published_event


class Batch(Struct):
    """First gathered, then in flight to the log, then committed."""

    old_seq: int
    """The end of the log before it."""
    published: list[Published] = []
    replies: list[tuple[ReplyFuture, Outcome]] = []
    arrivals: list[Subscribe] = []
    """Streams that open with it."""
    keys: list[KeyRow] = []
    redactions: list[Redaction] = []
    notifications: list[NotificationRow] = []
    room_events: list[e.Event] = []
    """Events that require a request to the provider of the session's room (`EventRule.room`)."""
    changed_participants: dict[UserId, None] = {}
    """Participants whose rows in lists change."""
    session_changed: bool = False
    changed_views: dict[UserId, None] = {}
    """Users who may see other parts of the session after it (`EventRule.new_view`)."""
    appended: bool = False
    """It is an append of its own. A batch without rows and keys is none: it waits for those before it."""
    effects: list[Callable[[], None]] = []
    """Run after its events have been published."""

    def record(self, state: State, event: e.Event, epoch: int, by: c.Caller, now: Millis) -> Published:
        """Apply a durable event to the state, gather the changes of its commit, and return it for publication."""
        kind, actor_id = type(event), by.user_id or None
        if kind is e.MessageDeleted and (redacted := chat.redaction(state, event)):  # type: ignore[arg-type]
            self.redactions.append(Redaction(redacted[0], Raw(JSON.encode(redacted[1]))))
        if kind in notifications.NOTIFYING:
            self.notifications += notification_rows(state, event, by, now)
        recorded = e.Recorded(state.session.id, epoch, state.seq + 1, now, actor_id, event)  # type: ignore[arg-type]
        machine.apply(state, recorded)
        out = published_event(recorded, JSON.encode(event), state)
        self.published.append(out)
        self._project(out, state)
        return out

    def _project(self, out: Published, state: State) -> None:
        """Gather the changes of an event besides the log, by the state just after it."""
        event: Any = out.recorded.event
        rule = out.rule
        if rule.lists != "unchanged":
            self.session_changed = True
            if rule.lists == "participant":
                self.changed_participants[event.user_id] = None
            elif rule.lists == "everyone":
                self.changed_participants.update(dict.fromkeys(state.participants))
        if rule.new_view is not None and (viewer := new_view(event, state.session.owner_id)):
            self.changed_views[viewer] = None
        if rule.room:
            self.room_events.append(event)

    def append(
        self,
        actor: ActorRef[Any],
        session_id: SessionId,
        epoch: int,
        state: State,
        due: Millis | None,
        webhook_types: Collection[str],
    ) -> Append:
        """Return its part of a commit. `due`: the machine's deadline; `webhook_types`: see `Shared`."""
        rows = [log_row(out.recorded, out.json) for out in self.published]
        outbox = []
        # An invitation changes the participant whom it invites.
        if webhook_types or self.changed_participants:
            log = [out.recorded for out in self.published]
            outbox = outbox_rows(log, state.session.owner_id, webhook_types)
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
            participants=[participant_row(state.participants[user_id]) for user_id in self.changed_participants],
            audio_uses=[use for out in self.published if (use := audio_use(out.recorded))],
            outbox_rows=outbox,
            notifications=self.notifications,
            # With streams open the actor stays in memory and has its own timer. If its server stops, the next start of
            # a server wakes the session at once.
            wake_at=Millis(0) if state.session.online else due,
            size=sum([200 + len(out.json) for out in self.published]),
        )
