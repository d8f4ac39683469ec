"""Events that clients send for the log, and frames that are relayed to others without being stored."""

import msgspec

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import joined, not_in, require, role_of, target
from actors.session.state import Kind, State

DATA_BYTES = 4_096
RELAY_BYTES = 16_384
ANY_KIND = frozenset({"error", "reconnect_attempt", "layout_change", "tool_select"})
EVENT_TYPES: dict[Kind, frozenset[str]] = {
    "classroom": ANY_KIND,
    "tutoring": ANY_KIND,
    "course": ANY_KIND,
    "interview": ANY_KIND,
    "lesson": ANY_KIND | {"export_board", "manual_save", "board_clear", "snapshot_restore"},
}


def log_event(state: State, command: c.LogEvent, by: c.Caller, now: Millis) -> list[e.Event]:
    require_role(state, by)
    types = EVENT_TYPES[state.session.kind]
    if command.event_type not in types:
        raise Rejected(
            Reason.NOT_ALLOWED, f"`event_type` must be one of {', '.join(sorted(types))}.", field="event_type"
        )
    require_small(command.data, DATA_BYTES, "data")
    return [e.EventLogged(event_type=command.event_type, data=command.data)]


def signal(state: State, command: c.Signal, by: c.Caller, now: Millis) -> list[e.Event]:
    require_role(state, by)
    if command.to != state.session.owner_id:
        target(state, command.to, field="to")
    require_small(command.payload, RELAY_BYTES, "payload")
    return [e.SignalSent(to=command.to, payload=command.payload)]


def cursor(state: State, command: c.MoveCursor, by: c.Caller, now: Millis) -> list[e.Event]:
    joined(state, by)
    require_small(command.position, DATA_BYTES, "position")
    return [e.CursorMoved(position=command.position)]


def typing(state: State, command: c.Typing, by: c.Caller, now: Millis) -> list[e.Event]:
    joined(state, by)
    require(state, by, "chat")
    return [e.TypingChanged(active=command.active)]


def relay(state: State, command: c.Relay, by: c.Caller, now: Millis) -> list[e.Event]:
    joined(state, by)
    require_small(command.body, RELAY_BYTES, "data")
    return [e.Relayed(name=command.name, body=command.body)]


def require_role(state: State, by: c.Caller) -> None:
    """Raise Rejected for a caller who is neither the owner nor in the session."""
    if role_of(state, by.user_id) is None:
        raise not_in(state, by.user_id)


def log_audio_upload(state: State, command: c.LogAudioUpload, by: c.Caller, now: Millis) -> list[e.Event]:
    if by.user_id != state.session.owner_id:
        raise Rejected(Reason.NOT_PERMITTED, "Only the owner may upload audio for a session.")
    track = command.track
    return [e.AudioUploaded(audio_id=track.audio_id, title=track.title, duration=track.duration_s, number=track.number)]


def require_small(value: object, limit: int, field: str) -> None:
    """Raise Rejected for a value of more than `limit` bytes of JSON."""
    size = len(msgspec.json.encode(value))
    if size > limit:
        raise Rejected(Reason.TOO_LARGE, f"`{field}` has {size} bytes of JSON; the limit is {limit}.", field=field)


def on_logged(state: State, event: e.EventLogged | e.AudioUploaded, recorded: e.Recorded) -> None:
    """Change nothing: only the log has it."""


HANDLERS = {
    c.LogEvent: log_event,
    c.LogAudioUpload: log_audio_upload,
    c.Signal: signal,
    c.MoveCursor: cursor,
    c.Typing: typing,
    c.Relay: relay,
}
APPLIERS = {e.EventLogged: on_logged, e.AudioUploaded: on_logged}
