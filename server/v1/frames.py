"""Print events for `/v1`: in answers, in the log, as SSE frames and as WebSocket messages.

An event has one encoding; the frame around it depends on the transport. All functions get a `VisibleEvent`, which has
only what its viewers may have.
"""

from typing import Any, get_args, get_type_hints

import msgspec

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.http.reply import Reply
from server.http.timestamps import now_millis, rfc3339
from server.streams.format import Bye, Cursor, StreamEncoder
from server.streams.wire import message, payload
from server.v1.state_views import snapshot

_encode = msgspec.json.Encoder().encode


def instants(event: type) -> tuple[str, ...]:
    """Return the names of the fields of an event type that hold an instant."""
    hints = get_type_hints(event)
    return tuple(name for name, hint in hints.items() if hint is Millis or Millis in get_args(hint))


INSTANTS: dict[type, tuple[str, ...]] = {
    event: fields for event in get_args(e.DurableEvent) if (fields := instants(event))
}


PLAYBACK: frozenset[type] = frozenset({
    e.AudioSelected, e.AudioPlay, e.AudioPause, e.AudioSeek, e.AudioSpeed, e.AudioStop, e.AudioEnded,
})  # fmt: skip
"""Events after which a client has to compute the track's position."""
PLAYBACK_DEFAULTS = {"position": 0.0, "speed": 1.0}
"""The values of playback fields that an event leaves out: the track's start, at normal speed."""


def event_fields(event: e.Event) -> dict[str, Any]:  # Any: JSON values
    """Return an event's own fields, `type` among them, as `/v1` prints them: instants in RFC 3339."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    if type(event) in PLAYBACK:
        plain = plain | {name: plain.get(name, value) for name, value in PLAYBACK_DEFAULTS.items()}
    for name in INSTANTS.get(type(event), ()):
        if plain.get(name) is not None:
            plain[name] = rfc3339(plain[name])
    return plain


def event_json(visible: VisibleEvent, server_time: Millis | None = None) -> bytes:
    """Encode a durable event as {"seq", "at", "actor", "type", …its own fields}.

    Playback events also carry `server_time`, by default the time of the call."""
    event = visible.event
    kind = type(event)
    if kind in PLAYBACK:
        fields = _encode(event_fields(event) | {"server_time": rfc3339(server_time or now_millis())})
    elif kind in INSTANTS:
        fields = _encode(event_fields(event))
    else:
        fields = visible.json or _encode(event)
    actor = b"null" if visible.actor_id is None else b'"%b"' % visible.actor_id.encode()
    at = rfc3339(visible.at).encode()
    return b'{"seq":%d,"at":"%b","actor":%b,%b' % (visible.seq, at, actor, fields[1:])


def live_json(visible: VisibleEvent) -> bytes:
    """Encode an event as it happens: once for answers and for all streams."""
    if type(visible.event) in PLAYBACK:
        # Not cached: a client that resumes later must get the server's time as of then.
        return event_json(visible)
    if visible.encoded is None:
        visible.encoded = event_json(visible)
    return visible.encoded


def sse(name: str, body: bytes, cursor: Cursor | None = None) -> bytes:
    """Return an SSE frame. `cursor` becomes its id, from which a client can resume."""
    id_line = b"" if cursor is None else b"id: %d-%d\n" % (cursor.epoch, cursor.seq)
    return b"%bevent: %b\ndata: %b\n\n" % (id_line, name.encode(), body)


NAMES: dict[type, bytes] = {event: str(event.__struct_config__.tag).encode() for event in get_args(e.DurableEvent)}


SILENT: frozenset[type] = frozenset({e.CodeCompacted})
"""Events without news for clients: they are in the log, but neither in streams nor in answers."""


def event_frame(visible: VisibleEvent, state: State) -> bytes | None:
    """Return the SSE frame of an event; None if streams leave it out."""
    return None if type(visible.event) in SILENT else frame(visible, live_json(visible))


def replayed_frame(visible: VisibleEvent, state: State) -> bytes | None:
    """Return the SSE frame of an event in a replay; None if streams leave it out. `server_time` is the time at which
    the event happened."""
    return None if type(visible.event) in SILENT else frame(visible, event_json(visible, visible.at))


def frame(visible: VisibleEvent, body: bytes) -> bytes:
    """Return the SSE frame of an event with `body` as its data and its position in the log as its id."""
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (visible.epoch, visible.seq, NAMES[type(visible.event)], body)


def event_without_id_frame(visible: VisibleEvent, state: State) -> bytes | None:
    """Return `event_frame` without its id line."""
    printed = event_frame(visible, state)
    return None if printed is None else printed.partition(b"\n")[2]


def relayed_frame(event: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
    """Return the SSE frame of an event that is not in the log; None for the messages of a dialect's clients."""
    if isinstance(event, e.Relayed):
        return None
    body = b'{"at":"%b","actor":"%b",%b' % (rfc3339(at).encode(), by.encode(), _encode(event)[1:])
    return sse(str(event.__struct_config__.tag), body)


