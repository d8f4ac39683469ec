"""Encoding events with a stream's encoder."""

import logging
from collections.abc import Callable, Iterable, Sequence

from actors.session.event_rules import new_view
from actors.session.state import State
from actors.session.visibility import Published, VisibleEvent
from server.streams.format import Cursor, StreamEncoder
from server.streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

Encode = Callable[[VisibleEvent, State], bytes | None]


def encode_events(
    encode: Encode, events: Iterable[tuple[VisibleEvent, State]], cache: dict[object, bytes | None]
) -> list[bytes] | None:
    """Encode events, each once: `cache` keeps them by function and event. Return None if one fails, which is logged."""
    frames = []
    for visible, state in events:
        key = encode, visible
        if key not in cache:
            try:
                cache[key] = encode(visible, state) or b""
            except Exception:
                logger.exception("event %s of session %s cannot be encoded", visible.seq, state.session.id)
                cache[key] = None
        if (frame := cache[key]) is None:
            return None
        frames.append(frame)
    return frames


def framed(encoder: StreamEncoder, frames: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Join frames. Return them as they go on the wire, and as they are."""
    joined = b"".join(frames)
    return encoder.frame(joined) if joined else b"", joined


def encode_missed(subscriber: Subscriber, cursor: Cursor, missed: Sequence[Published]) -> bytes | None:
    """Encode `resumed`, and those events after a cursor that this subscriber may see.

    Return None if other parts of the session have become visible to its user meanwhile: they need a snapshot."""
    encoder, user_id = subscriber.encoder, subscriber.user_id
    if encoder.keeps_view and any(
        new_view(out.recorded.event, out.state.session.owner_id) == user_id for out in missed
    ):
        return None
    frames = []
    for out in missed:
        visible = subscriber.receives(out)
        if visible is not None and (frame := encoder.event(visible, out.state)):
            frames.append(frame)
    last = missed[-1].recorded if missed else None
    to = Cursor(last.epoch, last.seq) if last else cursor
    return encoder.resumed(cursor, to, len(frames)) + b"".join(frames)
