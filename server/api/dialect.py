"""What a dialect is: an older product's API as a table, over the sessions of one kind.

**Law:** a dialect's functions are pure: they read what they are given, and return plain values to print.
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
"""What an event is called, and its data: an object, None where there is nothing to show, a list for one frame each."""


Told = Shown | list[Shown]
"""What is told of an event: one thing, or several."""


# Any: each dialect has its own shapes, which only its own functions read.
Relayed = Callable[[Any, UserId, Millis, State], tuple[str, Any] | None]


class Dialect(Api, frozen=True, kw_only=True):
    """An older product's API.

    `kind`: of the sessions that it has; `named`: what names one in its paths, `reference`: how such a name looks, as a
    regular expression, and `inviting`: whoever knows one may come in, so that guesses are counted. `errors` and
    `problems` word refusals, by the machine's `Reason` and by all other reasons: status and text, which may have the
    path's parameters in it, and `{detail}`; an empty one stands for that."""

    kind: Kind
    named: RefKind
    own: bool = True
    """It has only sessions that were made through it: whoever made one elsewhere has not asked for its rules."""
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
        # Mounted at the root, the description of Homeroom's own API is in its place.
        return f"{self.prefix or '/' + self.name}/openapi.json"

    @property
    def docs_paths(self) -> tuple[str, ...]:
        # Mounted at the root, the page of all APIs is in its place.
        return tuple(f"{self.prefix}/{page}" for page in ("docs", "redoc")[: 1 + self.redoc] if self.prefix)

    @property
    def made_through(self) -> str | None:
        return self.name

    @property
    def slashes(self) -> bool:
        return True

    async def find_session(self, lookup: SessionLookup, ref: str) -> tuple[SessionId, bool]:
        if self.reference and not re.fullmatch(self.reference, ref):
            raise unknown_session(ref)
        return await self._within(lookup, self.named, ref), False

    async def find_by_code(self, lookup: SessionLookup, code: str) -> tuple[SessionId, bool]:
        return await self._within(lookup, "code", code.upper()), False

    async def _within(self, lookup: SessionLookup, named: RefKind, ref: str) -> SessionId:
        return await lookup.within(self.kind, self.name if self.own else None, named, ref)

    def is_guess(self, ref: str) -> bool:
        return self.inviting

    def refusal(self, problem: Problem, row: Row | None, params: Mapping[str, str]) -> Reply:
        status, text = self.worded(problem, row)
        said = text.format_map({"ref": "", **params, "detail": problem.detail}) if text else problem.detail
        own = None if row is None else row.error_body
        body = self.error_body(status, said, problem) if own is None else own(status, said)
        return Reply(status, msgspec.json.encode(body), problem.headers)

    def worded(self, problem: Problem, row: Row | None) -> tuple[int, str]:
        # This route's own word for it, the dialect's, or the plain one.
        if row is not None and problem.reason in row.errors:
            return row.errors[problem.reason]
        if problem.reason in self.problems:
            return self.problems[problem.reason]
        if problem.reason in REASONS:
            return self.errors[Reason(problem.reason)]
        return problem.status, ""


# Any: each dialect has its own shapes, which only its own functions read.
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
