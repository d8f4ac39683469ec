"""The channel, as a session's actor sees it: where committed events go out to the session's streams."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State


class Published(Struct, gc=False):
    """A committed event on its way out: its JSON as the log has it, and whom it concerns (None: everyone).

    `state` is for looking up what never changes, such as names and numbers: it may be ahead of the event."""

    recorded: e.Recorded
    event: bytes
    audience: frozenset[UserId] | None
    state: State
    printed: dict[str, bytes] = {}
    """The same as an API prints it, by the API's name: made once for the answer and the streams."""


class Channel(Protocol):
    """The streams of one session, as its actor sees them. They outlive the actor."""

    last_seq: int
    """The last event that went out; 0: none yet."""

    def publish(self, batch: Sequence[Published]) -> None:
        """Write committed events, in order, to those concerned."""

    def restored(self, state: State) -> None:
        """Go by a new actor's state from now on, for what has gone out too."""

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        """Write an ephemeral event."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        """Encode what newcomers get first from the state as it is now; calling the result attaches them."""

    def users(self) -> Collection[UserId]:
        """Name who has a stream open."""
