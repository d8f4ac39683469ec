"""The Yjs document beside a session's code: made when somebody first merges, and from then on in step with the text.

**Law:** whoever applies the updates that the log has, in whatever order, holds the text that the log has. What is
refused leaves no trace: the document is then made anew from the state.
Positions are characters in the machine and bytes of UTF-8 in the document.
"""

import base64
import binascii
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pycrdt
from pycrdt import Doc, Text, TransactionEvent

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects.code import changed
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.state import Code, State, TextChange

ROOT = "code"
"""What the text is called in the document: `doc.getText("code")`."""
LOOSE_UPDATES = 100
LOOSE_BYTES = 256 << 10
COPIED = 8 << 20
"""Characters that following an edit may copy, change by change; past that its changes go as one."""
HISTORY_BYTES = 8 << 20
"""All updates together. Yjs keeps a trace of what was deleted, so that a document grows while its text does not."""


class CodeDocument:
    """Decides as the machine does, and keeps the document of one session in step."""

    __slots__ = ("_replica",)

    def __init__(self) -> None:
        self._replica: Replica | None = None

    def decide(self, state: State, command: c.Command, by: c.Caller, now: Millis) -> list[e.Event]:
        """`machine.decide`, with a Yjs update merged, or one made of a plain edit. Raises: Rejected.

        What it gives has to be applied to the state before it is asked again."""
        if not isinstance(command, c.MergeCode):
            events = machine.decide(state, command, by, now)
            if not state.code.updates or not any(isinstance(event, e.CodeEdited) for event in events):
                return events
        try:
            if isinstance(command, c.MergeCode):
                events = self._merged(state, command, by, now)
            else:
                events = self._followed(state.code, events)
            return self._compacted(state, events, by, now)
        except (Exception, KeyboardInterrupt, SystemExit):
            self._replica = None
            raise
        except BaseException as panic:
            # No Exception: an actor would not see it, and neither stop nor go on.
            self._replica = None
            raise RuntimeError("the Yjs document cannot be kept in step") from panic

    def _merged(self, state: State, command: c.MergeCode, by: c.Caller, now: Millis) -> list[e.Event]:
        machine.decide(state, command, by, now)
        code = state.code
        if sum(map(len, code.updates)) > HISTORY_BYTES:
            raise Rejected(Reason.TOO_LARGE, "The document's history has grown too long to merge more into it.")
        update = decoded(command.update)
        events: list[e.Event] = []
        replica = self._open(code)
        if not code.updates:
            # The first to merge brings the document about. Its updates have to be the same for all who come later.
            events.append(e.CodeMerged(version=code.version, update=encoded(replica.everything())))
        changes, news = replica.merge(update, code.text)
        if news is not None:
            events += machine.decide(state, c.Merge(changes=changes, update=encoded(news)), by, now)
        return events

    def _followed(self, code: Code, events: list[e.Event]) -> list[e.Event]:
        """Add to each plain edit the update that does the same."""
        replica, text = self._open(code), code.text
        followed: list[e.Event] = []
        for event in events:
            followed.append(event)
            if isinstance(event, e.CodeEdited):
                changes = event.changes or ()
                if event.text is not None or len(changes) * len(text) > COPIED:
                    changes = difference(text, event.text if event.text is not None else changed(text, changes))
                text, update = replica.follow(text, changes)
                followed.append(e.CodeMerged(version=event.version, update=encoded(update)))
        return followed

    def _compacted(self, state: State, events: list[e.Event], by: c.Caller, now: Millis) -> list[e.Event]:
        """Add all updates in one, when there are many and they outweigh the one that they began with.

        That last condition keeps the log in proportion: what is written again is no more than what has come."""
        updates = [*state.code.updates, *(event.update for event in events if isinstance(event, e.CodeMerged))]
        loose = sum(map(len, updates[1:]))
        if loose <= LOOSE_BYTES and (len(updates) <= LOOSE_UPDATES or loose <= len(updates[0])):
            return events
        compact = c.Compact(update=encoded(self._open(state.code).everything()))
        return [*events, *machine.decide(state, compact, by, now)]

    def _open(self, code: Code) -> "Replica":
        if self._replica is None:
            self._replica = Replica(map(decoded, code.updates))
            if not code.updates:
                self._replica.follow("", [TextChange(at=0, insert=code.text)])
        return self._replica


