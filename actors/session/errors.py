"""Refusals of the machine. A Reason is a state, not a sentence: each API has its own words and status for it."""

from enum import StrEnum


class Reason(StrEnum):
    """Stable codes for programs."""

    NOT_LIVE = "not_live"
    NOT_SCHEDULED = "not_scheduled"
    ENDED = "ended"
    CANCELLED = "cancelled"
    FULL = "full"
    LOCKED = "locked"
    KICKED = "kicked"
    WAITING = "waiting"
    NOT_INVITED = "not_invited"
    NOT_JOINED = "not_joined"
    NOT_OWNER = "not_owner"
    NOT_PERMITTED = "not_permitted"
    LAST_HOST = "last_host"
    FEATURE_OFF = "feature_off"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    UNKNOWN_MESSAGE = "unknown_message"
    UNKNOWN_QUESTION = "unknown_question"
    UNKNOWN_POLL = "unknown_poll"
    UNKNOWN_AUDIO = "unknown_audio"
    UNKNOWN_VERSION = "unknown_version"
    QUEUE_EMPTY = "queue_empty"
    SCREEN_TAKEN = "screen_taken"
    NO_AUDIO = "no_audio"
    ALREADY_VOTED = "already_voted"
    POLL_CLOSED = "poll_closed"
    BEHIND = "behind"
    RECORDING = "recording"
    NOT_RECORDING = "not_recording"
    TOO_MANY = "too_many"
    TOO_LARGE = "too_large"
    NOT_ALLOWED = "not_allowed"


class Rejected(Exception):
    """The command is refused and has changed nothing. Only the machine raises it; the actor replies with it as a value.

    `detail` is a sentence that says what to do."""

    def __init__(
        self, reason: Reason, detail: str, *, field: str | None = None, current: dict[str, object] | None = None
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field
        self.current = current
        """The current state that the caller needs to try again."""

    def __repr__(self) -> str:
        return f"Rejected({self.reason.value!r}, {self.args[0]!r})"
