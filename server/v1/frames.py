"""Events as `/v1` prints them: in answers, in the log, as SSE frames and as a socket's messages."""

from typing import Any, get_args, get_type_hints

import msgspec

from actors.ports import Published
from actors.session import events as e
from actors.session.audience import anonymous
from actors.session.ids import Millis, UserId
from actors.session.state import State
from server.http.reply import Reply
from server.http.timestamps import now_millis, rfc3339
from server.streams.format import Bye, Cursor, StreamEncoder, message, payload
from server.v1.state_views import snapshot

_encode = msgspec.json.Encoder().encode


def instants(event: type) -> tuple[str, ...]:
    """Name the fields of an event that hold an instant."""
    hints = get_type_hints(event)
    return tuple(name for name, hint in hints.items() if hint is Millis or Millis in get_args(hint))


INSTANTS: dict[type, tuple[str, ...]] = {
    event: fields for event in get_args(e.DurableEvent) if (fields := instants(event))
}


PLAYBACK: frozenset[type] = frozenset({
    e.AudioSelected, e.AudioPlay, e.AudioPause, e.AudioSeek, e.AudioSpeed, e.AudioStop, e.AudioEnded,
})  # fmt: skip
"""Events after which a client has to work out where the track stands."""
STANDING = {"position": 0.0, "speed": 1.0}
"""What they mean where they say nothing else: the start, at plain speed."""


def event_fields(event: e.Event) -> dict[str, Any]:
    """Give an event's own fields, `type` among them, as `/v1` prints them."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    if type(event) in PLAYBACK:
        plain = plain | {name: plain.get(name, value) for name, value in STANDING.items()}
    for name in INSTANTS.get(type(event), ()):
        if plain.get(name) is not None:
            plain[name] = rfc3339(plain[name])
    return plain


def event_json(
    recorded: e.Recorded, encoded: bytes, actor_id: UserId | None, server_time: Millis | None = None
) -> bytes:
    """Print a durable event: {"seq", "at", "actor", "type", …its own fields}. `encoded` is its JSON in the log."""
    kind = type(recorded.event)
    if kind in PLAYBACK:
        encoded = _encode(event_fields(recorded.event) | {"server_time": rfc3339(server_time or now_millis())})
    elif kind in INSTANTS:
        encoded = _encode(event_fields(recorded.event))
    actor = b"null" if actor_id is None else b'"%b"' % actor_id.encode()
    at = rfc3339(recorded.at).encode()
    return b'{"seq":%d,"at":"%b","actor":%b,%b' % (recorded.seq, at, actor, encoded[1:])


def published_json(out: Published) -> bytes:
    """Print an event for whoever made it happen."""
    if type(out.recorded.event) in PLAYBACK:
        # Each time anew: whoever resumes later must get the server's time as of then.
        return event_json(out.recorded, out.event, out.recorded.actor_id)
    printed = out.printed.get("v1")
    if printed is None:
        printed = out.printed["v1"] = event_json(out.recorded, out.event, out.recorded.actor_id)
    return printed


def shown_json(out: Published) -> bytes:
    """Print an event for everyone it concerns: of an anonymous one, not who."""
    return event_json(out.recorded, out.event, None) if anonymous(out.recorded.event) else published_json(out)


def recorded_json(recorded: e.Recorded) -> bytes:
    """The same, of an event read from the log."""
    return event_json(recorded, _encode(recorded.event), recorded.actor_id)


def sse(name: str, body: bytes, cursor: Cursor | None = None) -> bytes:
    place = b"" if cursor is None else b"id: %d-%d\n" % (cursor.epoch, cursor.seq)
    return b"%bevent: %b\ndata: %b\n\n" % (place, name.encode(), body)


NAMES: dict[type, bytes] = {event: str(event.__struct_config__.tag).encode() for event in get_args(e.DurableEvent)}


SILENT: frozenset[type] = frozenset({e.CodeCompacted})
"""Events that tell nobody anything new, at any length: they are in the log, and neither in streams nor in answers."""


LOBBY: frozenset[type] = frozenset({
    e.SessionStarted, e.SessionEnded, e.SessionCancelled, e.SessionUpdated, e.SessionLocked, e.SessionUnlocked,
    e.SessionDeleted,
})  # fmt: skip
"""What those in the lobby are sent of the session besides what concerns them: its own facts, which they were given."""


def event_frame(out: Published) -> bytes | None:
    return None if type(out.recorded.event) in SILENT else frame(out, shown_json(out))


def replayed_frame(out: Published) -> bytes | None:
    """Print an event that is played again: the server's time is what it was then."""
    recorded = out.recorded
    if type(recorded.event) in SILENT:
        return None
    actor_id = None if anonymous(recorded.event) else recorded.actor_id
    return frame(out, event_json(recorded, out.event, actor_id, recorded.at))


