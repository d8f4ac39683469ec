"""The Yjs document of one text: updates as changes in characters, and changes as updates in bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.session.aspects.code import apply_changes
from actors.session.errors import Reason, Rejected
from actors.session.state import TextChange
from actors.yjs import Replica, decoded, difference, encoded, missing, numbers

TEXTS = st.text(st.sampled_from(["a", "\n", "é", "汉", "😀", "\u0301"]), max_size=30)


def replica_of(text: str) -> Replica:
    replica = Replica([])
    replica.follow("", [TextChange(at=0, insert=text)])
    return replica


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("", "abc", TextChange(at=0, insert="abc")),
        ("abc", "", TextChange(at=0, delete=3)),
        ("aaa", "aa", TextChange(at=2, delete=1)),
        ("one two", "one 2 two", TextChange(at=4, insert="2 ")),
        ("a😀b", "a🎉b", TextChange(at=1, delete=1, insert="🎉")),
    ],
)
def test_the_difference_of_two_texts(old: str, new: str, change: TextChange) -> None:
    assert difference(old, new) == [change]
    assert apply_changes(old, [change]) == new


@given(TEXTS, TEXTS)
def test_the_difference_turns_one_text_into_the_other(old: str, new: str) -> None:
    assert apply_changes(old, difference(old, new)) == new


@given(TEXTS, TEXTS)
def test_following_changes_and_merging_the_update_are_inverse(old: str, new: str) -> None:
    ours = replica_of(old)
    theirs = Replica([ours.whole()])
    text, update = ours.follow(old, difference(old, new))
    assert text == str(ours) == new
    changes, _ = theirs.merge(update, old)
    assert apply_changes(old, changes) == str(theirs) == new


def test_an_update_that_is_not_new_changes_nothing() -> None:
    replica = replica_of("abc")
    assert replica.merge(replica.whole(), "abc") == ([], None)


def test_an_update_that_builds_on_another_is_refused_without_it() -> None:
    ours = replica_of("abc")
    theirs = Replica([ours.whole()])
    text, _ = ours.follow("abc", [TextChange(at=3, insert="def")])
    _, second = ours.follow(text, [TextChange(at=6, insert="ghi")])
    with pytest.raises(Rejected) as refused:
        theirs.merge(second, "abc")
    assert refused.value.reason is Reason.BEHIND


def test_updates_are_base64_in_events() -> None:
    assert decoded(encoded(b"\0\1\xff")) == b"\0\1\xff"
    with pytest.raises(Rejected):
        decoded("not base64!")


def test_numbers_have_seven_bits_per_byte() -> None:
    assert list(numbers(b"\x00\x7f\x80\x01\xff\xff\x03")) == [0, 127, 128, 65_535]


def test_an_empty_update_lacks_nothing() -> None:
    assert not missing(b"\0\0", b"\0")
