"""A dialect: the API of an older product as a table, over the sessions of one kind.

**Law:** a dialect's functions are pure: they read their arguments and return plain values.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actors.session.errors import Reason
from actors.session.events import Event
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Kind, State
from actors.session.visibility import VisibleEvent
from server.api.routes import Api, Row
from server.http.problems import STATUS, Problem, unknown_session
from server.http.reply import Reply
from server.usecases.session_lookup import SessionLookup
from storage.sessions import RefKind

# Any: each dialect has its own shapes, which only its own functions read.
Shown = tuple[str, Callable[[VisibleEvent, State], Any]]
"""The name of an event's frame and a function that returns its data: an object, None (no frame) or a list (several)."""


Told = Shown | list[Shown]
"""The frame, or the frames, of an event."""


# Any: each dialect has its own shapes, which only its own functions read.
Relayed = Callable[[Any, UserId, Millis, State], tuple[str, Any] | None]


class Dialect(Api, frozen=True, kw_only=True):
    """The API of an older product.

    `kind`: the kind of its sessions. `named`: the kind of reference that names a session in its paths. `reference`: a
    regular expression for such a reference. `inviting`: a caller who knows a reference may join, so wrong guesses are
    counted.

    `errors` and `problems` word refusals by a session's `Reason` and by any other reason: status and text. The text may
    contain the path's parameters and `{detail}` in braces. An empty text stands for the problem's own detail."""

    kind: Kind
    named: RefKind
    own: bool = True
    """Whether it serves only sessions created through it. The owners of others have not chosen its rules."""
    reference: str = ""
    inviting: bool = False
    errors: Mapping[Reason, tuple[int, str]]
    problems: Mapping[str, tuple[int, str]] = {}
    # Any: each dialect has its own shapes, which only its own functions read.
    error_body: Callable[[int, str, Problem], Any]
    events: Mapping[type[Event], Told] = {}
    silent: frozenset[type[Event]] = frozenset()
    strict: bool = False
    tickets: bool = False
    redoc: bool = False
    about: str = "An older product's API, over the same sessions."
    # Any: each dialect has its own shapes, which only its own functions read.
    refused: Any = dict[str, Any]
    refused_as: str = "application/json"

    @property
    def description_path(self) -> str:
        """Return the path of the OpenAPI description. It has the dialect's name in it if the dialect is mounted at the
        root."""
        # At the root, the path without the name belongs to the description of Homeroom's own API.
        return f"{self.prefix or '/' + self.name}/openapi.json"

    @property
    def docs_paths(self) -> tuple[str, ...]:
        """Return the paths that redirect to the dialect's page in `/docs`. A dialect at the root has none."""
        # At the root, these paths belong to the page of all APIs.
        return tuple(f"{self.prefix}/{page}" for page in ("docs", "redoc")[: 1 + self.redoc] if self.prefix)

    @property
    def made_through(self) -> str | None:
        """Return the dialect's name."""
        return self.name

    @property
    def slashes(self) -> bool:
        """Return True: the older products accept both forms of a path."""
        return True

    async def find_session(self, lookup: SessionLookup, ref: str) -> tuple[SessionId, bool]:
        """Return the id of the session that a path names, and False: the row decides who may join. Raise Problem
        404."""
        if self.reference and not re.fullmatch(self.reference, ref):
            raise unknown_session(ref)
        return await self._within(lookup, self.named, ref), False

    async def find_by_code(self, lookup: SessionLookup, code: str) -> tuple[SessionId, bool]:
        """Return the id of the session with a join code, and False: the row decides who may join. Raise Problem 404."""
        return await self._within(lookup, "code", code.upper()), False

    async def _within(self, lookup: SessionLookup, named: RefKind, ref: str) -> SessionId:
        return await lookup.within(self.kind, self.name if self.own else None, named, ref)

    def is_guess(self, ref: str) -> bool:
        """Return whether a caller who knows a reference may join."""
        return self.inviting

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        """Return the reply for a refusal, in the shape of the row or of the dialect."""
        status, text = self.worded(problem, row)
        said = text.format_map({"ref": "", **params, "detail": problem.detail}) if text else problem.detail
        own = None if row is None else row.error_body
        body = self.error_body(status, said, problem) if own is None else own(status, said)
        return Reply(status, msgspec.json.encode(body), problem.headers)

    def worded(self, problem: Problem, row: Row | None) -> tuple[int, str]:
        """Return the status and the text of a refusal. An empty text stands for the problem's own detail."""
        # The wording of the route comes first, then the dialect's, then the default.
        if row is not None and problem.reason in row.errors:
            return row.errors[problem.reason]
        if problem.reason in self.problems:
            return self.problems[problem.reason]
        if problem.reason in REASONS:
            return self.errors[Reason(problem.reason)]
        return problem.status, ""


# Any: each dialect has its own shapes, which only its own functions read.
def detailed(status: int, text: str, problem: Problem) -> Any:
    """Return `{"detail": …}`: a text, or for status 422 a list with the location, message and type of the error."""
    if status != 422:
        return {"detail": text}
    place = [problem.location, *(problem.field.split(".") if problem.field else ())]
    kind = "missing" if text.endswith("is required.") else "json_invalid" if problem.field is None else "value_error"
    return {"detail": [{"loc": place, "msg": text, "type": kind}]}


PLAIN: Mapping[Reason, tuple[int, str]] = {reason: (status, "") for reason, status in STATUS.items()}
"""The statuses of `/v1`, with its texts. A dialect overrides some of them."""


REASONS = frozenset(reason.value for reason in Reason)
