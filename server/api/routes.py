"""The rows that an API consists of, and what distinguishes one API from another.

**Law:** a row says everything about a route: its path, who may call it, its body, query and answer, what of a session
it reads, and the pure functions in between. A handler that is the same for all APIs does the rest (`api/handlers.py`).

A row's functions that take a `State` run inside the session's actor: they read it, return plain values, and may refuse
by raising `Problem` or `Rejected`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, structs

from actors.messages import Answer
from actors.session import commands as c
from actors.session.access import Ask
from actors.session.ids import SessionId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.api.services import Services
from server.http import key_case
from server.http.multipart import Form
from server.http.problems import Problem, ProblemBody, problem_body
from server.http.reply import Reply
from server.security.principal import Principal
from server.streams.format import Bye, StreamEncoder
from server.usecases.call import Call, Content, Download, Playing
from server.usecases.session_commands import See
from server.usecases.session_creation import CreationOptions
from server.usecases.session_lookup import SessionLookup
from storage.notifications import NotificationState, StoredNotification
from storage.sessions import CODE

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
# Any: the functions of one row agree on this type; each row has its own.
UseCase = Callable[[Services, Call], Awaitable[Any]]
OwnRule = Literal["its own functions"]
OWN_RULE: OwnRule = "its own functions"
"""Decide who may read, for a row that a ticket or a signed URL opens, too, or that others than participants may use."""
# Any: the functions of one row agree on this type; each row has its own.
View = Callable[[Any, Call], Any]
"""Makes what the API prints of the value that a row has come to: a Struct, plain data, or a whole `Reply`."""


# Any: the functions of one row agree on this type; each row has its own.
def as_it_is(value: Any, call: Call) -> Any:
    return value


class Row(Struct, frozen=True, kw_only=True):
    """What every route has. A path with `{ref}` names a session, and so does `code`, which takes its join code from the
    body.

    `public`: no credential is needed. `scoped`: a credential for one session will do though the path names none, and
    the use case minds its scope. `query_token`: the token may come as `?token=`, from clients that cannot set a header.
    `teachers`: only they may call it.
    `identify`: with `public`, returns the caller where there is more to it than a credential (`guest_identity.py`).
    `reads`: what of the session the caller must be allowed to read. Every row that names a session
    says so, or that its own functions decide; of commands and streams the session decides.
    `keyed`: it takes an Idempotency-Key; where it does not, one is refused, unless the route only reads.
    `bare`: no body is as good as `{}`. `forms`: the fields of the body may come as a form or in the query, too.
    `answer` documents the body of a success. `headers`: sent with it.
    `errors`: where this route words a refusal differently, by its reason: status and text. `error_body` prints refusals
    where this route does it unlike all others."""

    method: Method = "GET"
    path: str
    summary: str
    public: bool = False
    scoped: bool = False
    query_token: bool = False
    teachers: bool = False
    identify: Callable[[Services, Call], Awaitable[Principal]] | None = None
    reads: Ask | OwnRule | None = None
    # Any: the functions of one row agree on this type; each row has its own.
    code: Callable[[Any], str] | None = None
    keyed: bool = False
    # Any: the functions of one row agree on this type; each row has its own.
    query: Any = None
    # Any: the functions of one row agree on this type; each row has its own.
    body: Any = None
    bare: bool = False
    forms: bool = False
    status: int = 200
    # Any: the functions of one row agree on this type; each row has its own.
    answer: Any = None
    headers: Mapping[str, str] = {}
    errors: Mapping[str, tuple[int, str]] = {}
    # Any: the functions of one row agree on this type; each row has its own.
    error_body: Callable[[int, str], Any] | None = None

    @property
    def names_session(self) -> bool:
        return "{ref}" in self.path or self.code is not None


class CommandRoute(Row, frozen=True, kw_only=True):
    """A command to a session.

    `lookup` looks something up outside of the session first, such as whose account a number is: `call.known` from then
    on; `find` in the session, such as whom a number means there: `call.found`. `ask` makes the command, of one of the
    types in `commands`, or several of them together.
    Its answer is what `see` sees in the session once the command is committed, or `view` of what `then` gave, which has
    the other as `call.seen`.
    `has_invitation`: a caller who finds the session may come in, as if they held its join code."""

    method: Method = "POST"
    keyed: bool = True
    lookup: UseCase | None = None
    find: See | None = None
    commands: tuple[type[c.Command], ...]
    ask: Callable[[Call], c.Command]
    has_invitation: bool = False
    see: See | None = None
    then: UseCase | None = None
    view: View = as_it_is


class DirectCommandRoute(Row, frozen=True, kw_only=True):
    """A command that is sent as it is, and answered by what it made happen. The fast lane serves these rows, too.

    `reply` prints that; `repeat` what an Idempotency-Key used before gives, from the events of the first time."""

    method: Method = "POST"
    keyed: bool = True
    reply: Callable[[Answer], Reply]
    repeat: Callable[[int, list[VisibleEvent]], Reply]


class CreateRoute(Row, frozen=True, kw_only=True):
    """A new session. The answer is what `see` makes of its first state, or `view` of what `then` gave, which has the
    other as `call.seen`."""

    method: Method = "POST"
    keyed: bool = True
    status: int = 201
    new: Callable[[Call], c.NewSession]
    options: Callable[[Call], CreationOptions] = lambda call: CreationOptions()
    see: See | None = None
    # Any: the functions of one row agree on this type; each row has its own.
    then: Callable[[Services, Call, State], Awaitable[Any]] | None = None
    view: View = as_it_is


class ReadRoute(Row, frozen=True, kw_only=True):
    """Reads a session as it is now. The answer is what `see` sees, or `view` of what `then` gave, which has the other
    as `call.seen`."""

    reads: Ask | OwnRule | None = Ask.CARD
    see: See
    then: UseCase | None = None
    view: View = as_it_is


class ActionRoute(Row, frozen=True, kw_only=True):
    """Anything else. `act` is every API's (`usecases/`), `view` is its own.

    `into` makes of the call the body that `act` takes, where the API's own is another.
    `text_types`: what the answer may be besides JSON, where the query asks for it: `text/csv`."""

    act: UseCase
    # Any: the functions of one row agree on this type; each row has its own.
    into: Callable[[Call], Any] | None = None
    view: View = as_it_is
    text_types: tuple[str, ...] = ()


class UploadRoute(Row, frozen=True, kw_only=True):
    """A form with a file, read as it comes. `form` documents its fields."""

    method: Method = "POST"
    # Any: the functions of one row agree on this type; each row has its own.
    form: Any
    # Any: the functions of one row agree on this type; each row has its own.
    act: Callable[[Services, Call, Form], Awaitable[Any]]
    view: View = as_it_is


class ContentRoute(Row, frozen=True, kw_only=True):
    """A blob, whole or in part; HEAD too. With `public`, `act` verifies what the URL itself says."""

    act: Callable[[Services, Call], Awaitable[Content]]


class DownloadRoute(Row, frozen=True, kw_only=True):
    """A body in parts, of a session. With `public`, `act` verifies what the URL itself says."""

    act: Callable[[Services, Call], Awaitable[Download]]
    content_type: str


class ReplayRoute(Row, frozen=True, kw_only=True):
    """The SSE of what has happened in a session. `play` verifies a ticket or what the URL itself says."""

    play: Callable[[Services, Call], Awaitable[Playing]]
    format: StreamEncoder


class HookRoute(Row, frozen=True, kw_only=True):
    """What another service reports: a body as it came, which `act` verifies by its headers; then 200."""

    method: Method = "POST"
    public: bool = True
    act: Callable[[Services, Mapping[str, str], bytes], Awaitable[None]]


class StreamRoute(Row, frozen=True, kw_only=True):
    """The SSE stream of a session. With `public`, a caller without a credential looks on.

    `find` reads the session first, and may refuse. `join`: opening it takes part.
    `has_invitation`: a caller who finds the session may come in, as if they held its join code."""

    format: StreamEncoder
    find: See | None = None
    join: bool = False
    has_invitation: bool = False


class UserStreamRoute(StreamRoute, frozen=True, kw_only=True):
    """The SSE stream of the caller's own notifications. A cursor's first number is here the notification's time."""

    standing: Callable[[NotificationState], bytes]
    """Prints the body of the first frame."""
    told: Callable[[StoredNotification], bytes]
    """Prints the frame of a notification."""


