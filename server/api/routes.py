"""The table types: an API is rows of these, served by the generic handlers (`handlers.py`).

A row says what is public about a route: path, who may call, body, query, answer, and the pure functions between.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from actors.messages import Answer
from actors.session import commands as c
from actors.session.visibility import VisibleEvent
from server.http.multipart import Form
from server.http.problems import Problem, ProblemBody, problem_body
from server.http.reply import Reply
from server.streams.format import Bye, StreamEncoder
from server.usecases.call import Call, Content, Download, Playing
from server.usecases.services import Services
from storage.notifications import NotificationState, StoredNotification

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Row(Struct, frozen=True, kw_only=True):
    """What every route has. `public`: no credential is needed. `answer` documents the 2xx body.

    `bare`: no body is as good as `{}`.
    `errors`: where this route words a refusal differently, by its reason (see `Api.refusal`)."""

    method: Method = "GET"
    path: str
    summary: str
    public: bool = False
    query: Any = None
    body: Any = None
    bare: bool = False
    status: int = 200
    answer: Any = None
    errors: Mapping[str, tuple[int, str]] = {}
    keyed: bool = False
    """It takes an Idempotency-Key. Where it does not one is refused, unless it only reads."""


def in_path(params: Mapping[str, str], body: Any) -> str:
    return params["ref"]


def as_sent(body: Any) -> Any:
    return body


class CommandRoute(Row, frozen=True, kw_only=True):
    """A command to a session. `ref` says where the session's reference is: a path parameter, or the body."""

    method: Method = "POST"
    keyed: bool = True
    ref: Callable[[Mapping[str, str], Any], str] = in_path
    command: Callable[[Any], c.Command] = as_sent
    reply: Callable[[Answer], Reply] | None = None
    repeat: Callable[[int, list[VisibleEvent]], Reply] | None = None
    """What an Idempotency-Key used before gives, from the rows of the first time."""
    then: Callable[[Services, Call], Awaitable[Any]] | None = None
    """Instead of those two: what to look up once the command is committed."""
    view: Callable[[Any], Reply] | None = None
    """Prints what `then` gave."""

    @property
    def straight(self) -> bool:
        """Whether the body is the command and the answer what it made happen: all that the fast lane does."""
        return self.ref is in_path and self.command is as_sent and self.reply is not None and self.query is None


class ActionRoute(Row, frozen=True, kw_only=True):
    """Anything else. `act` is every API's (`accounts.py`, `sessions.py` and their like), `view` is its own."""

    act: Callable[[Services, Call], Awaitable[Any]]
    view: Callable[[Any], Reply]
    session: bool = False
    """The path has a `{ref}` to resolve."""
    scoped: bool = False
    """Takes credentials for one session too; `act` minds their scope."""
    text_types: tuple[str, ...] = ()
    """What its answer may be besides JSON, where the query asks for it: `text/csv`."""


class StreamRoute(Row, frozen=True, kw_only=True):
    """The SSE stream of a session."""

    format: StreamEncoder
    join: bool = False
    """Opening it takes part."""


class UserStreamRoute(StreamRoute, frozen=True, kw_only=True):
    """The SSE stream of the caller's own notifications. A cursor's first number is here the notification's time."""

    standing: Callable[[NotificationState], bytes]
    """Prints the body of the first frame."""
    told: Callable[[StoredNotification], bytes]
    """Prints the frame of a notification."""


class SocketRoute(StreamRoute, frozen=True, kw_only=True):
    """A session's stream as a WebSocket, with commands the other way."""

    commands: CommandRoute
    """What is done with them is what this row says."""
    answered: Callable[[bytes, Reply], bytes]
    """Prints what comes of the command that the client gave this name (JSON)."""
    closes: Mapping[Bye, int]
    """What the connection is closed with."""


class DownloadRoute(Row, frozen=True, kw_only=True):
    """A body in parts, of a session. With `public`, `act` verifies what the URL itself says."""

    act: Callable[[Services, Call], Awaitable[Download]]
    content_type: str


class ContentRoute(Row, frozen=True, kw_only=True):
    """A blob, whole or in part; HEAD too. With `public`, `act` verifies what the URL itself says."""

    act: Callable[[Services, Call], Awaitable[Content]]


class UploadRoute(Row, frozen=True, kw_only=True):
    """A form with a file, read as it comes. `form` documents its fields."""

    method: Method = "POST"
    form: Any
    act: Callable[[Services, Call, Form], Awaitable[Any]]
    view: Callable[[Any], Reply]


class HookRoute(Row, frozen=True, kw_only=True):
    """What another service tells us: a body as it came, which `act` verifies by its headers, and then 200."""

    method: Method = "POST"
    public: bool = True
    act: Callable[[Services, Mapping[str, str], bytes], Awaitable[None]]


class ReplayRoute(Row, frozen=True, kw_only=True):
    """The SSE of what has been in a session. `play` verifies a ticket or what the URL itself says."""

    play: Callable[[Services, Call], Awaitable[Playing]]
    format: StreamEncoder


class Api(Struct, frozen=True, kw_only=True):
    """One API: rows under a prefix."""

    name: str
    title: str
    prefix: str
    rows: tuple[Row, ...]
    cors_origins: tuple[str, ...] = ()
    """Origins allowed here besides those of `[server] cors_origins`."""
    open: tuple[str, ...] = ()
    """Settings that are on and let in who is not verified: said at the start and in `/readyz`."""

    about: str = "Refusals are problem+json (RFC 9457) with a `reason` for programs."
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

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        """Print a refusal. `row` is None where no route was found."""
        return Reply(problem.status, problem_body(problem), problem.headers, "application/problem+json")
