"""What Daily is asked, tells and keeps: its documented bodies and nothing besides; and how the fake fails."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A body to the letter."""


class RoomProperties(Body, frozen=True, kw_only=True):
    max_participants: int
    enable_screenshare: Literal[True]
    enable_chat: bool
    start_video_off: Literal[True]
    start_audio_off: Literal[False]
    exp: int
    eject_at_room_exp: bool
    enable_recording: Literal["cloud"] | UnsetType = UNSET


class NewRoom(Body, frozen=True):
    name: str
    privacy: Literal["private"]
    properties: RoomProperties


class TokenProperties(Body, frozen=True, kw_only=True):
    room_name: str
    user_name: str
    user_id: str
    is_owner: bool
    enable_screenshare: bool
    exp: int
    eject_at_token_exp: bool


class NewToken(Body, frozen=True):
    properties: TokenProperties


class Eject(Body, frozen=True):
    user_ids: list[str]
    ban: bool = False


class Nothing(Body, frozen=True):
    pass


class NewWebhook(Body, frozen=True):
    """`hmac` is what to sign with, in base64; without one the fake's own."""

    url: str
    hmac: str = ""
    eventTypes: list[str] = []


class Trouble(Struct, frozen=True, forbid_unknown_fields=True):
    """How the next requests fail whose line (`POST /rooms`) begins with `line`.

    `how`: a status to answer with, `slow` (no answer at all), or `cut` (the connection breaks). `done`: what was asked
    for is done all the same, and only the answer is lost. `retry_after`: that header."""

    line: str
    how: int | Literal["slow", "cut"]
    times: int = 1
    done: bool = False
    retry_after: str | None = None


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """An event to tell, whatever has happened here."""

    type: str
    payload: dict[str, Any]


class Asked(Struct, frozen=True):
    """A request as it came; `authorization` is its header."""

    method: str
    path: str
    body: Any
    authorization: str | None


class Recording(Struct):
    """As Daily lists it. `status`: in-progress, finished, canceled; times in unix seconds, `duration` in seconds."""

    id: str
    room_name: str
    start_ts: int
    status: str = "in-progress"
    duration: int | None = None
    s3key: str | None = None


class Guest(Struct, frozen=True):
    """Somebody in a meeting."""

    session_id: str
    joined_at: float
    claims: dict[str, Any]


class Place(Struct):
    """A room, and who is in it."""

    answer: dict[str, Any]
    guests: dict[str, Guest] = {}
    banned: set[str] = field(default_factory=set)


class Fault(Exception):
    """An answer that is an error, as Daily words it."""

    def __init__(self, status: int, error: str, info: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "info": info} if info else {"error": error}


def person(name: str, guest: Guest) -> dict[str, Any]:
    claims = guest.claims
    return {
        "joined_at": guest.joined_at, "session_id": guest.session_id, "room": name, "user_id": claims["ud"],
        "user_name": claims["u"], "owner": claims["o"], "permissions": {"hasPresence": True, "canSend": True},
    }  # fmt: skip


def decoded(raw: bytes, type_: Any) -> Any:
    """Raises: Fault for what Daily does not document."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.MsgspecError as error:
        raise Fault(400, "invalid-request-error", str(error)) from error
