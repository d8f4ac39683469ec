"""Sessions, rows and appends for the tests of what stores them."""

import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from actors.persistence import Append, Creation, KeyRow, LogRow, ParticipantRow, Redaction
from actors.session import commands as c
from actors.session import events as e
from actors.session import lifecycle, machine
from actors.session.ids import MessageId, Millis, SessionId, UserId
from actors.session.state import Session

START = Millis(1_700_000_000_000)
JSON = msgspec.json.Encoder()
_numbers = itertools.count(1)


def some_id(seed: str) -> str:
    """Give the same id for the same word."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, seed))


ANN, BEN = UserId(some_id("ann")), UserId(some_id("ben"))


def creation(owner: UserId = ANN, **fields: Any) -> Creation:
    """Make a session as the server does; `name`, `code`, `number` and `session_id` are its own unless given."""
    number = fields.pop("number", next(_numbers))
    create = c.Create(
        session_id=SessionId(fields.pop("session_id", str(uuid.uuid4()))),
        number=number,
        name=fields.pop("name", f"session-{number}"),
        code=fields.pop("code", f"A{number:05}"),
        default_capacity=100,
        grace_ms=10_000,
        new=c.NewSession(**{"title": "Physics", **fields}),
    )
    events = lifecycle.create(create, c.Caller(owner, "Ann"), START)
    recorded = machine.record(create.session_id, 1, 0, START, owner, events)[0]
    row = LogRow(create.session_id, 1, 1, START, owner, "session_created", Raw(JSON.encode(recorded.event)))
    return Creation(machine.replay([recorded]).session, row)


def said(number: int, text: str = "") -> e.ChatMessage:
    return e.ChatMessage(message_id=MessageId(number), text=text or f"message {number}")


def append(
    session: Session,
    old_seq: int,
    *events: e.Event,
    epoch: int = 1,
    by: UserId | None = ANN,
    keys: Iterable[KeyRow] = (),
    redactions: Iterable[Redaction] = (),
    facts: Session | None = None,
    participants: Sequence[ParticipantRow] = (),
    wake_at: Millis | None = None,
    at: Millis = START,
) -> Append:
    """Make a session's part of a batch; its rows follow on `old_seq`, a millisecond apart."""
    rows = [
        LogRow(session.id, epoch, seq, Millis(at + seq), by, str(event.__struct_config__.tag), Raw(JSON.encode(event)))
        for seq, event in enumerate(events, old_seq + 1)
    ]
    return Append(
        actor=cast(Any, None),
        session_id=session.id,
        epoch=epoch,
        old_seq=old_seq,
        new_seq=old_seq + len(rows),
        rows=rows,
        keys=list(keys),
        redactions=list(redactions),
        session=None if facts is None else Raw(JSON.encode(facts)),
        participants=list(participants),
        wake_at=wake_at,
        size=sum(len(row.event) for row in rows),
    )


def key(name: str, first_seq: int, last_seq: int, *, by: UserId = ANN, at: Millis = START) -> KeyRow:
    return KeyRow(by, name, f"digest of {name}", first_seq, last_seq, at)


def redaction(seq: int, number: int) -> Redaction:
    """Empty message `number`, which is at `seq`."""
    return Redaction(seq, Raw(JSON.encode(e.ChatMessage(message_id=MessageId(number), text="", deleted=True))))
