"""A text in pieces, for thousands of changes one after the other: each moves a piece, where a string would move whole.

**Law:** it is the text that slicing one string would have made of the same changes.
"""

from actors.session.state import TextChange

SIZE = 4_096


class Pieces:
    def __init__(self, text: str = "") -> None:
        self._pieces = split(text)

    def __str__(self) -> str:
        return "".join(self._pieces)

    def change(self, change: TextChange) -> None:
        """Make a change that is inside of the text."""
        pieces, at = self._pieces, change.at
        first = 0
        while at > len(pieces[first]):
            at -= len(pieces[first])
            first += 1
        last, end = first, at + change.delete
        while end > len(pieces[last]):
            end -= len(pieces[last])
            last += 1
        pieces[first : last + 1] = split(pieces[first][:at] + change.insert + pieces[last][end:])


def split(text: str) -> list[str]:
    """Cut a text into pieces, at least one; short ones are left whole, so that growing does not cut every time."""
    if len(text) <= 2 * SIZE:
        return [text]
    return [text[start : start + SIZE] for start in range(0, len(text), SIZE)]
