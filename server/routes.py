"""The table types: an API is rows of these, served by the generic handlers (`handlers.py`).

A row says what is public about a route: path, who may call, body, query, answer, and the pure functions between.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from actors.session import commands as c
from actors.session.events import Recorded
from actors.session.ids import SessionId
from actors.session_actor import Answer
from server.auth import Principal
from server.services import Services
from server.streams import Format

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Reply(Struct, frozen=True):
    """An answer: a body already encoded, or None for none."""

    status: int
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


class Call(Struct, frozen=True):
    """A request, verified and decoded. `session_id` is what the row's reference led to."""

    params: Mapping[str, str]
    query: Any
    body: Any
    caller: Principal | None
    session_id: SessionId
    address: str

    @property
    def principal(self) -> Principal:
        if self.caller is None:
            raise TypeError("this route takes callers without a credential")
        return self.caller


class Row(Struct, frozen=True, kw_only=True):
    """What every route has. `public`: no credential is needed. `answer` documents the 2xx body."""

    method: Method = "GET"
    path: str
    summary: str
    public: bool = False
    query: Any = None
    body: Any = None
    status: int = 200
    answer: Any = None


class CommandRoute(Row, frozen=True, kw_only=True):
    """A command to a session. `ref` says where the session's reference is: a path parameter, or the body."""

    method: Method = "POST"
    ref: Callable[[Mapping[str, str], Any], str] = lambda params, body: params["ref"]
    command: Callable[[Any], c.Command] = lambda body: body
    reply: Callable[[Answer], Reply] | None = None
    repeat: Callable[[int, list[Recorded]], Reply] | None = None
    """What an Idempotency-Key used before gives, from the rows of the first time."""
    then: Callable[[Services, Call], Awaitable[Any]] | None = None
    """Instead of those two: what to look up once the command is committed, from `actions.py`."""
    view: Callable[[Any], Reply] | None = None
    """Prints what `then` gave."""


class ActionRoute(Row, frozen=True, kw_only=True):
    """Anything else. `act` comes from `actions.py`, `view` is the API's own."""

    act: Callable[[Services, Call], Awaitable[Any]]
    view: Callable[[Any], Reply]
    session: bool = False
    """The path has a `{ref}` to resolve."""


class StreamRoute(Row, frozen=True, kw_only=True):
    """The SSE stream of a session."""

    format: Format
    join: bool = False
    """Opening it takes part."""


class Api(Struct, frozen=True, kw_only=True):
    """One API: rows under a prefix."""

    name: str
    title: str
    prefix: str
    rows: tuple[CommandRoute | ActionRoute | StreamRoute, ...]
