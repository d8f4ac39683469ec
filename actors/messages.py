"""What a session actor is told, and what it answers.

**Law:** an answer is a value, a refusal too: raising in `on_receive` would stop the actor.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from actors.ports import Claim, KeyRow, Published
from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Rejected
from actors.session.ids import UserId
from actors.session.state import State

SYSTEM = c.Caller(user_id=UserId(""), name="")
"""Who does what the server does by itself."""


# Answers


class Answer(Struct, frozen=True):
    """Committed: what the command made happen, [] when it was so already."""

    seq: int
    published: list[Published]
    ephemeral: bool = False


class Repeated(Struct, frozen=True):
    """This Idempotency-Key has been used for the same body: its answer is in the log, first_seq..last_seq."""

    first_seq: int
    last_seq: int


class KeyReused(Struct, frozen=True):
    """This Idempotency-Key has been used for another body."""


class Unavailable(Struct, frozen=True):
    """Not done, or not known to be done; try again after `retry_s`."""

    detail: str
    retry_s: float = 1.0
    busy: bool = False
    """The caller's own pace is the cause, not the server's state."""


class Fenced(Struct, frozen=True):
    """Not done: this actor no longer speaks for the session. Send it again."""


class UnknownSession(Struct, frozen=True):
    """There is no such session."""


class Snapshot(Struct, frozen=True):
    """What a `ReadState` saw."""

    value: Any


Outcome = Answer | Repeated | KeyReused | Rejected | Unavailable | Fenced | UnknownSession | Snapshot


class Key(Struct, frozen=True):
    """An Idempotency-Key, and a digest of the body that it came with."""

    key: str
    digest: str

    def outcome(self, used: KeyRow) -> Repeated | KeyReused:
        """Say what using it once more gives."""
        return Repeated(used.first_seq, used.last_seq) if used.digest == self.digest else KeyReused()


# Told


class ReplyFuture(Protocol):
    """Where an outcome goes: a future, or anything that takes a result as one does."""

    def done(self) -> bool: ...

    def set_result(self, result: Outcome, /) -> None: ...


class Execute(Struct):
    """Decide a command; the reply is set after its commit."""

    command: c.Command
    by: c.Caller
    reply: ReplyFuture | None = None
    key: Key | None = None


class Subscribe(Struct):
    """Open a stream: `Connect`, then a snapshot and everything after it, in one step.

    `by` is None for an onlooker, of whose stream the session knows nothing."""

    subscriber: Any
    by: c.Caller | None
    join: bool
    reply: ReplyFuture | None = None


class ReadState(Struct):
    """Read the state: `view` must take what it needs and keep nothing."""

    view: Callable[[State], Any]
    reply: ReplyFuture | None = None


class Claimed(Struct, frozen=True):
    """The session as it was restored, or None when there is none. `missed`: what its channel has yet to show."""

    claim: Claim | None
    missed: Sequence[e.Recorded] = ()


class ClaimFailed(Struct, frozen=True):
    """The session could not be claimed or read."""

    detail: str


class Wake(Struct, frozen=True):
    """A deadline has come."""


class Passivate(Struct, frozen=True):
    """Leave memory, if nothing has happened since `idle_since`."""

    idle_since: float