class SocketRoute(StreamRoute, frozen=True, kw_only=True):
    """A session's stream as a WebSocket, with commands the other way.

    `closes`: the code with which the connection is closed."""

    status: int = 101
    closes: Mapping[Bye, int]


class CommandSocketRoute(SocketRoute, frozen=True, kw_only=True):
    """A socket on which a client sends commands under names of its own, and is answered under these."""

    commands: DirectCommandRoute
    """What becomes of a command is what this row says."""
    answered: Callable[[bytes, Reply], bytes]
    """Prints what comes of the command that the client gave this name (JSON)."""


class Frame(Struct, frozen=True):
    """A type of message that a socket takes. `ask` makes the command of it, the message's data being `call.body`."""

    # Any: the functions of one row agree on this type; each row has its own.
    body: Any
    ask: Callable[[Call], c.Command]
    find: See | None = None


class MessageSocketRoute(SocketRoute, frozen=True, kw_only=True):
    """A socket of `{type, data}` messages, both ways, for as long as the token is good.

    `other` makes the command of a type that is not in `frames`; without it, and for bad ones, `failed` prints why.
    `identify` returns who sends a message that comes without a credential."""

    frames: Mapping[str, Frame]
    other: Callable[[str, Call], c.Command] | None = None
    failed: Callable[[Problem, str], bytes | None]
    refusals: Mapping[int, int]
    """Statuses for which the connection is opened, to be closed at once with this code; others are HTTP answers."""


