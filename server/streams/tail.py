"""The latest events of a session, kept for subscribers that reconnect."""

from collections.abc import Sequence

from actors.session import events as e
from actors.session.state import State
from actors.session.visibility import Published
from server.settings.sections import StreamsSettings
from server.streams.format import Cursor


class Tail:
    """The latest published events of one session, bounded by number and by bytes."""

    __slots__ = ("_bytes", "_events", "_settings")

    def __init__(self, settings: StreamsSettings) -> None:
        self._settings = settings
        self._events: list[Published] = []
        self._bytes = 0

    def remember(self, batch: Sequence[Published]) -> None:
        """Add events. A deleted message empties the tail: its text has been redacted in the log, but not here."""
        for out in batch:
            if type(out.recorded.event) is e.MessageDeleted:
                self._events.clear()
                self._bytes = 0
                return
            self._bytes += len(out.json)
        settings, events = self._settings, self._events
        events += batch
        drop = 0
        while len(events) - drop > settings.replay_events or (
            self._bytes > settings.replay_bytes and drop < len(events)
        ):
            self._bytes -= len(events[drop].json)
            drop += 1
        if drop:
            del events[:drop]

    def replace_state(self, state: State) -> None:
        """Refer to a new actor's state. Otherwise the state of a stopped actor, which may hold what was never
        committed, would stay in memory for as long as one of its events."""
        for out in self._events:
            out.state = state

    def after(self, cursor: Cursor) -> list[Published] | None:
        """Return all events after a cursor; None if not all of them are remembered."""
        if not self._events:
            return None
        offset = cursor.seq - self._events[0].recorded.seq
        if not 0 <= offset < len(self._events) or self._events[offset].recorded.epoch != cursor.epoch:
            return None
        return self._events[offset + 1 :]
