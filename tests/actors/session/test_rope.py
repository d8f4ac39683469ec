"""A text in pieces is the text."""

from hypothesis import given
from hypothesis import strategies as st

from actors.session.rope import CHUNK, Rope
from actors.session.state import TextChange

TEXTS = st.text(max_size=5) | st.integers(0, 3 * CHUNK).map(lambda length: ("abc" * CHUNK)[:length])


@given(TEXTS, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), TEXTS), max_size=12))
def test_any_changes_make_the_same_text(text: str, wanted: list[tuple[float, float, str]]) -> None:
    rope = Rope(text)
    for where, how_much, insert in wanted:
        at = round(where * len(text))
        change = TextChange(at, round(how_much * (len(text) - at)), insert)
        text = text[:at] + insert + text[at + change.delete :]
        rope.change(change)
        assert str(rope) == text
