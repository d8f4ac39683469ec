"""The rows that make up an API, and the settings that distinguish one API from another.

**Law:** a row declares everything about its route: path, callers, body, query, answer, the access to the session that
it needs, and the pure functions in between. Handlers that are the same for all APIs do the rest (`handlers.py`,
`downloads.py`, `replay_stream.py`, `sse.py`, `websocket.py`).

A row's functions that take a `State` run inside the session's actor. They read it, return plain values, and may refuse:
they raise `Problem` or `Rejected`.
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
"""For rows whose functions check access: a ticket or signed URL opens them, or not only participants may use them."""
# Any: the functions of one row agree on this type; each row has its own.
View = Callable[[Any, Call], Any]
"""Returns what the API encodes of a row's result: a Struct, plain data, or a complete `Reply`."""


# Any: the functions of one row agree on this type; each row has its own.
def as_it_is(value: Any, call: Call) -> Any:
    """Return the value unchanged."""
    return value


class Row(Struct, frozen=True, kw_only=True):
    """The fields that every route has. A path with `{ref}` names a session. With `code`, the body names it by its join
    code.

    `public`: no credential is needed. `scoped`: a credential for one session is accepted although the path names no
    session; the use case checks its scope. `query_token`: the token may come as `?token=`, from clients that cannot set
    a header. `teachers`: only teachers may call it.

    `identify`: returns the caller of a `public` route if a credential alone does not decide (`guest_identity.py`).

    `reads`: the access to the session that the caller needs. Every row that names a session declares it, or `OWN_RULE`.
    For commands and streams the session decides.

    `keyed`: the route takes an Idempotency-Key. Other routes refuse one, unless they only read. `bare`: an empty body
    counts as `{}`. `forms`: the body's fields may also come as a form or in the query.

    `answer`: documents the body of a success. `headers`: sent with a success. `errors`: status and text by reason,
    where this route words a refusal differently. `error_body`: encodes refusals, where this route differs from its API.
    """

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
        """Return whether the path or the body names a session."""
        return "{ref}" in self.path or self.code is not None


class CommandRoute(Row, frozen=True, kw_only=True):
    """A command to a session.

    `lookup` reads something outside of the session first, such as the account with a number: the result is
    `call.known`. `find` reads something in the session first, such as the participant with a number: the result is
    `call.found`. `ask` returns the command: one of the types in `commands`, or several of them together.

    The answer is `view` of the result of `then`, or, without `then`, of the result of `see`, which reads the session
    after the commit. `then` gets that result as `call.seen`.

    `has_invitation`: a caller who can name the session may join, as if they had its join code."""

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
    """A command that the client sends in its final form. Its answer depends only on its events. The fast lane serves
    these rows, too.

    `reply` encodes the answer. `repeat` encodes the answer to a repeated Idempotency-Key, from the events of the first
    request."""

    method: Method = "POST"
    keyed: bool = True
    reply: Callable[[Answer], Reply]
    repeat: Callable[[int, list[VisibleEvent]], Reply]


class CreateRoute(Row, frozen=True, kw_only=True):
    """A route that creates a session. The answer is `view` of the result of `then`, or, without `then`, of the result
    of `see` for the first state. `then` gets that result as `call.seen`."""

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
    """A route that reads a session as it is now. The answer is `view` of the result of `then`, or, without `then`, of
    the result of `see`. `then` gets that result as `call.seen`."""

    reads: Ask | OwnRule | None = Ask.CARD
    see: See
    then: UseCase | None = None
    view: View = as_it_is


class ActionRoute(Row, frozen=True, kw_only=True):
    """Any other route. `act` is a use case that all APIs share (`usecases/`); `view` belongs to this API.

    `into` returns the body that `act` takes, where this API's own body differs. `text_types`: content types besides
    JSON that the query may ask for, such as `text/csv`."""

    act: UseCase
    # Any: the functions of one row agree on this type; each row has its own.
    into: Callable[[Call], Any] | None = None
    view: View = as_it_is
    text_types: tuple[str, ...] = ()


class UploadRoute(Row, frozen=True, kw_only=True):
    """A form with a file, which is read while it arrives. `form` documents its fields."""

    method: Method = "POST"
    # Any: the functions of one row agree on this type; each row has its own.
    form: Any
    # Any: the functions of one row agree on this type; each row has its own.
    act: Callable[[Services, Call, Form], Awaitable[Any]]
    view: View = as_it_is


class ContentRoute(Row, frozen=True, kw_only=True):
    """A blob, whole or in part, also for HEAD. With `public`, `act` verifies the signed URL."""

    act: Callable[[Services, Call], Awaitable[Content]]


class DownloadRoute(Row, frozen=True, kw_only=True):
    """A body about a session, sent in parts. With `public`, `act` verifies the signed URL."""

    act: Callable[[Services, Call], Awaitable[Download]]
    content_type: str


class ReplayRoute(Row, frozen=True, kw_only=True):
    """The SSE replay of a session. `play` verifies a ticket or the signed URL."""

    play: Callable[[Services, Call], Awaitable[Playing]]
    format: StreamEncoder


class HookRoute(Row, frozen=True, kw_only=True):
    """A report from another service. `act` gets the raw body and verifies it by its headers. The answer is 200."""

    method: Method = "POST"
    public: bool = True
    act: Callable[[Services, Mapping[str, str], bytes], Awaitable[None]]


