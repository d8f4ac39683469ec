"""A rope: a text in chunks, for thousands of changes one after the other. Each copies a chunk, not the whole text.

**Law:** it equals the text that slicing one string by the same changes would have produced.
"""

from actors.session.state import TextChange

CHUNK = 4_096


class Rope:
    """A text that changes in place."""

    def __init__(self, text: str = "") -> None:
        self._chunks = split(text)

    def __str__(self) -> str:
        return "".join(self._chunks)

    def change(self, change: TextChange) -> None:
        """Apply a change, which must not reach past the end of the text."""
        rope, at = self._chunks, change.at
        first = 0
        while at > len(rope[first]):
            at -= len(rope[first])
            first += 1
        last, end = first, at + change.delete
        while end > len(rope[last]):
            end -= len(rope[last])
            last += 1
        rope[first : last + 1] = split(rope[first][:at] + change.insert + rope[last][end:])


def split(text: str) -> list[str]:
    """Return a text as one chunk or more. A text of up to two is one, so that growth does not split it every time."""
    if len(text) <= 2 * CHUNK:
        return [text]
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
