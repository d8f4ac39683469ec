"""What a dialect is: an older product's API as a table, over the sessions of one kind.

**Law:** a dialect's functions are pure. Those that take a `State` run inside the session's actor: they read, and give
plain values to print; they may refuse by raising `Problem` or `Rejected`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from actors.session import commands as c
from actors.session.errors import Reason
from actors.session.events import Event
from actors.session.ids import Millis, UserId
from actors.session.state import Kind, State
from actors.session.visibility import VisibleEvent
from server.api.routes import Api, Row
from server.http.multipart import Form
from server.http.problems import STATUS, Problem
from server.http.reply import Reply
from server.security.principal import Principal
from server.streams.format import Bye, StreamEncoder
from server.usecases.call import Call, Content
from server.usecases.services import Services
from server.usecases.session_commands import See
from server.usecases.session_creation import CreationOptions
from storage.sessions import Naming

Whose = Literal["anyone", "participant", "moderator", "owner"]
"""Who may: anyone whom the row lets call, who has a place in the session, its hosts and cohosts, its owner."""


class DialectRow(Row, frozen=True, kw_only=True):
    """What every row of a dialect has. Its `{ref}`, if it has one, names the session, or `ref`, of the body, its code.

    `query_token`: the token may come as `?token=`, from clients that cannot set a header. `teachers`: only they.
    `scoped`: a credential for one session will do, though the path names none; `act` minds its scope.
    `comes`: with `public`, gives who calls where there is more to it than a credential (see `guests.py`); on a socket,
    who says a message that comes without one.
    `error_body` prints refusals where this route does it unlike all others: status, text → body."""

    query_token: bool = False
    comes: Callable[[Services, Call], Awaitable[Principal]] | None = None
    teachers: bool = False
    scoped: bool = False
    whose: Whose = "anyone"
    ref: Callable[[Any], str] | None = None
    forms: bool = False
    """The fields of the body may come as a form or in the query, too."""
    error_body: Callable[[int, str], Any] | None = None


class LookRoute(DialectRow, frozen=True, kw_only=True):
    """Reads a session as it is now. The answer is what `see` sees, or `out` of what `then` gave, which has the other as
    `call.seen`."""

    see: See
    whose: Whose = "participant"
    then: Callable[[Services, Call], Awaitable[Any]] | None = None
    out: Callable[[Any, Call], Any] = lambda value, call: value


class AskRoute(DialectRow, frozen=True, kw_only=True):
    """A command to a session. Its answer is what `see` sees once it is committed, or `out` of what `then` gave, which
    has the other as `call.seen`.

    `lookup` looks something up elsewhere first, such as whose account a number is: `call.known` from then on; `find` in
    the session, such as whom a number means there: `call.found`.
    `has_invitation`: whoever finds the session may come in, as if they held its join code."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    keyed: bool = True
    lookup: Callable[[Services, Call], Awaitable[Any]] | None = None
    find: See | None = None
    ask: Callable[[Call], c.Command]
    has_invitation: bool = False
    see: See | None = None
    then: Callable[[Services, Call], Awaitable[Any]] | None = None
    out: Callable[[Any, Call], Any] = lambda value, call: value


class CreateRoute(DialectRow, frozen=True, kw_only=True):
    """A new session. `see` prints it from its first state, or `out` what `then` gave, which has the other as
    `call.seen`."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    keyed: bool = True
    status: int = 201
    new: Callable[[Call], c.NewSession]
    opening: Callable[[Call], CreationOptions] = lambda call: CreationOptions()
    see: See | None = None
    then: Callable[[Services, Call, State], Awaitable[Any]] | None = None
    out: Callable[[Any, Call], Any] = lambda value, call: value


class FetchRoute(DialectRow, frozen=True, kw_only=True):
    """Anything else. `act` is every API's (`accounts.py`, `sessions.py` and their like); `out` prints what it gave.

    `into` makes of the call the body that `act` takes, where the dialect's own is another."""

    act: Callable[[Services, Call], Awaitable[Any]]
    into: Callable[[Call], Any] | None = None
    out: Callable[[Any, Call], Any] = lambda value, call: value


class PlayRoute(DialectRow, frozen=True, kw_only=True):
    """A blob, whole or in part; HEAD too."""

    act: Callable[[Services, Call], Awaitable[Content]]


class TakeRoute(DialectRow, frozen=True, kw_only=True):
    """A form with a file, read as it comes. `form` documents its fields."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    form: Any
    act: Callable[[Services, Call, Form], Awaitable[Any]]
    out: Callable[[Any, Call], Any] = lambda value, call: value


class WatchRoute(DialectRow, frozen=True, kw_only=True):
    """A session's SSE stream; its format is made by `dialect_frames.py`. `join`: opening it takes part. With `public`,
    who has no credential looks on.

    `find` looks at the session first, and may refuse."""

    format: StreamEncoder
    find: See | None = None
    join: bool = False
    has_invitation: bool = False
    """Whoever finds the session may come in, as if they held its join code."""


class Frame(Struct, frozen=True):
    """A type of message that a socket takes. `ask` makes the command of it, the message's data being `call.body`."""

    body: Any
    ask: Callable[[Call], c.Command]
    find: See | None = None