def frame(out: Published, body: bytes) -> bytes:
    recorded = out.recorded
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (
        recorded.epoch,
        recorded.seq,
        NAMES[type(recorded.event)],
        body,
    )


def event_without_id_frame(out: Published) -> bytes | None:
    printed = event_frame(out)
    return None if printed is None else printed.partition(b"\n")[2]


def relayed_frame(event: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
    if isinstance(event, e.Relayed):
        return None
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


FRAMES = StreamEncoder(
    event=event_frame,
    event_without_id=event_without_id_frame,
    relayed=relayed_frame,
    snapshot=snapshot,
    first=lambda cursor, body: sse("snapshot", body, cursor),
    resumed=resumed,
    reset=reset,
    bye=bye,
    heartbeat=b": heartbeat\n\n",
    disclosed=lambda out: frame(out, published_json(out)),
    lobby=LOBBY,
    refreshes=True,
)
REPLAYED = msgspec.structs.replace(FRAMES, event=replayed_frame)


def said(name: bytes, body: bytes, cursor: Cursor | None = None) -> bytes:
    """Print a frame as a socket's message."""
    place = b"null" if cursor is None else b'"%d-%d"' % (cursor.epoch, cursor.seq)
    return message(b'{"event":"%b","id":%b,"data":%b}' % (name, place, body))


def event_message(out: Published) -> bytes | None:
    kind = type(out.recorded.event)
    place = Cursor(out.recorded.epoch, out.recorded.seq)
    return None if kind in SILENT else said(NAMES[kind], shown_json(out), place)


def event_without_id_message(out: Published) -> bytes | None:
    kind = type(out.recorded.event)
    return None if kind in SILENT else said(NAMES[kind], shown_json(out))


def relayed_message(event: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
    if isinstance(event, e.Relayed):
        return None
    body = b'{"at":"%b","actor":"%b",%b' % (rfc3339(at).encode(), by.encode(), _encode(event)[1:])
    return said(str(event.__struct_config__.tag).encode(), body)


def answered(re: bytes, reply: Reply) -> bytes:
    """Answer the command that a client called `re` (JSON). `retry`: when to try again, in ms."""
    name = b"answer" if reply.status < 400 else b"refused"
    pause = reply.headers.get("Retry-After")
    retry = b"" if pause is None else b'"retry":%d,' % (1_000 * int(pause))
    return message(
        b'{"event":"%b","re":%b,"status":%d,%b"data":%b}' % (name, re, reply.status, retry, reply.body or b"null")
    )


CLOSES: dict[Bye, int] = {
    "left": 4000,
    "admitted": 4001,
    "expired": 4401,
    "kicked": 4403,
    "slow": 4408,
    "ended": 4410,
    "draining": 1012,
}
"""What a socket is closed with after `bye`. A slow one does not hear it: it is cut off, as a stream is."""


MESSAGES = StreamEncoder(
    event=event_message,
    event_without_id=event_without_id_message,
    relayed=relayed_message,
    snapshot=snapshot,
    first=lambda cursor, body: said(b"snapshot", body, cursor),
    resumed=lambda since, to, missed: said(b"resumed", _encode({"from": str(since), "to": str(to), "missed": missed})),
    reset=lambda reason: said(b"reset", _encode({"reason": reason})),
    bye=lambda reason, retry_ms: said(b"bye", _encode({"reason": reason, "retry": retry_ms})),
    heartbeat=b"",
    frame=payload,
    disclosed=lambda out: said(
        NAMES[type(out.recorded.event)], published_json(out), Cursor(out.recorded.epoch, out.recorded.seq)
    ),
    lobby=LOBBY,
    refreshes=True,
)


def gap(since: Millis, until: Millis) -> bytes:
    """Say that a silence has been cut short."""
    return sse("gap", _encode({"from": rfc3339(since), "to": rfc3339(until), "seconds": (until - since) / 1000}))


def replay_end(last: Cursor, at: Millis) -> bytes:
    """Say that all has been played. EventSource would come back for more: the client has to close it."""
    return sse("replay_end", _encode({"cursor": str(last), "at": rfc3339(at), "retry": None}))
