"""How frames go on the wire: as chunks of an HTTP/1.1 body, as WebSocket messages, or as they are. Bytes only."""

from collections.abc import Callable

Framing = Callable[[bytes], bytes]


def sse_chunk(frames: bytes) -> bytes:
    """Return bytes as one chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(frames), frames)


def message(text: bytes) -> bytes:
    """Return a WebSocket text message as a server sends it (RFC 6455, 5.2): in one frame, not masked."""
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), text)


def payload(frames: bytes) -> bytes:
    """Return frames unchanged: they are WebSocket messages already."""
    return frames