def resumed(since: Cursor, to: Cursor, missed: int) -> bytes:
    """Return the frame that precedes the `missed` events of a client that resumes."""
    return sse("resumed", _encode({"from": str(since), "to": str(to), "missed": missed}))


def reset(reason: str) -> bytes:
    """Return the frame that tells a client to discard its view: a new snapshot follows."""
    return sse("reset", _encode({"reason": reason}))


def bye(reason: Bye, retry_ms: int | None) -> bytes:
    """Return the last frame of a stream. `retry_ms` is null if reconnecting is of no use."""
    # EventSource reads its reconnection delay from `retry:`. If reconnecting is of no use, the client has to close it.
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
    keeps_view=True,
)
REPLAYED = msgspec.structs.replace(FRAMES, event=replayed_frame)


def socket_message(name: bytes, body: bytes, cursor: Cursor | None = None) -> bytes:
    """Return a WebSocket message {"event", "id", "data"}. Its id is `cursor`, or null."""
    message_id = b"null" if cursor is None else b'"%d-%d"' % (cursor.epoch, cursor.seq)
    return message(b'{"event":"%b","id":%b,"data":%b}' % (name, message_id, body))


def event_message(visible: VisibleEvent, state: State) -> bytes | None:
    """Return the WebSocket message of an event; None if streams leave it out."""
    kind = type(visible.event)
    cursor = Cursor(visible.epoch, visible.seq)
    return None if kind in SILENT else socket_message(NAMES[kind], live_json(visible), cursor)


def event_without_id_message(visible: VisibleEvent, state: State) -> bytes | None:
    """Return `event_message` with a null id."""
    kind = type(visible.event)
    return None if kind in SILENT else socket_message(NAMES[kind], live_json(visible))


def relayed_message(event: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
    """Return the WebSocket message of an event that is not in the log; None for the messages of a dialect's clients."""
    if isinstance(event, e.Relayed):
        return None
    body = b'{"at":"%b","actor":"%b",%b' % (rfc3339(at).encode(), by.encode(), _encode(event)[1:])
    return socket_message(str(event.__struct_config__.tag).encode(), body)


def command_message(re: bytes, reply: Reply) -> bytes:
    """Return the answer to the command with the client's identifier `re`, which is JSON. `retry` is the time after
    which the client may try again, in milliseconds."""
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
"""The close code that follows `bye`. A slow client receives neither: its connection is cut, as a slow stream's is."""


MESSAGES = StreamEncoder(
    event=event_message,
    event_without_id=event_without_id_message,
    relayed=relayed_message,
    snapshot=snapshot,
    first=lambda cursor, body: socket_message(b"snapshot", body, cursor),
    resumed=lambda since, to, missed: socket_message(
        b"resumed", _encode({"from": str(since), "to": str(to), "missed": missed})
    ),
    reset=lambda reason: socket_message(b"reset", _encode({"reason": reason})),
    bye=lambda reason, retry_ms: socket_message(b"bye", _encode({"reason": reason, "retry": retry_ms})),
    heartbeat=b"",
    frame=payload,
    keeps_view=True,
)


def gap(since: Millis, until: Millis) -> bytes:
    """Return the frame that marks a quiet period which the replay shortens."""
    return sse("gap", _encode({"from": rfc3339(since), "to": rfc3339(until), "seconds": (until - since) / 1000}))


def replay_end(last: Cursor, at: Millis) -> bytes:
    """Return the last frame of a replay. EventSource would reconnect after it: the client has to close it."""
    return sse("replay_end", _encode({"cursor": str(last), "at": rfc3339(at), "retry": None}))
