"""Where requests begin and end in a run of bytes, according to llhttp, the parser that aiohttp uses too. Pure."""

import contextlib

import httptools

HEAD_END = b"\r\n\r\n"


class MessageCounter:
    """Counts requests for llhttp: those that have begun and not ended, and those that have ended."""

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
        """Return how many of the next bytes it takes until as many requests have ended."""
        size = 0
        while self.messages.ended < ended and size < len(data):
            size += 1
            with contextlib.suppress(httptools.HttpParserError):  # the last byte of `Connection: close` raises
                self.feed(data[size - 1 : size])
        return size


class RequestBoundary:
    """Follows the bytes that aiohttp is given, with a parser like its own, to know whether they end with a request."""

    __slots__ = ("_ahead", "_behind", "invalid")

    def __init__(self) -> None:
        self._ahead: Follower | None = Follower()
        """None after an upgrade or an error."""
        self._behind = Follower()
        """Where `_ahead` was before the last bytes: parsers cannot go back."""
        self.invalid = False
        """A request that had begun continues with bytes that are not HTTP."""

    @property
    def reached(self) -> bool:
        """Whether the bytes so far end where a request ends. Never again after an upgrade or an error."""
        return self._ahead is not None and not self._ahead.messages.open

    def feed(self, data: bytes) -> int:
        """Follow the next bytes.

        Return how many of them belong to complete requests, if something that is no request follows; otherwise 0."""
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
