"""Events as `/v1` prints them: in answers, in the log, and as SSE frames."""

from typing import Any, get_args, get_type_hints

import msgspec

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session_actor import Published
from server.streams import Bye, Cursor, Format
from server.v1.times import rfc3339
from server.v1.views import snapshot

_encode = msgspec.json.Encoder().encode


def instants(event: type) -> tuple[str, ...]:
    """Name the fields of an event that hold an instant."""
    hints = get_type_hints(event)
    return tuple(name for name, hint in hints.items() if hint is Millis or Millis in get_args(hint))


INSTANTS: dict[type, tuple[str, ...]] = {
    event: fields for event in get_args(e.DurableEvent) if (fields := instants(event))
}


def event_fields(event: e.Event) -> dict[str, Any]:
    """Give an event's own fields, `type` among them, as `/v1` prints them."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    for name in INSTANTS.get(type(event), ()):
        if plain.get(name) is not None:
            plain[name] = rfc3339(plain[name])
    return plain


def event_json(recorded: e.Recorded, encoded: bytes) -> bytes:
    """Print a durable event: {"seq", "at", "actor", "type", …its own fields}. `encoded` is its JSON in the log."""
    if type(recorded.event) in INSTANTS:
        encoded = _encode(event_fields(recorded.event))
    actor = b"null" if recorded.actor_id is None else b'"%b"' % recorded.actor_id.encode()
    at = rfc3339(recorded.at).encode()
    return b'{"seq":%d,"at":"%b","actor":%b,%b' % (recorded.seq, at, actor, encoded[1:])


def published_json(out: Published) -> bytes:
    printed = out.printed.get("v1")
    if printed is None:
        printed = out.printed["v1"] = event_json(out.recorded, out.event)
    return printed


def recorded_json(recorded: e.Recorded) -> bytes:
    return event_json(recorded, _encode(recorded.event))


def sse(name: str, body: bytes, cursor: Cursor | None = None) -> bytes:
    place = b"" if cursor is None else b"id: %d-%d\n" % (cursor.epoch, cursor.seq)
    return b"%bevent: %b\ndata: %b\n\n" % (place, name.encode(), body)


NAMES: dict[type, bytes] = {event: str(event.__struct_config__.tag).encode() for event in get_args(e.DurableEvent)}


def event_frame(out: Published) -> bytes:
    recorded = out.recorded
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (
        recorded.epoch,
        recorded.seq,
        NAMES[type(recorded.event)],
        published_json(out),
    )


def unplaced_frame(out: Published) -> bytes:
    return event_frame(out).partition(b"\n")[2]


def relayed_frame(event: e.Event, by: UserId, at: Millis) -> bytes:
    body = b'{"at":"%b","actor":"%b",%b' % (rfc3339(at).encode(), by.encode(), _encode(event)[1:])
    return sse(str(event.__struct_config__.tag), body)


def resumed(since: Cursor, to: Cursor, missed: int) -> bytes:
    return sse("resumed", _encode({"from": str(since), "to": str(to), "missed": missed}))


def reset(reason: str) -> bytes:
    return sse("reset", _encode({"reason": reason}))


def bye(reason: Bye, retry_ms: int | None) -> bytes:
    # EventSource takes its own pause from `retry:`; where coming back is no use, the client has to close it.
    pause = b"" if retry_ms is None else b"retry: %d\n" % max(retry_ms, 10)
    return pause + sse("bye", _encode({"reason": reason, "retry": retry_ms}))


FRAMES = Format(
    event=event_frame,
    unplaced=unplaced_frame,
    relayed=relayed_frame,
    snapshot=snapshot,
    first=lambda cursor, body: sse("snapshot", body, cursor),
    resumed=resumed,
    reset=reset,
    bye=bye,
    heartbeat=b": heartbeat\n\n",
)
