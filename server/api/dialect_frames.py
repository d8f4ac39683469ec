"""Frames of dialects' streams, made from a dialect's table of events: the name and data of each frame.

An event may have no frame, one, or several. Only the last carries the cursor, so that a client that resumes after it
has missed none.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.api.dialect import Relayed, Told
from server.streams.format import Bye, Cursor, StreamEncoder
from server.streams.wire import message, payload, sse_chunk

_encode = msgspec.json.Encoder().encode

# Any: each dialect has its own shapes, which only its encoder reads.
Named = tuple[str, Any]
First = Callable[[State, UserId, Millis], list[Named]]
"""Returns the first frames of a new subscriber, with their names."""
Last = Callable[[Bye], Named | None]
"""Returns the last frame of a stream, or None."""
Write = Callable[[str, bytes, Cursor | None], bytes]


def sse(name: str, data: bytes, place: Cursor | None) -> bytes:
    """Return an SSE event, with the cursor as its id if there is one."""
    at = b"" if place is None else b"id: %d-%d\n" % (place.epoch, place.seq)
    return b"%bevent: %b\ndata: %b\n\n" % (at, name.encode(), data)


def typed(name: str, data: bytes, place: Cursor | None) -> bytes:
    """Return a WebSocket message `{type, data}`. It has no cursor."""
    return message(b'{"type":%b,"data":%b}' % (_encode(name), data))


def stream(
    events: Mapping[type[e.Event], Told], first: First, last: Last, relays: Mapping[type, Relayed]
) -> StreamEncoder:
    """Return the encoder of an SSE stream."""
    return _format(sse, events, first, last, relays, b": heartbeat\n\n", sse_chunk)


def talk(
    events: Mapping[type[e.Event], Told], first: First, last: Last, relays: Mapping[type, Relayed]
) -> StreamEncoder:
    """Return the encoder of a socket of `{type, data}` messages."""
    return _format(typed, events, first, last, relays, b"", payload)


def _format(
    write: Write,
    events: Mapping[type[e.Event], Told],
    first: First,
    last: Last,
    relays: Mapping[type, Relayed],
    heartbeat: bytes,
    frame: Callable[[bytes], bytes],
) -> StreamEncoder:
    def written(frames: list[Named], place: Cursor | None) -> bytes:
        ends = len(frames) - 1
        return b"".join(
            write(name, _encode(data), place if index == ends else None) for index, (name, data) in enumerate(frames)
        )

    def event(visible: VisibleEvent, state: State) -> bytes | None:
        return written(list(event_frames(events, visible, state)), Cursor(visible.epoch, visible.seq)) or None

    def event_without_id(visible: VisibleEvent, state: State) -> bytes | None:
        return written(list(event_frames(events, visible, state)), None) or None

    def relayed(one: e.Event, by: UserId, at: Millis, state: State) -> bytes | None:
        relay = relays.get(type(one))
        frame = None if relay is None else relay(one, by, at, state)
        return None if frame is None else written([frame], None)

    def bye(reason: Bye, retry_ms: int | None) -> bytes:
        frame = last(reason)
        return b"" if frame is None else written([frame], None)

    # Keep the frames of a snapshot apart: its cursor, which the last of them carries, is known only later.
    def snapshot(state: State, viewer: UserId, now: Millis, shared: object) -> bytes:
        return msgspec.msgpack.encode([(name, _encode(data)) for name, data in first(state, viewer, now)])

    def opening(place: Cursor | None, body: bytes) -> bytes:
        frames = msgspec.msgpack.decode(body, type=list[tuple[str, bytes]])
        ends = len(frames) - 1
        return b"".join(write(name, data, place if i == ends else None) for i, (name, data) in enumerate(frames))

    return StreamEncoder(
        event=event,
        event_without_id=event_without_id,
        relayed=relayed,
        snapshot=snapshot,
        first=opening,
        resumed=lambda since, to, missed: b"",
        reset=lambda reason: b"",
        bye=bye,
        heartbeat=heartbeat,
        frame=frame,
    )


def event_frames(events: Mapping[type[e.Event], Told], visible: VisibleEvent, state: State) -> Iterator[Named]:
    """Yield the frames of an event."""
    told = events.get(type(visible.event), [])
    for name, data_of in told if isinstance(told, list) else [told]:
        data = data_of(visible, state)
        for one in data if isinstance(data, list) else [data]:
            if one is not None:
                yield name, one
