"""What is stored is read by other versions too: no stored type refuses a field that it does not know.

A session written by a newer version, with one more feature, can be listed, restored and followed by this one.
"""

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from actors.session import events as e
from actors.session import machine
from actors.session.ids import SessionId
from actors.session.notifications import Notification
from actors.session.state import Features, Session, State
from storage.outbox import Attempt
from tests.support.script import class_of, given

STORED = {
    "log": e.DurableEvent, "snapshot": State, "list row": Session, "notification": Notification, "attempt": Attempt,
}  # fmt: skip


def structs(info: object, seen: set[type]) -> Iterator[inspect.StructType]:
    """Return every Struct within a type, at any depth."""
    match info:
        case inspect.StructType():
            if info.cls in seen:
                return
            seen.add(info.cls)
            yield info
            for field in info.fields:
                yield from structs(field.type, seen)
        case inspect.Type():
            for name in info.__struct_fields__:
                yield from structs(getattr(info, name), seen)
        case tuple() | list():
            for one in info:
                yield from structs(one, seen)


@pytest.mark.parametrize("name", STORED)
def test_stored_types_tolerate_unknown_fields(name: str) -> None:
    found = list(structs(inspect.type_info(STORED[name]), set()))
    assert found
    assert [one.cls.__name__ for one in found if one.forbid_unknown_fields] == []


def with_unknown(value: object) -> object:
    """Return plain values with an unknown field in every object, also in those of lists."""
    match value:
        case dict():
            return {**{key: with_unknown(inner) for key, inner in value.items()}, "from_the_future": {"a": [1]}}
        case list():
            return [with_unknown(inner) for inner in value]
        case _:
            return value


def test_a_log_of_a_newer_version_is_replayed() -> None:
    log = given(class_of()).log
    assert log
    for row in log:
        plain = msgspec.json.decode(msgspec.json.encode(row.event))
        assert msgspec.json.decode(msgspec.json.encode(with_unknown(plain)), type=e.DurableEvent) == row.event


def test_a_list_row_of_a_newer_version_is_read() -> None:
    session = machine.replay(given(class_of()).log).session
    plain = msgspec.json.decode(msgspec.json.encode(session))
    assert msgspec.json.decode(msgspec.json.encode(with_unknown(plain)), type=Session) == session
    assert session.features == Features()
    assert session.id != SessionId("")
