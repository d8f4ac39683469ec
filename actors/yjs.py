"""A Yjs document that holds a text, by way of pycrdt.

Positions are characters outside of this module and bytes of UTF-8 in the document.
"""

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pycrdt
from pycrdt import Doc, Text, TransactionEvent

from actors.session.errors import Reason, Rejected
from actors.session.state import TextChange

ROOT = "code"
"""The name of the text in the document: `doc.getText("code")`."""
NOTHING = b"\0\0"
"""The update that changes nothing."""


class Replica:
    """The document of one session's code. It holds one text and nothing else."""

    def __init__(self, updates: Iterable[bytes]) -> None:
        self._doc: Doc[Text] = Doc()
        self._text = self._doc.get(ROOT, type=Text)
        with self._doc.transaction():
            for update in updates:
                self._doc.apply_update(update)

    def __str__(self) -> str:
        return str(self._text)

    def whole(self) -> bytes:
        """Return the whole document as one update."""
        return self._doc.get_update()

    def merge(self, update: bytes, text: str) -> tuple[list[TextChange], bytes | None]:
        """Merge an update. Return the changes it makes to `text` (the document's text), and the part of it that was
        new to the document, as an update; None if nothing was.

        Raise Rejected if the update is malformed, incomplete or has more than the text. The replica is then unusable.
        """
        try:
            with self._observed() as observed:
                self._doc.apply_update(update)
            incomplete = missing(update, self._doc.get_state())
            changes = [change for delta in observed.deltas for change in changes_of(delta, text)]
        except (KeyboardInterrupt, SystemExit, Rejected):
            raise
        except BaseException as error:
            # A forged update can make the library panic, and a panic is no Exception.
            raise Rejected(Reason.NOT_ALLOWED, "`update` is not a Yjs update.", field="update") from error
        if incomplete:
            raise Rejected(
                Reason.BEHIND,
                "`update` builds on updates that the server lacks; send those too.",
                field="update",
            )
        if list(self._doc.keys()) != [ROOT]:
            raise Rejected(Reason.NOT_ALLOWED, f"`update` must change the text {ROOT!r} only.", field="update")
        return changes, observed.update

    def follow(self, text: str, changes: Sequence[TextChange]) -> tuple[str, bytes]:
        """Make changes to `text` (the document's text). Return the result, and the update that does the same."""
        with self._observed() as observed, self._doc.transaction():
            for change in changes:
                start = len(text[: change.at].encode())
                rest = text[change.at + change.delete :]
                stop = start + len(text[change.at : change.at + change.delete].encode())
                if stop > start:
                    del self._text[start:stop]
                if change.insert:
                    self._text.insert(start, change.insert)
                text = text[: change.at] + change.insert + rest
        return text, observed.update or NOTHING

    @contextlib.contextmanager
    def _observed(self) -> Iterator["Observed"]:
        """Collect what changes in the block. A subscription left in place would keep the document in memory forever."""
        observed = Observed()
        updates = self._doc.observe(observed.on_update)
        deltas = self._text.observe(observed.on_delta)
        try:
            yield observed
        finally:
            self._doc.unobserve(updates)
            self._text.unobserve(deltas)


class Observed:
    """The effect of one transaction on a document."""

    __slots__ = ("deltas", "update")

    def __init__(self) -> None:
        self.update: bytes | None = None
        """Everything that was new to the document."""
        self.deltas: list[list[dict[str, Any]]] = []

    def on_update(self, event: TransactionEvent) -> None:
        self.update = event.update

    def on_delta(self, event: Any) -> None:
        self.deltas.append(event.delta)


def encoded(update: bytes) -> str:
    """Return an update as base64, as events carry it."""
    return base64.b64encode(update).decode()


def decoded(update: str) -> bytes:
    """Return the update that base64 text encodes. Raise Rejected if it is not base64."""
    try:
        return base64.b64decode(update, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Rejected(Reason.NOT_ALLOWED, "`update` is not base64.", field="update") from error


def changes_of(delta: Sequence[dict[str, Any]], text: str) -> Iterator[TextChange]:
    """Yield a Yjs delta of `text`, which counts bytes, as changes, which count characters.

    Raise Rejected if it inserts anything but plain text."""
    raw = text.encode()
    old = at = delete = 0
    insert = ""

    def characters(size: int) -> int:
        return size if len(raw) == len(text) else len(raw[old : old + size].decode())

    for step in [*delta, {"retain": 0}]:
        if "attributes" in step or not isinstance(step.get("insert", ""), str):
            raise Rejected(Reason.NOT_ALLOWED, "`update` must insert plain text only.", field="update")
        if "\0" in step.get("insert", ""):
            raise Rejected(Reason.NOT_ALLOWED, "`update` must not insert a NUL character.", field="update")
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
    """Return the one change that turns `old` into `new`: everything between their common prefix and suffix."""
    start = largest(min(len(old), len(new)), lambda size: old[:size] == new[:size])
    most = min(len(old), len(new)) - start
    end = largest(most, lambda size: old[len(old) - size :] == new[len(new) - size :])
    return [TextChange(at=start, delete=len(old) - start - end, insert=new[start : len(new) - end])]


def largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest size up to `most` for which a condition holds; it holds for all smaller ones too."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def missing(update: bytes, state: bytes) -> bool:
    """Return whether a document with this state vector lacks updates that an update builds on.

    Read from the difference between the two, which is an update too (v1): blocks per client, none if the document has
    all; then deletions, as ranges of clocks per client."""
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
    """Yield variable-length integers: seven bits per byte, lowest first."""
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
