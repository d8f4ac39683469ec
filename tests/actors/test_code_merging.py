"""Code that merges: concurrent edits of clients, plain edits between them, and forged updates."""

import base64
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs
from pycrdt import Doc, Map, Text

from actors.code_merging import CODE_COMMANDS, LOOSE_BYTES, LOOSE_UPDATES
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import code
from actors.session.errors import Reason, Rejected
from actors.session.state import TextChange
from actors.yjs import Replica, decoded
from tests.support.code_merging import Client, news, session
from tests.support.script import ANN, BEN, TEACHER, person

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
pytestmark = pytest.mark.timeout(1_800 if LONG else 300)

PIECES = ["", "x", "def f():\n    return 1\n", "é", "e\u0301", "😀", "👩‍👩‍👧‍👦", "汉字", "\u202e", "\r\n"]
"""One, two, three and four bytes of UTF-8 a character; characters that combine; what editors stumble over."""


def test_every_command_that_edits_the_text_is_a_code_command() -> None:
    """`Together` may contain any of them. `SetLanguage` is no edit; `Merge` and `Compact` are what merging decides."""
    edits = set(code.HANDLERS) - {c.SetLanguage, c.Merge, c.Compact}
    assert edits | {c.Together} == CODE_COMMANDS


def test_an_edit_among_other_commands_is_followed_too() -> None:
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    events = live.does(c.Together([c.EditCode(text="abcd"), c.SetLanguage("python")]))
    client.hears(*news(events))
    assert str(client.text) == live.state.code.text == "abcd"


def test_the_first_to_merge_gets_the_text_that_is_there() -> None:
    live, client = session("héllo 😀"), Client()
    events = live.merges(b"\0\0")
    assert [type(event) for event in events] == [e.CodeMerged]
    client.hears(*news(events))
    assert str(client.text) == "héllo 😀"
    live.merges(client.edit(6, 1, "🎉!"))
    assert live.state.code.text == "héllo 🎉!"
    assert live.state.code.version == 2


def test_nothing_new_is_nothing() -> None:
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    assert live.merges(b"\0\0") == []
    update = client.edit(1, 0, "x")
    assert len(live.merges(update)) == 2
    assert live.merges(update) == []


@pytest.mark.parametrize("piece", PIECES)
def test_characters_are_characters(piece: str) -> None:
    live, client = session(f"a{piece}b{piece}c"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    size = len(piece)
    events = live.merges(client.edit(1, size, "Z"))
    expected = [] if piece == "Z" else [TextChange(at=1, delete=size, insert="Z")]
    assert [event.changes for event in events if isinstance(event, e.CodeEdited)] == [expected]
    assert live.state.code.text == f"aZb{piece}c" == str(client.text)
    live.edits(f"aZ{piece}b{piece}{piece}")
    assert str(live.replica()) == live.state.code.text


def test_a_plain_edit_reaches_merging_clients_and_keeps_their_concurrent_edits() -> None:
    live, client = session("one\ntwo\nthree\n"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    typed = client.edit(0, 0, "zero\n")
    events = live.edits("one\ntwo\n3\n", by=ANN)
    assert [type(event) for event in events] == [e.CodeEdited, e.CodeMerged]
    client.hears(*news(events))
    live.merges(typed)
    assert live.state.code.text == "zero\none\ntwo\n3\n" == str(client.text)


def test_a_thousand_changes_in_a_long_text_are_followed_as_one() -> None:
    live, client = session("é" * 100_000), Client()
    client.hears(*news(live.merges(b"\0\0")))
    changes = [c.Change(at=7 * n, delete=1, insert="x😀") for n in range(1_000)]
    client.hears(*news(live.does(c.EditCode(base_version=1, changes=changes))))
    assert str(client.text) == live.state.code.text
    assert live.state.code.text.count("😀") == 1_000


def test_a_version_that_is_brought_back_reaches_them_too() -> None:
    live, client = session("first", "second"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    events = live.does(c.RestoreCode(version=1), by=structs.replace(TEACHER, texts={1: "first"}))
    client.hears(*news(events))
    assert live.state.code.text == "first" == str(client.text)


def test_there_is_no_document_before_the_first_merge() -> None:
    live = session("text")
    assert [type(event) for event in live.edits("more text")] == [e.CodeEdited]
    assert live.state.code.updates == []


def test_it_goes_on_after_a_restart() -> None:
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    live.merges(client.edit(3, 0, "d"))
    live.restarts()
    client.hears(*news(live.edits("abcde")))
    live.merges(client.edit(5, 0, "f"))
    assert live.state.code.text == "abcdef" == str(client.text) == str(live.replica())


# Refusals


def test_only_those_may_merge_who_may_edit() -> None:
    live = session("abc")
    live.refuses(b"\0\0", Reason.NOT_PERMITTED, by=BEN)
    live.refuses(b"\0\0", Reason.NOT_JOINED, by=person("Stranger"))
    assert live.state.code.updates == []


def test_a_malformed_update_is_refused() -> None:
    live = session("abc")
    live.merges(b"\0\0")
    for update in ("", "!", "AAA", "éé=="):
        assert live.refuses(update, Reason.NOT_ALLOWED).field == "update"
    live.refuses(b"\1\2\3 nonsense", Reason.NOT_ALLOWED)


def test_an_update_that_panics_the_library_is_refused() -> None:
    """A known client with an empty list of blocks, on which yrs 0.28 panics."""
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    live.merges(client.edit(0, 0, "x"))
    live.refuses(b"\1\0" + varint(client.doc.client_id) + b"\0\0", Reason.NOT_ALLOWED)
    live.merges(client.edit(0, 0, "y"))
    assert live.state.code.text == "yxabc"


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


@settings(max_examples=2_000 if LONG else 200, deadline=None, derandomize=not LONG)
@given(
    edits=st.integers(0, 7), flips=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 7)), min_size=1, max_size=4)
)
def test_damaged_updates_are_refused_or_harmless(edits: int, flips: list[tuple[int, int]]) -> None:
    """`flips`: the bits of an update that are inverted, by byte and number."""
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    good = [client.edit(index % 3, index % 2, "x😀") for index in range(edits + 1)]
    update = bytearray(good[-1])
    for byte, bit in flips:
        update[byte % len(update)] ^= 1 << bit
    live.when(c.MergeCode(update=base64.b64encode(update).decode()), TEACHER)
    if not isinstance(live.answer, Rejected):
        live.restarts()
    live.merges(good[0])
    assert str(live.replica()) == live.state.code.text


