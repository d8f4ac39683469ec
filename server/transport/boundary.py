"""Where requests begin and end in a sequence of bytes, according to llhttp, which aiohttp uses too. Pure."""

import contextlib

import httptools

HEAD_END = b"\r\n\r\n"


class MessageCounter:
    """Counts requests: those that are open (begun, not ended) and those that have ended. llhttp calls it."""

    __slots__ = ("ended", "open")

    def __init__(self) -> None:
        self.open = 0
        self.ended = 0

    def on_message_begin(self) -> None:
        self.open += 1

    def on_message_complete(self) -> None:
        self.open -= 1
        self.ended += 1


class Follower:
    """A parser that counts the requests in the bytes that it is fed."""

    __slots__ = ("_parser", "messages")

    def __init__(self) -> None:
        self.messages = MessageCounter()
        self._parser = httptools.HttpRequestParser(self.messages)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raise HttpParserUpgrade or HttpParserError at bytes that are not HTTP."""
        self._parser.feed_data(data)

    def length_until(self, ended: int, data: bytes) -> int:
        """Parse `data` until `ended` requests have ended in all. Return how many bytes that took."""
        size = 0
        while self.messages.ended < ended and size < len(data):
            size += 1
            # The last byte of a request with `Connection: close` raises.
            with contextlib.suppress(httptools.HttpParserError):
                self.feed(data[size - 1 : size])
        return size


class RequestBoundary:
    """Follows the bytes that aiohttp receives, with the same parser, to know whether a request ends with them."""

    __slots__ = ("_ahead", "_behind", "invalid")

    def __init__(self) -> None:
        self._ahead: Follower | None = Follower()
        """None after an upgrade or an error."""
        self._behind = Follower()
        """Has not parsed the bytes at which `_ahead` failed: a parser cannot go back."""
        self.invalid = False
        """An open request continues with bytes that are not HTTP."""

    @property
    def reached(self) -> bool:
        """Whether the bytes so far end where a request ends. False for good after an upgrade or an error."""
        return self._ahead is not None and not self._ahead.messages.open

    def feed(self, data: bytes) -> int:
        """Follow the next bytes.

        If they contain bytes that are not HTTP, return the length of the prefix that consists of complete requests;
        otherwise 0."""
        if self._ahead is None:
            return 0
        try:
            self._ahead.feed(data)
            self._behind.feed(data)
        except httptools.HttpParserUpgrade:
            self._ahead = None  # the bytes that follow belong to another protocol
        except httptools.HttpParserError:
            ended, before = self._ahead.messages.ended, self._behind.messages
            self._ahead = None
            if ended > before.ended:
                return self._behind.length_until(ended, data)
            self.invalid = before.open > 0
        return 0
