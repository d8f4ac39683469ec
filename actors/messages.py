"""The messages to a session actor, and the outcomes that it replies with.

**Law:** every outcome is a value, refusals included: an exception in `on_receive` would stop the actor.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from actors.ports import Claim, KeyRow
from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Rejected
from actors.session.ids import UserId
from actors.session.state import State
from actors.session.visibility import Published

SYSTEM = c.Caller(user_id=UserId(""), name="")
"""The caller of commands that the server gives by itself."""


# Outcomes


class Answer(Struct, frozen=True):
    """The command is committed with these events; [] if it changed nothing."""

    seq: int
    published: list[Published]
    ephemeral: bool = False
    """Its events were relayed at once and are not stored."""


class Repeated(Struct, frozen=True):
    """This Idempotency-Key was used with the same body. Its answer is the log from `first_seq` to `last_seq`."""

    first_seq: int
    last_seq: int


class KeyReused(Struct, frozen=True):
    """This Idempotency-Key was used with another body."""


class Unavailable(Struct, frozen=True):
    """Not carried out, or not known to be; the caller may try again after `retry_s`.

    `detail` continues a sentence: "Try again: …", or "Slow down: …" if `busy`."""

    detail: str
    retry_s: float = 1.0
    busy: bool = False
    """Too many commands to one session are the cause, not the state of the server."""


class Fenced(Struct, frozen=True):
    """Not carried out: this actor no longer owns the session. The command can be sent again."""


class UnknownSession(Struct, frozen=True):
    """There is no such session."""


class Snapshot(Struct, frozen=True):
    """The result of a `ReadState`."""

    value: Any


Outcome = Answer | Repeated | KeyReused | Rejected | Unavailable | Fenced | UnknownSession | Snapshot


class Key(Struct, frozen=True):
    """An Idempotency-Key, and a digest of the request body."""

    key: str
    digest: str

    def outcome(self, used: KeyRow) -> Repeated | KeyReused:
        """Return the outcome of using the key again."""
        return Repeated(used.first_seq, used.last_seq) if used.digest == self.digest else KeyReused()


# Messages


class ReplyFuture(Protocol):
    """Receives an outcome, as an `asyncio.Future` does."""

    def done(self) -> bool:
        """Return whether it has an outcome, or no longer needs one."""

    def set_result(self, result: Outcome, /) -> None:
        """Give it its outcome."""


class Execute(Struct):
    """Carry out a command. The reply is set after its commit."""

    command: c.Command
    by: c.Caller
    reply: ReplyFuture | None = None
    key: Key | None = None


class Subscribe(Struct):
    """Open a stream: decide `Connect`, then attach the subscriber with a snapshot of exactly that state.

    `by` is None for an anonymous viewer, whom the session does not record. With `join`, the caller also joins."""

    subscriber: Any
    by: c.Caller | None
    join: bool
    reply: ReplyFuture | None = None


class ReadState(Struct):
    """Apply `view` to the state. It must not change the state or keep a reference to it."""

    view: Callable[[State], Any]
    reply: ReplyFuture | None = None


class Claimed(Struct, frozen=True):
    """The directory has claimed the session; `claim` is None if it does not exist.

    `missed`: the rows after the last one that the session's channel published."""

    claim: Claim | None
    missed: Sequence[e.Recorded] = ()


class ClaimFailed(Struct, frozen=True):
    """The session could not be claimed or read."""

    detail: str


class Wake(Struct, frozen=True):
    """The machine's deadline may have come."""


class Passivate(Struct, frozen=True):
    """Leave memory if nothing has happened since `idle_since`, in seconds of `time.monotonic`."""

    idle_since: float