def test_an_update_whose_cause_is_missing_is_refused_until_it_comes_with_it() -> None:
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    known = client.doc.get_state()
    client.edit(3, 0, "lost ")
    later = client.edit(8, 0, "later")
    live.refuses(later, Reason.BEHIND)
    live.merges(client.doc.get_update(known))
    assert live.state.code.text == "abclost later"
    known = client.doc.get_state()
    lost, gone = client.edit(0, 0, "new"), client.edit(0, 3, "")
    live.refuses(gone, Reason.BEHIND)
    live.merges(lost)
    live.merges(gone)
    assert live.state.code.text == "abclost later"


def test_anything_but_plain_text_is_refused() -> None:
    def other_root(doc: Doc[Any], text: Text) -> None:
        doc.get("more", type=Map)["key"] = "value"

    def bold(doc: Doc[Any], text: Text) -> None:
        text.format(0, 2, {"bold": True})

    def embedded(doc: Doc[Any], text: Text) -> None:
        text.insert_embed(1, {"image": "…"})

    def nested(doc: Doc[Any], text: Text) -> None:
        text.insert_embed(1, Text("inner"))

    def nul(doc: Doc[Any], text: Text) -> None:
        text.insert(0, "a\0b")

    live = session("abc")
    first = news(live.merges(b"\0\0"))
    for change in (other_root, bold, embedded, nested, nul):
        client = Client()
        client.hears(*first)
        change(client.doc, client.text)
        assert live.refuses(client.doc.get_update(), Reason.NOT_ALLOWED).field == "update"


