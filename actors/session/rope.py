"""A text in pieces, for thousands of changes one after the other: each moves a piece, where a string would move whole.

**Law:** it is the text that slicing one string would have made of the same changes.
"""

from actors.session.state import TextChange

CHUNK = 4_096


class Rope:
    def __init__(self, text: str = "") -> None:
        self._chunks = split(text)

    def __str__(self) -> str:
        return "".join(self._chunks)

    def change(self, change: TextChange) -> None:
        """Make a change that is inside of the text."""
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
    """Cut a text into pieces, at least one; short ones are left whole, so that growing does not cut every time."""
    if len(text) <= 2 * CHUNK:
        return [text]
    return [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
