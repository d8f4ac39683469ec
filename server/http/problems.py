"""Refusals of requests: one exception, which each API prints in its own shape; `/v1` prints problem+json (RFC 9457)."""

import logging
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from msgspec import Struct

from actors.messages import Fenced, KeyReused, Outcome, Unavailable, UnknownSession
from actors.ports import LogUnavailable
from actors.session.errors import Reason, Rejected

logger = logging.getLogger(__name__)


class Problem(Exception):
    """A refused request. `reason` is a stable code for programs; `detail` is a sentence that says what to do."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        field: str | None = None,
        current: dict[str, object] | None = None,
        retry_s: float | None = None,
        headers: dict[str, str] | None = None,
        location: Literal["body", "query", "path"] = "body",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.field = field
        self.current = current
        self.location = location
        """The part of the request that `field` is in."""
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_s)))


class ProblemBody(Struct, frozen=True, omit_defaults=True):
    """A problem of RFC 9457 with members of our own.

    `reason` is a code, `field` is the wrong field, `current` is the present state of what the request would change."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    field: str | None = None
    # Any: JSON of any shape.
    current: dict[str, Any] | None = None


def problem_body(problem: Problem) -> bytes:
    """Encode a problem as problem+json."""
    title = HTTPStatus(problem.status).phrase
    body = ProblemBody(
        "about:blank", title, problem.status, problem.detail, problem.reason, problem.field, problem.current
    )
    return msgspec.json.encode(body)


STATUS: dict[Reason, int] = {
    Reason.NOT_LIVE: 409,
    Reason.NOT_SCHEDULED: 409,
    Reason.ENDED: 410,
    Reason.CANCELLED: 410,
    Reason.FULL: 409,
    Reason.LOCKED: 409,
    Reason.KICKED: 403,
    Reason.WAITING: 403,
    Reason.NOT_INVITED: 403,
    Reason.NOT_JOINED: 403,
    Reason.NOT_OWNER: 403,
    Reason.NOT_PERMITTED: 403,
    Reason.LAST_HOST: 409,
    Reason.FEATURE_OFF: 409,
    Reason.UNKNOWN_PARTICIPANT: 404,
    Reason.UNKNOWN_MESSAGE: 404,
    Reason.UNKNOWN_QUESTION: 404,
    Reason.UNKNOWN_POLL: 404,
    Reason.UNKNOWN_AUDIO: 404,
    Reason.UNKNOWN_VERSION: 404,
    Reason.QUEUE_EMPTY: 409,
    Reason.SCREEN_TAKEN: 409,
    Reason.NO_AUDIO: 409,
    Reason.ALREADY_VOTED: 409,
    Reason.POLL_CLOSED: 409,
    Reason.BEHIND: 409,
    Reason.RECORDING: 409,
    Reason.NOT_RECORDING: 409,
    Reason.TOO_MANY: 409,
    Reason.TOO_LARGE: 413,
    Reason.NOT_ALLOWED: 422,
}
"""The HTTP status of each reason for which a session refuses a command. A test checks that none is missing."""


def unknown_session(ref: str) -> Problem:
    """Return problem 404 for an id, number, name or code that no session has."""
    return Problem(404, "unknown_session", f"There is no session {ref!r}.")


def unauthenticated(detail: str, reason: str = "unauthenticated") -> Problem:
    """Return problem 401 with the challenge that RFC 6750 asks for."""
    return Problem(401, reason, detail, headers={"WWW-Authenticate": "Bearer"})


def unsupported_encoding() -> Problem:
    """Return problem 415 for a compressed body."""
    return Problem(415, "unsupported_encoding", "Send the body uncompressed, without Content-Encoding.")


def too_fast(detail: str, retry_s: float) -> Problem:
    """Return problem 429; the client may try again after `retry_s` seconds."""
    return Problem(429, "too_fast", detail, retry_s=retry_s)


def blob_store_unavailable(error: Exception) -> Problem:
    """Return problem 503 for a blob store that cannot be reached. Log the cause, which the client must not see."""
    logger.warning("the blob store is unavailable: %s", error)
    return Problem(503, "unavailable", "Try again: the store of uploads is unavailable.", retry_s=5)


def problem_of(refusal: Outcome | Exception, ref: str = "") -> Problem:
    """Return the problem for a session's refusal or for an exception. `ref` is how the request named the session.

    Log exceptions that are not the client's fault: call this once for each, where it is caught."""
    match refusal:
        case Problem():
            return refusal
        case Rejected(reason=reason):
            return Problem(STATUS[reason], reason.value, refusal.detail, field=refusal.field, current=refusal.current)
        case UnknownSession():
            return unknown_session(ref)
        case KeyReused():
            return Problem(
                422, "key_reused", "This Idempotency-Key was used with another body.", field="Idempotency-Key"
            )
        case Unavailable(detail=detail, retry_s=retry_s, busy=True):
            return Problem(429, "busy", f"Slow down: {detail}.", retry_s=retry_s)
        case Unavailable(detail=detail, retry_s=retry_s):
            return Problem(503, "unavailable", f"Try again: {detail}.", retry_s=retry_s)
        case Fenced():
            return Problem(503, "unavailable", "Try again: the session is moving to another server.", retry_s=1)
        case LogUnavailable():
            logger.warning("the database is unavailable: %s", refusal)
            return Problem(503, "unavailable", "Try again: the database is unavailable.", retry_s=1)
        case Exception():
            logger.error("a request failed", exc_info=refusal)
            return Problem(500, "internal", "Something went wrong on the server.")
        case _:
            raise TypeError(f"{type(refusal).__name__} is not a refusal")