def test_the_text_is_bounded() -> None:
    live, client = session("é" * (code.LIMIT_BYTES // 2)), Client()
    client.hears(*news(live.merges(b"\0\0")))
    live.refuses(client.edit(0, 0, "x"), Reason.TOO_LARGE)
    other = Client()
    other.hears(*(decoded(update) for update in live.state.code.updates))
    live.merges(other.edit(0, 1, ""))
    assert live.state.code.text == "é" * (code.LIMIT_BYTES // 2 - 1)


# Compaction


def test_many_updates_become_one() -> None:
    live, client = session("abc"), Client()
    client.hears(*news(live.merges(b"\0\0")))
    most = 0
    for index in range(3 * LOOSE_UPDATES):
        live.merges(client.edit(len(str(client.text)), 0, str(index % 10)))
        most = max(most, len(live.state.code.updates))
    assert most <= LOOSE_UPDATES
    compacted = [row.event for row in live.log if isinstance(row.event, e.CodeCompacted)]
    assert len(compacted) in (2, 3)
    late = Client()
    late.hears(*(decoded(update) for update in live.state.code.updates))
    assert str(late.text) == live.state.code.text == str(client.text)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(positions=st.lists(st.floats(0, 1), min_size=60, max_size=60))
def test_large_updates_become_one_and_the_log_stays_in_proportion(positions: list[float]) -> None:
    """`positions`: where a text is inserted, as a share of the length so far."""
    live, client = session(), Client()
    client.hears(*news(live.merges(b"\0\0")))
    for position in positions:
        live.merges(client.edit(int(position * len(str(client.text))), 0, "text " * 2_000))
    came = sum(len(row.event.update) for row in live.log if isinstance(row.event, e.CodeMerged))
    again = sum(len(row.event.update) for row in live.log if isinstance(row.event, e.CodeCompacted))
    assert 0 < again <= 3 * came
    loose = sum(map(len, live.state.code.updates[1:]))
    assert loose <= LOOSE_BYTES
    assert str(live.replica()) == live.state.code.text


# Anything, in any order


class Merging(RuleBasedStateMachine):
    """A few clients that edit concurrently and receive the log's updates in order but late; and plain edits."""

    @initialize(text=st.sampled_from(PIECES))
    def begin(self, text: str) -> None:
        self.live = session(text) if text else session()
        self.published: list[bytes] = []
        self.clients = [Client() for _ in range(3)]
        self.unheard: list[list[bytes]] = [[] for _ in self.clients]
        self.publish(self.live.merges(b"\0\0"))

    def publish(self, events: list[e.Event]) -> None:
        for queue in self.unheard:
            queue += news(events)

    who = st.integers(0, 2)
    place = st.floats(0, 1)
    size = st.integers(0, 3)
    piece = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)

    @rule(who=who, place=place, delete=size, insert=piece)
    def edits(self, who: int, place: float, delete: int, insert: str) -> None:
        client = self.clients[who]
        text = str(client.text)
        at = round(place * len(text))
        client.outbox.append(client.edit(at, min(delete, len(text) - at), insert))

    @rule(who=who)
    def sends(self, who: int) -> None:
        outbox = self.clients[who].outbox
        if outbox:
            self.publish(self.live.merges(outbox.pop(0)))

    @rule(who=who, some=st.integers(1, 5))
    def hears(self, who: int, some: int) -> None:
        heard, self.unheard[who] = self.unheard[who][:some], self.unheard[who][some:]
        self.clients[who].hears(*heard)

    @rule(place=place, delete=size, insert=piece)
    def edits_plainly(self, place: float, delete: int, insert: str) -> None:
        text = self.live.state.code.text
        at = round(place * len(text))
        change = c.Change(at=at, delete=min(delete, len(text) - at), insert=insert)
        edit = c.EditCode(base_version=self.live.state.code.version, changes=[change, c.Change(at=0, insert="·")])
        self.publish(self.live.does(edit))

    @rule(text=piece)
    def writes_it_anew(self, text: str) -> None:
        self.publish(self.live.edits(text))

    @rule()
    def restarts(self) -> None:
        self.live.restarts()

    @precondition(lambda self: len(self.live.state.code.updates) > 1)
    @rule()
    def compacts(self) -> None:
        updates = self.live.state.code.updates
        everything = base64.b64encode(Replica(map(decoded, updates)).whole()).decode()
        self.live.does(c.Compact(update=everything))

    @invariant()
    def the_log_has_the_text(self) -> None:
        if hasattr(self, "live"):
            assert str(self.live.replica()) == self.live.state.code.text

    def teardown(self) -> None:
        if not hasattr(self, "live"):
            return
        for who, client in enumerate(self.clients):
            while client.outbox:
                self.sends(who)
        for who, unheard in enumerate(self.unheard):
            self.hears(who, len(unheard))
        text = self.live.state.code.text
        assert [str(client.text) for client in self.clients] == [text] * 3
        assert machine.replay(self.live.log).code.text == text


TestMerging = Merging.TestCase
TestMerging.settings = settings(
    max_examples=2_000 if LONG else 150,
    stateful_step_count=60 if LONG else 40,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
