"""The part that every session actor of a process shares: settings, the clock, and callbacks."""

from collections.abc import Callable, Collection

from msgspec import Struct
from pykka import ActorRef

from actors.idempotency import KEYS_KEPT
from actors.persistence import Persistence
from actors.runtime import LoopScheduler
from actors.session import events as e
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Room
from actors.snapshots import SnapshotLimits


class Shared(Struct, frozen=True):
    """Passed to each actor when it starts."""

    persistence: ActorRef[Persistence]
    scheduler: LoopScheduler
    log_behind: Callable[[], bool]
    """Whether so much waits to be committed that commands are refused."""
    clock: Callable[[], Millis]
    snapshots: SnapshotLimits
    commands_per_s: float
    keys_kept: int = KEYS_KEPT
    webhook_types: Callable[[UserId], Collection[str]] = lambda owner_id: ()
    """The event types that some webhook endpoint of a session's owner may want. The commit itself checks each."""
    notify: Callable[[Collection[UserId]], None] = lambda users: None
    """Called when notifications for these users have been committed."""
    on_room_event: Callable[[SessionId, Room, e.Event], None] = lambda session_id, room, event: None
    """Called when an event that concerns the session's room (`EventRule.room`) has been committed."""