class Api(Struct, frozen=True, kw_only=True):
    """One API: rows under a prefix, and how it names sessions, reads requests and prints answers. What is here is what
    `/v1` does; `Dialect` differs."""

    name: str
    title: str
    prefix: str
    rows: tuple[Row, ...]
    cors_origins: tuple[str, ...] = ()
    """Origins allowed here besides those of `[server] cors_origins`."""
    open: tuple[str, ...] = ()
    """Settings that are on and let in callers who are not verified: reported at the start and in `/readyz`."""
    strict: bool = True
    """Parameters of a query that there are not are refused, where the route only reads."""
    tickets: bool = True
    """A single-use `?ticket=` opens its streams, instead of a token."""
    forms: bool = False
    """On all rows: see `Row.forms`."""
    cased: bool = False
    """`?case=camel` gives keys in camelCase, and takes them."""
    user_field: str | None = None
    """A field with which clients say who they are. It must agree with their token."""
    trusting: bool = False
    """The user field is believed from clients that have no token."""

    about: str = "Refusals are problem+json (RFC 9457) with a `reason` for programs."
    # Any: the functions of one row agree on this type; each row has its own.
    refused: Any = ProblemBody
    """Documents the body of a refusal."""
    refused_as: str = "application/problem+json"
    names_sessions: str = "id, number, name or code"

    @property
    def description_path(self) -> str:
        return "/openapi.json"

    @property
    def docs_paths(self) -> tuple[str, ...]:
        """Paths that lead to this API's page in `/docs`, besides that itself."""
        return ()

    @property
    def slashes(self) -> bool:
        """Whether every path is served with a slash at its end, too."""
        return False

    @property
    def made_through(self) -> str | None:
        """The name under which it creates sessions, if these are its own."""
        return None

    async def find_session(self, lookup: SessionLookup, ref: str) -> tuple[SessionId, bool]:
        """Return the id of the session that a path names, and whether `ref` is its join code. Raise Problem 404."""
        return await lookup.resolve(ref)

    async def find_by_code(self, lookup: SessionLookup, code: str) -> tuple[SessionId, bool]:
        """Return the id of the session with a join code, and whether that lets the caller in. Raise Problem 404."""
        return await lookup.resolve(code)

    def is_guess(self, ref: str) -> bool:
        """Return whether a reference that led nowhere may have been a guess at a join code."""
        return CODE.fullmatch(ref) is not None

    # Any: the functions of one row agree on this type; each row has its own.
    def printed(self, row: Row, value: Any, *, camel: bool = False) -> Reply:
        """Print what a row has come to. `camel`: with keys in camelCase."""
        if isinstance(value, Reply):
            return value
        if row.status == 204:
            return Reply(204, None, row.headers)
        if camel:
            value = key_case.camel(msgspec.to_builtins(value))
        return Reply(row.status, msgspec.json.encode(value), row.headers)

    def worded(self, problem: Problem, row: Row | None) -> tuple[int, str]:
        """Return the status and the text of a refusal; without a text, the problem's own detail stands."""
        return problem.status, ""

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        """Print a refusal. `row` is None where no route was found."""
        return Reply(problem.status, problem_body(problem), problem.headers, "application/problem+json")


def under(path: str, *rows: Row) -> tuple[Row, ...]:
    """Return rows with their paths put under another."""
    return tuple(structs.replace(row, path=path + row.path) for row in rows)
