"""An author of a session's log, which writes as an actor does, for tests of the log."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from actors.ports import Append, Creation, KeyRow, LogRow, ParticipantRow, Redaction
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.ids import MessageId, Millis, SessionId, UserId

START = Millis(1_700_000_000_007)


def user(number: int) -> UserId:
    return UserId(f"01990000-0000-7000-8000-{number:012d}")


def session_id(number: int) -> SessionId:
    return SessionId(f"01990000-0000-7000-9000-{number:012d}")


TEACHER, ANN, BEN = user(1), user(2), user(3)


def message(number: int, text: str = "Hello") -> e.ChatMessage:
    return e.ChatMessage(message_id=MessageId(number), text=text)


def joined(user_id: UserId, number: int) -> e.ParticipantJoined:
    return e.ParticipantJoined(user_id=user_id, name=f"Number {number}", number=number, role="member")


def used(name: str, seq: int, by: UserId = ANN, digest: str = "digest") -> KeyRow:
    return KeyRow(by, name, digest, seq, seq, START)


def row(recorded: e.Recorded) -> LogRow:
    tag = str(recorded.event.__struct_config__.tag)
    event = Raw(msgspec.json.encode(recorded.event))
    r = recorded
    return LogRow(r.session_id, r.epoch, r.seq, r.at, r.actor_id, tag, event)


class Author:
    """One session: its state, and its log as it should be."""

    def __init__(self, number: int = 1, *, owner: UserId = TEACHER, actor: object = None, **new: Any) -> None:
        self.session_id = session_id(number)
        self.actor = actor
        self.epoch = 1
        create = c.Create(
            new=c.NewSession(**{"title": "Physics 101", **new}),
            session_id=self.session_id,
            number=number,
            name=f"physics-{number}",
            code=f"CODE{number:02d}",
            default_capacity=100,
            grace_ms=10_000,
        )
        events = lifecycle.create(create, c.Caller(owner, "Teacher"), START)
        self.log = machine.record(self.session_id, 1, 0, START, owner, events)
        self.state = machine.replay(self.log)

    @property
    def seq(self) -> int:
        return self.state.seq

    @property
    def creation(self) -> Creation:
        return Creation(self.state.session, [row(self.log[0])], wake_at=self.state.session.expires_at)

    def append(
        self,
        *events: e.Event,
        by: UserId | None = ANN,
        keys: Sequence[KeyRow] = (),
        redactions: Sequence[Redaction] = (),
        wake_at: int | None = None,
        size: int = 100,
    ) -> Append:
        """Record these events; return the append that commits them."""
        old_seq = self.seq
        at = Millis(START + 13 * old_seq)
        recorded = machine.record(self.session_id, self.epoch, old_seq, at, by, events)
        for one in recorded:
            machine.apply(self.state, one)
        self.log += recorded
        return Append(
            actor=cast(Any, self.actor),
            session_id=self.session_id,
            epoch=self.epoch,
            old_seq=old_seq,
            new_seq=self.seq,
            rows=[row(one) for one in recorded],
            keys=list(keys),
            redactions=list(redactions),
            session=Raw(msgspec.json.encode(self.state.session)),
            participants=[
                ParticipantRow(p.user_id, p.number, p.name, p.role, p.status, p.joined_at, p.left_at)
                for p in self.state.participants.values()
            ],
            wake_at=None if wake_at is None else Millis(wake_at),
            size=size,
        )

    def deletes(self, message_id: int) -> Append:
        """Delete a message: the row that contained it is redacted."""
        seq = self.state.messages[MessageId(message_id)].seq
        emptied = e.ChatMessage(message_id=MessageId(message_id), text="", deleted=True)
        self.log[seq - 1] = msgspec.structs.replace(self.log[seq - 1], event=emptied)
        redaction = Redaction(seq, Raw(msgspec.json.encode(emptied)))
        return self.append(e.MessageDeleted(message_id=MessageId(message_id)), redactions=[redaction])