class TalkRoute(WatchRoute, frozen=True, kw_only=True):
    """A session as a WebSocket of `{type, data}` messages, both ways, for as long as the token is good.

    `other` makes the command of a type that is not in `frames`; without it, and for bad ones, `failed` prints why."""

    status: int = 101
    frames: Mapping[str, Frame]
    other: Callable[[str, Call], c.Command] | None = None
    failed: Callable[[Problem, str], bytes | None]
    closes: Mapping[Bye, int]
    """What the connection is closed with."""
    refusals: Mapping[int, int]
    """Statuses for which the connection is opened, to be closed at once with this code; others are HTTP answers."""


Shown = tuple[str, Callable[[VisibleEvent, State], Any]]
"""What an event is called, and its data: an object, None where there is nothing to show, a list for one frame each."""


Told = Shown | list[Shown]
"""What is told of an event: one thing, or several."""


Relayed = Callable[[Any, UserId, Millis, State], tuple[str, Any] | None]


class Dialect(Api, frozen=True, kw_only=True):
    """An older product's API.

    `kind`: of the sessions that it has; `named`: what names one in its paths, `reference`: how such a name looks, as a
    regular expression, and `inviting`: whoever knows one may come in, so that guesses are counted. `errors` and
    `problems` word refusals, by the machine's `Reason` and by all other reasons: status and text, which may have the
    path's parameters in it, and `{detail}`; an empty one stands for that. `forms`: on all rows."""

    kind: Kind
    named: Naming
    own: bool = True
    """It has only sessions that were made through it: whoever made one elsewhere has not asked for its rules."""
    reference: str = ""
    inviting: bool = False
    cased: bool = False
    """`?case=camel` gives keys in camelCase, and takes them."""
    errors: Mapping[Reason, tuple[int, str]]
    problems: Mapping[str, tuple[int, str]] = {}
    error_body: Callable[[int, str, Problem], Any]
    events: Mapping[type[Event], Told] = {}
    silent: frozenset[type[Event]] = frozenset()
    forms: bool = False
    user_field: str | None = None
    """A field with which clients say who they are. It has to be true."""
    trusting: bool = False
    """It is believed from those who have no token."""
    redoc: bool = False
    about: str = "An older product's API, over the same sessions."
    refused: Any = dict[str, Any]
    refused_as: str = "application/json"

    @property
    def description_path(self) -> str:
        # Mounted at the root, the description of Homeroom's own API is in its place.
        return f"{self.prefix or '/' + self.name}/openapi.json"

    @property
    def docs_paths(self) -> tuple[str, ...]:
        # Mounted at the root, the page of all APIs is in its place.
        return tuple(f"{self.prefix}/{page}" for page in ("docs", "redoc")[: 1 + self.redoc] if self.prefix)

    @property
    def made(self) -> str | None:
        """Through which dialect its sessions have to have been made; None: any, or none."""
        return self.name if self.own else None

    @property
    def slashes(self) -> bool:
        return True

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        status, text = self.worded(problem, row)
        said = text.format_map({"ref": "", **params, "detail": problem.detail}) if text else problem.detail
        own = row.error_body if isinstance(row, DialectRow) else None
        body = self.error_body(status, said, problem) if own is None else own(status, said)
        return Reply(status, msgspec.json.encode(body), problem.headers)

    def worded(self, problem: Problem, row: Row | None) -> tuple[int, str]:
        """Give the status and the text of a refusal: this route's own word for it, the dialect's, or the plain one."""
        if row is not None and problem.reason in row.errors:
            return row.errors[problem.reason]
        if problem.reason in self.problems:
            return self.problems[problem.reason]
        if problem.reason in REASONS:
            return self.errors[Reason(problem.reason)]
        return problem.status, ""


def under(path: str, *rows: Row) -> tuple[Row, ...]:
    """Put rows under a path."""
    return tuple(structs.replace(row, path=path + row.path) for row in rows)


def detailed(status: int, text: str, problem: Problem) -> Any:
    """Print `{"detail": …}`: a text, or of what is no valid body or query the places that are wrong."""
    if status != 422:
        return {"detail": text}
    place = [problem.location, *(problem.field.split(".") if problem.field else ())]
    kind = "missing" if text.endswith("is required.") else "json_invalid" if problem.field is None else "value_error"
    return {"detail": [{"loc": place, "msg": text, "type": kind}]}


PLAIN: Mapping[Reason, tuple[int, str]] = {reason: (status, "") for reason, status in STATUS.items()}
"""What `/v1` answers, in its own words: what a dialect begins with."""


REASONS = frozenset(reason.value for reason in Reason)
