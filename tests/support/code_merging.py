"""A session whose code merges, and Yjs clients of it."""

import base64
from typing import Any

from pycrdt import Doc, Text

from actors.code_merging import CODE_COMMANDS, CodeMerging
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.errors import Reason, Rejected
from actors.yjs import Replica, decoded
from tests.support.script import ANN, BEN, TEACHER, Script, class_of, grants


class Session(Script):
    """A session whose code merges: what an actor does with a command."""

    def __init__(self, **new: Any) -> None:
        super().__init__(**new)
        self.merging = CodeMerging()

    def when(self, command: c.Command, by: c.Caller, after: int = 0) -> "Session":
        self.by = by
        before = machine.snapshot(self.state)
        try:
            decide = self.merging.decide if type(command) in CODE_COMMANDS else machine.decide
            self.answer = decide(self.state, command, by, self.now)
        except Rejected as rejected:
            self.answer = rejected
        assert machine.snapshot(self.state) == before, "decide changed the state"
        return self

    def does(self, command: c.Command, by: c.Caller = TEACHER) -> list[e.Event]:
        self.when(command, by)
        assert not isinstance(self.answer, Rejected), repr(self.answer)
        self.take(self.answer)
        return self.answer

    def merges(self, update: bytes, by: c.Caller = TEACHER) -> list[e.Event]:
        return self.does(c.MergeCode(update=base64.b64encode(update).decode()), by)

    def edits(self, text: str, by: c.Caller = TEACHER) -> list[e.Event]:
        return self.does(c.EditCode(base_version=self.state.code.version, text=text), by)

    def refuses(self, update: bytes | str, reason: Reason, by: c.Caller = TEACHER) -> Rejected:
        text = update if isinstance(update, str) else base64.b64encode(update).decode()
        seen = self.state.code.text
        self.when(c.MergeCode(update=text), by)
        refusal = self.answer
        assert isinstance(refusal, Rejected), refusal
        assert refusal.reason is reason
        if self.state.code.updates:
            assert self.does(c.MergeCode(update="AAA="), TEACHER) == []
            assert str(self.replica()) == seen == self.state.code.text
        return refusal

    def replica(self) -> Replica:
        """What a client holds that knows the log's updates."""
        return Replica(map(decoded, self.state.code.updates))

    def restarts(self) -> None:
        self.state = machine.restored(machine.snapshot(self.state))
        self.merging = CodeMerging()


class Client:
    """A Yjs client, as CodeMirror or Monaco has one."""

    def __init__(self) -> None:
        self.doc: Doc[Text] = Doc()
        self.text = self.doc.get("code", type=Text)
        self.outbox: list[bytes] = []

    def edit(self, at: int, delete: int, insert: str) -> bytes:
        """Change characters; give the update."""
        before, text = self.doc.get_state(), str(self.text)
        start, stop = len(text[:at].encode()), len(text[: at + delete].encode())
        with self.doc.transaction():
            del self.text[start:stop]
            self.text.insert(start, insert)
        return self.doc.get_update(before)

    def hears(self, *updates: bytes) -> None:
        for update in updates:
            self.doc.apply_update(update)


def news(events: list[e.Event]) -> list[bytes]:
    return [decoded(event.update) for event in events if isinstance(event, e.CodeMerged)]


def session(*text: str) -> Session:
    made = Session()
    made.given(class_of(ANN, BEN), grants(ANN, "edit_code"))
    for one in text:
        made.edits(one)
    return made
