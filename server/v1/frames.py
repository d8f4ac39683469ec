"""Print events for `/v1`: in answers, in the log, as SSE frames and as WebSocket messages.

An event has one encoding; the frame around it depends on the transport. Only its own actor and its confidants receive
the actor of an anonymous event.
"""

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


def event_json(
    recorded: e.Recorded, encoded: bytes, actor_id: UserId | None, server_time: Millis | None = None
) -> bytes:
    """Encode a durable event as {"seq", "at", "actor", "type", …its own fields}. `encoded` is the event's JSON in the
    log. Playback events also carry `server_time`, by default the time of the call."""
    kind = type(recorded.event)
    if kind in PLAYBACK:
        encoded = _encode(event_fields(recorded.event) | {"server_time": rfc3339(server_time or now_millis())})
    elif kind in INSTANTS:
        encoded = _encode(event_fields(recorded.event))
    actor = b"null" if actor_id is None else b'"%b"' % actor_id.encode()
    at = rfc3339(recorded.at).encode()
    return b'{"seq":%d,"at":"%b","actor":%b,%b' % (recorded.seq, at, actor, encoded[1:])


def published_json(out: Published) -> bytes:
    """Encode an event for the participant who caused it: with its actor, even if it is anonymous."""
    if type(out.recorded.event) in PLAYBACK:
        # Not cached: a client that resumes later must get the server's time as of then.
        return event_json(out.recorded, out.event, out.recorded.actor_id)
    printed = out.printed.get("v1")
    if printed is None:
        printed = out.printed["v1"] = event_json(out.recorded, out.event, out.recorded.actor_id)
    return printed


def public_json(out: Published) -> bytes:
    """Encode an event for its whole audience: the actor of an anonymous event is null."""
    return event_json(out.recorded, out.event, None) if anonymous(out.recorded.event) else published_json(out)


def recorded_json(recorded: e.Recorded) -> bytes:
    """Encode an event read from the log for the participant who caused it."""
    return event_json(recorded, _encode(recorded.event), recorded.actor_id)


def sse(name: str, body: bytes, cursor: Cursor | None = None) -> bytes:
    """Return an SSE frame. `cursor` becomes its id, from which a client can resume."""
    id_line = b"" if cursor is None else b"id: %d-%d\n" % (cursor.epoch, cursor.seq)
    return b"%bevent: %b\ndata: %b\n\n" % (id_line, name.encode(), body)


NAMES: dict[type, bytes] = {event: str(event.__struct_config__.tag).encode() for event in get_args(e.DurableEvent)}


SILENT: frozenset[type] = frozenset({e.CodeCompacted})
"""Events without news for clients: they are in the log, but neither in streams nor in answers."""


LOBBY: frozenset[type] = frozenset({
    e.SessionStarted, e.SessionEnded, e.SessionCancelled, e.SessionUpdated, e.SessionLocked, e.SessionUnlocked,
    e.SessionDeleted,
})  # fmt: skip
"""Events about the session itself, which participants in the lobby receive too, besides events about themselves."""


def event_frame(out: Published) -> bytes | None:
    """Return the SSE frame of an event for its whole audience; None if streams leave it out."""
    return None if type(out.recorded.event) in SILENT else frame(out, public_json(out))


def replayed_frame(out: Published) -> bytes | None:
    """Return the SSE frame of an event in a replay; None if streams leave it out. `server_time` is the time at which
    the event happened."""
    recorded = out.recorded
    if type(recorded.event) in SILENT:
        return None
    actor_id = None if anonymous(recorded.event) else recorded.actor_id
    return frame(out, event_json(recorded, out.event, actor_id, recorded.at))


def frame(out: Published, body: bytes) -> bytes:
    """Return the SSE frame of an event with `body` as its data and its position in the log as its id."""
    recorded = out.recorded
    return b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (
        recorded.epoch,
        recorded.seq,
        NAMES[type(recorded.event)],
        body,
    )


def event_without_id_frame(out: Published) -> bytes | None:
    """Return `event_frame` without its id line."""
    printed = event_frame(out)
    return None if printed is None else printed.partition(b"\n")[2]


def relayed_frame(event: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
    """Return the SSE frame of an event that is not in the log; None for the messages of a dialect's clients."""
    if isinstance(event, e.Relayed):
        return None
    body = b'{"at":"%b","actor":"%b",%b' % (rfc3339(at).encode(), by.encode(), _encode(event)[1:])
    return sse(str(event.__struct_config__.tag), body)


def resumed(since: Cursor, to: Cursor, missed: int) -> bytes:
    """Return the frame after the last of the `missed` events that a resuming client received."""
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
    disclosed=lambda out: frame(out, published_json(out)),
    lobby=LOBBY,
    refreshes=True,
)
REPLAYED = msgspec.structs.replace(FRAMES, event=replayed_frame)


def socket_message(name: bytes, body: bytes, cursor: Cursor | None = None) -> bytes:
    """Return a WebSocket message {"event", "id", "data"}. Its id is `cursor`, or null."""
    message_id = b"null" if cursor is None else b'"%d-%d"' % (cursor.epoch, cursor.seq)
    return message(b'{"event":"%b","id":%b,"data":%b}' % (name, message_id, body))


def event_message(out: Published) -> bytes | None:
    """Return the WebSocket message of an event for its whole audience; None if streams leave it out."""
    kind = type(out.recorded.event)
    cursor = Cursor(out.recorded.epoch, out.recorded.seq)
    return None if kind in SILENT else socket_message(NAMES[kind], public_json(out), cursor)


def event_without_id_message(out: Published) -> bytes | None:
    """Return `event_message` with a null id."""
    kind = type(out.recorded.event)
    return None if kind in SILENT else socket_message(NAMES[kind], public_json(out))


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
    disclosed=lambda out: socket_message(
        NAMES[type(out.recorded.event)], published_json(out), Cursor(out.recorded.epoch, out.recorded.seq)
    ),
    lobby=LOBBY,
    refreshes=True,
)


def gap(since: Millis, until: Millis) -> bytes:
    """Return the frame that marks a quiet period which the replay shortens."""
    return sse("gap", _encode({"from": rfc3339(since), "to": rfc3339(until), "seconds": (until - since) / 1000}))


def replay_end(last: Cursor, at: Millis) -> bytes:
    """Return the last frame of a replay. EventSource would reconnect after it: the client has to close it."""
    return sse("replay_end", _encode({"cursor": str(last), "at": rfc3339(at), "retry": None}))