class Replica:
    """A Yjs document that holds the code and nothing else."""

    def __init__(self, updates: Iterable[bytes]) -> None:
        self._doc: Doc[Text] = Doc()
        self._text = self._doc.get(ROOT, type=Text)
        with self._doc.transaction():
            for update in updates:
                self._doc.apply_update(update)

    def __str__(self) -> str:
        return str(self._text)

    def everything(self) -> bytes:
        return self._doc.get_update()

    def merge(self, update: bytes, text: str) -> tuple[list[TextChange], bytes | None]:
        """Take an update in; give what it changes in `text` (what the document holds), and what was new in it.

        Raises: Rejected, and is then not to be used any more."""
        try:
            with self._watched() as seen:
                self._doc.apply_update(update)
            incomplete = missing(update, self._doc.get_state())
            changes = [change for delta in seen.deltas for change in changes_of(delta, text)]
        except (KeyboardInterrupt, SystemExit, Rejected):
            raise
        except BaseException as error:
            # A panic in the library, which a made-up update can bring about, is no Exception.
            raise Rejected(Reason.NOT_ALLOWED, "`update` is not a Yjs update.", field="update") from error
        if incomplete:
            raise Rejected(
                Reason.BEHIND, "`update` builds on others that are not here; send everything since.", field="update"
            )
        if list(self._doc.keys()) != [ROOT]:
            raise Rejected(Reason.NOT_ALLOWED, f"`update` may change the text {ROOT!r} only.", field="update")
        return changes, seen.news

    def follow(self, text: str, changes: Sequence[TextChange]) -> tuple[str, bytes]:
        """Make changes to `text` (what the document holds); give what it is then, and the update."""
        with self._watched() as seen, self._doc.transaction():
            for change in changes:
                start = len(text[: change.at].encode())
                rest = text[change.at + change.delete :]
                stop = start + len(text[change.at : change.at + change.delete].encode())
                if stop > start:
                    del self._text[start:stop]
                if change.insert:
                    self._text.insert(start, change.insert)
                text = text[: change.at] + change.insert + rest
        return text, seen.news or NOTHING

    @contextlib.contextmanager
    def _watched(self) -> Iterator["Seen"]:
        """See what happens meanwhile. A subscription that is kept would keep the document in memory for ever."""
        seen = Seen()
        updates = self._doc.observe(seen.on_update)
        deltas = self._text.observe(seen.on_delta)
        try:
            yield seen
        finally:
            self._doc.unobserve(updates)
            self._text.unobserve(deltas)


class Seen:
    """What one transaction did to a document."""

    __slots__ = ("deltas", "news")

    def __init__(self) -> None:
        self.news: bytes | None = None
        """As an update: only what was not there yet."""
        self.deltas: list[list[dict[str, Any]]] = []

    def on_update(self, event: TransactionEvent) -> None:
        self.news = event.update

    def on_delta(self, event: Any) -> None:
        self.deltas.append(event.delta)


NOTHING = b"\0\0"
"""The update that changes nothing."""


def encoded(update: bytes) -> str:
    return base64.b64encode(update).decode()


def decoded(update: str) -> bytes:
    """Raises: Rejected."""
    try:
        return base64.b64decode(update, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Rejected(Reason.NOT_ALLOWED, "`update` is not base64.", field="update") from error


def changes_of(delta: Sequence[dict[str, Any]], text: str) -> Iterator[TextChange]:
    """Say in characters what a Yjs delta says in bytes. Raises: Rejected when there is more to it than plain text."""
    raw = text.encode()
    old = at = delete = 0
    insert = ""

    def characters(size: int) -> int:
        return size if len(raw) == len(text) else len(raw[old : old + size].decode())

    for step in [*delta, {"retain": 0}]:
        if "attributes" in step or not isinstance(step.get("insert", ""), str):
            raise Rejected(Reason.NOT_ALLOWED, "`update` may hold plain text only.", field="update")
        if "\0" in step.get("insert", ""):
            raise Rejected(Reason.NOT_ALLOWED, "`update` has a NUL character in it.", field="update")
        insert += step.get("insert", "")
        if size := step.get("delete", 0):
            delete += characters(size)
            old += size
        if "retain" in step:
            if delete or insert:
                yield TextChange(at=at, delete=delete, insert=insert)
            at += len(insert) + characters(step["retain"])
            old += step["retain"]
            delete, insert = 0, ""


def difference(old: str, new: str) -> list[TextChange]:
    """Give the one change that makes `new` of `old`: what is between what they begin and end with alike."""
    start = alike(len(old), len(new), lambda size: old[:size] == new[:size])
    end = alike(len(old) - start, len(new) - start, lambda size: old[len(old) - size :] == new[len(new) - size :])
    return [TextChange(at=start, delete=len(old) - start - end, insert=new[start : len(new) - end])]


def alike(most: int, or_most: int, same: Any) -> int:
    """Find the largest size for which `same` holds."""
    low, high = 0, min(most, or_most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if same(middle) else (low, middle - 1)
    return low


def missing(update: bytes, state: bytes) -> bool:
    """Say whether a document with this state vector has yet to hear of something before it can show an update.

    What an update has beyond a state is an update again (v1): blocks per client, none when all are there; and what it
    deletes: per client, ranges of clocks."""
    held = numbers(state)
    known = {next(held): next(held) for _ in range(next(held))}
    beyond = numbers(pycrdt.get_update(update, state))
    if next(beyond):
        return True
    for _ in range(next(beyond)):
        client = next(beyond)
        for _ in range(next(beyond)):
            if next(beyond) + next(beyond) > known.get(client, 0):
                return True
    return False


def numbers(raw: bytes) -> Iterator[int]:
    """Read variable-length integers: seven bits a byte, lowest first."""
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