class StreamRoute(Row, frozen=True, kw_only=True):
    """The SSE stream of a session. With `public`, a caller without a credential is an anonymous viewer.

    `find` reads the session first, and may refuse. `join`: opening the stream joins the session. `has_invitation`: a
    caller who can name the session may join, as if they had its join code."""

    format: StreamEncoder
    find: See | None = None
    join: bool = False
    has_invitation: bool = False


class UserStreamRoute(StreamRoute, frozen=True, kw_only=True):
    """The SSE stream of the caller's notifications. The first number of its cursors is a notification's time."""

    standing: Callable[[NotificationState], bytes]
    """Encodes the body of the first frame."""
    told: Callable[[StoredNotification], bytes]
    """Encodes the frame of a notification."""


class SocketRoute(StreamRoute, frozen=True, kw_only=True):
    """A session's stream over a WebSocket, on which the client also sends commands.

    `closes`: the close code for each reason why a stream ends."""

    status: int = 101
    closes: Mapping[Bye, int]


class CommandSocketRoute(SocketRoute, frozen=True, kw_only=True):
    """A socket on which each command has an id chosen by the client, and its answer has the same id."""

    commands: DirectCommandRoute
    """The row that executes the commands and encodes their answers."""
    answered: Callable[[bytes, Reply], bytes]
    """Encodes the answer to the command with this id (JSON)."""


class Frame(Struct, frozen=True):
    """A type of message that a socket accepts. `ask` returns its command; `call.body` is the message's data."""

    # Any: the functions of one row agree on this type; each row has its own.
    body: Any
    ask: Callable[[Call], c.Command]
    find: See | None = None


class MessageSocketRoute(SocketRoute, frozen=True, kw_only=True):
    """A socket of `{type, data}` messages in both directions, open until the token expires.

    `other` returns the command for a type that is not in `frames`. If there is no `other`, or the message is refused,
    `failed` encodes the reason. `identify` returns the sender of a message if the socket was opened without a
    credential."""

    frames: Mapping[str, Frame]
    other: Callable[[str, Call], c.Command] | None = None
    failed: Callable[[Problem, str], bytes | None]
    refusals: Mapping[int, int]
    """Close codes by status: the socket is opened and closed at once with the code. Other refusals are HTTP answers."""


class Api(Struct, frozen=True, kw_only=True):
    """One API: rows under a prefix, how it names sessions, how it reads requests and how it encodes answers. The
    defaults are those of `/v1`; `Dialect` overrides them."""

    name: str
    title: str
    prefix: str
    rows: tuple[Row, ...]
    cors_origins: tuple[str, ...] = ()
    """Allowed origins in addition to `[server] cors_origins`."""
    open: tuple[str, ...] = ()
    """Enabled settings that admit unverified callers. They are reported at the start and in `/readyz`."""
    strict: bool = True
    """Routes that only read refuse unknown query parameters."""
    tickets: bool = True
    """A single-use `?ticket=` opens a stream in place of a token."""
    forms: bool = False
    """Whether all rows behave as with `Row.forms`."""
    cased: bool = False
    """`?case=camel` switches the keys of requests and answers to camelCase."""
    user_field: str | None = None
    """A field in which clients send their user number. It must agree with their token."""
    trusting: bool = False
    """Without a token, the user field alone identifies the caller."""

    about: str = "Refusals are problem+json (RFC 9457) with a `reason` for programs."
    # Any: the functions of one row agree on this type; each row has its own.
    refused: Any = ProblemBody
    """Documents the body of a refusal."""
    refused_as: str = "application/problem+json"
    names_sessions: str = "id, number, name or code"

    @property
    def description_path(self) -> str:
        """Return the path of this API's OpenAPI description."""
        return "/openapi.json"

    @property
    def docs_paths(self) -> tuple[str, ...]:
        """Return further paths that redirect to this API's page in `/docs`."""
        return ()

    @property
    def slashes(self) -> bool:
        """Return whether every path is also served with a slash at its end."""
        return False

    @property
    def made_through(self) -> str | None:
        """Return the name that marks sessions as created through this API, or None if it marks none."""
        return None

    async def find_session(self, lookup: SessionLookup, ref: str) -> tuple[SessionId, bool]:
        """Return the id of the session that a path names, and whether `ref` is its join code. Raise Problem 404."""
        return await lookup.resolve(ref)

    async def find_by_code(self, lookup: SessionLookup, code: str) -> tuple[SessionId, bool]:
        """Return the id of the session with a join code, and whether the code lets the caller join. Raise Problem
        404."""
        return await lookup.resolve(code)

    def is_guess(self, ref: str) -> bool:
        """Return whether a reference to no session may have been a guess at a join code."""
        return CODE.fullmatch(ref) is not None

    # Any: the functions of one row agree on this type; each row has its own.
    def printed(self, row: Row, value: Any, *, camel: bool = False) -> Reply:
        """Return the reply for a row's result. With `camel`, its keys are in camelCase."""
        if isinstance(value, Reply):
            return value
        if row.status == 204:
            return Reply(204, None, row.headers)
        if camel:
            value = key_case.camel(msgspec.to_builtins(value))
        return Reply(row.status, msgspec.json.encode(value), row.headers)

    def worded(self, problem: Problem, row: Row | None) -> tuple[int, str]:
        """Return the status and the text of a refusal. An empty text stands for the problem's own detail."""
        return problem.status, ""

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        """Return the reply for a refusal. `row` is None if no route matched."""
        return Reply(problem.status, problem_body(problem), problem.headers, "application/problem+json")


def under(path: str, *rows: Row) -> tuple[Row, ...]:
    """Return rows with `path` put before their paths."""
    return tuple(structs.replace(row, path=path + row.path) for row in rows)
