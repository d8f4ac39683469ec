"""Refusals on their way out: one exception for whatever a handler cannot do, one problem+json for `/v1` (RFC 9457)."""

import logging
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from msgspec import Struct

from actors.messages import Fenced, KeyReused, Outcome, Unavailable, UnknownSession
from actors.session.errors import Reason, Rejected

logger = logging.getLogger(__name__)


class Problem(Exception):
    """A request that is refused. `reason` is stable, for programs; `detail` says what to do, for people."""

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
        """Where `field` is."""
        self.headers = dict(headers or {})
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_s)))


class ProblemBody(Struct, frozen=True, omit_defaults=True):
    """RFC 9457, with the machine's `reason`, the `field` that was wrong, the `current` state that was missed."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    field: str | None = None
    current: dict[str, Any] | None = None


def problem_body(problem: Problem) -> bytes:
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
"""What `/v1` makes of each Reason. Total (tested)."""


def unknown_session(ref: str) -> Problem:
    return Problem(404, "unknown_session", f"There is no session {ref!r}.")


def unauthenticated(detail: str, reason: str = "unauthenticated") -> Problem:
    return Problem(401, reason, detail, headers={"WWW-Authenticate": "Bearer"})


def unsupported_encoding() -> Problem:
    return Problem(415, "unsupported_encoding", "Send the body as it is: without Content-Encoding, and not compressed.")


def too_fast(detail: str, retry_s: float) -> Problem:
    return Problem(429, "too_fast", detail, retry_s=retry_s)


def blob_store_unavailable(error: Exception) -> Problem:
    """Give the problem that an absent blob store is, and log it: the client is told no more than that."""
    logger.warning("the blob store is away: %s", error)
    return Problem(503, "unavailable", "Try again: the store of uploads is away.", retry_s=5)


def problem_of(outcome: Outcome, ref: str) -> Problem:
    """Give the problem that an actor's refusal is."""
    match outcome:
        case Rejected(reason=reason):
            return Problem(STATUS[reason], reason.value, outcome.detail, field=outcome.field, current=outcome.current)
        case UnknownSession():
            return unknown_session(ref)
        case KeyReused():
            return Problem(
                422, "key_reused", "This Idempotency-Key has been used for another body.", field="Idempotency-Key"
            )
        case Unavailable(why=why, retry_s=retry_s, busy=True):
            return Problem(429, "busy", f"Slow down: {why}.", retry_s=retry_s)
        case Unavailable(why=why, retry_s=retry_s):
            return Problem(503, "unavailable", f"Try again: {why}.", retry_s=retry_s)
        case Fenced():
            return Problem(503, "unavailable", "Try again: the session is moving to another server.", retry_s=1)
        case _:
            raise TypeError(f"{type(outcome).__name__} is no refusal")
