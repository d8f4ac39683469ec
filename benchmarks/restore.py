"""Scenario R: time how a server restores a full session that it has not loaded before, from snapshot and log."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from statistics import median

import msgspec
from aiohttp import ClientSession
from msgspec import Raw
from pykka import ActorRef

from actors.ports import Append, Creation, LogRow
from actors.runtime import LoopActor
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from benchmarks.load import TEXT
from benchmarks.servers import Homeroom, StartError
from server.http.uuids import new_id
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.pool import Pool, Writer

EVENTS = 10_000
PEOPLE = 300
MESSAGES = 1_000
QUESTIONS = 200
UPVOTES = 10
POLLS = 20
VOTERS = 150
EDITS = 200
EDIT = "x = 1  # " + "." * 1_014 + "\n"
STROKES = 1_000
POINTS = [round(n / 40, 3) for n in range(40)]
TAIL = 499
"""The number of events after the snapshot: one less than `sessions.snapshot_events`, at which the next is taken."""
TIMES = 20
ROWS_AT_ONCE = 1_000


def full_session(session_id: SessionId, owner: c.Caller, number: int) -> list[e.Recorded]:
    """Return the log of a session with `EVENTS` events, decided and applied by the session machine."""
    made = c.Create(
        new=c.NewSession(title="Physics 101", capacity=1_000),
        session_id=session_id,
        number=number,
        name=f"physics-{number}",
        code=f"B{number:05}",
        default_capacity=100,
        grace_ms=10_000,
    )
    now = Millis(time.time_ns() // 1_000_000 - EVENTS)
    log = machine.record(session_id, 1, 0, now, owner.user_id, lifecycle.create(made, owner, now))
    state = machine.replay(log)
    for by, command in islice(happenings(owner), EVENTS):
        now = Millis(now + 1)
        rows = machine.record(session_id, 1, state.seq, now, by.user_id, machine.decide(state, command, by, now))
        for row in rows:
            machine.apply(state, row)
        log += rows
        if len(log) >= EVENTS:
            break
    holds = (len(log), len(state.messages), len(state.questions), len(state.polls), len(state.board.strokes))
    if holds != (EVENTS, MESSAGES, QUESTIONS, POLLS, STROKES) or len(state.code.text) != EDITS * len(EDIT):
        raise StartError(f"the session to restore has an unexpected content: {holds}, {len(state.code.text)}")
    return log


def happenings(owner: c.Caller) -> Iterator[tuple[c.Caller, c.Command]]:
    """Yield commands and who sends them: 300 participants, messages, questions, votes, strokes, then raised hands."""
    people = [c.Caller(UserId(new_id()), f"Student {n}", has_invitation=True) for n in range(1, PEOPLE)]
    yield owner, c.Join()
    yield from ((one, c.Join()) for one in people)
    taking_turns = cycle(people)
    yield from ((next(taking_turns), c.SendMessage(text=TEXT)) for _ in range(MESSAGES))
    for question_id in range(1, QUESTIONS + 1):
        yield next(taking_turns), c.AskQuestion(text=TEXT)
        yield from ((one, c.UpvoteQuestion(question_id)) for one in people[:UPVOTES])
    for poll_id in range(1, POLLS + 1):
        yield owner, c.OpenPoll(question="Which?", options=["this", "that", "neither"])
        yield from ((one, c.Vote(poll_id, [poll_id % 3])) for one in people[:VOTERS])
    for version in range(EDITS):
        yield owner, c.EditCode(base_version=version, changes=[c.Change(at=version * len(EDIT), insert=EDIT)])
    yield from ((owner, c.Draw(points=POINTS)) for _ in range(STROKES))
    while True:
        one = next(taking_turns)
        yield one, c.RaiseHand()
        yield one, c.LowerHand()


class Nobody(LoopActor):
    """The recipient of the log's answers, which this process does not need."""

    def on_receive(self, message: object) -> None:
        raise TypeError("the archive writes without an actor: no answer is expected")


class Archive:
    """Writes sessions into the database of a Homeroom as if another node had written them and then been killed."""

    def __init__(self, log: PostgresEventLog) -> None:
        self._log = log
        self._nobody: ActorRef[Nobody] = Nobody().begin().actor_ref

    async def keep(self, log: list[e.Recorded], snapshot: tuple[int, bytes] | None) -> None:
        """Store a session, with its snapshot and the snapshot's `seq`, or without a snapshot."""
        state = machine.replay(log)
        session_id = state.session.id
        await self._log.create(Creation(machine.replay(log[:1]).session, [_row(log[0])]))
        for first in range(1, len(log), ROWS_AT_ONCE):
            rows = log[first : first + ROWS_AT_ONCE]
            append = Append(
                actor=self._nobody, session_id=session_id, epoch=1, old_seq=rows[0].seq - 1, new_seq=rows[-1].seq,
                rows=[_row(row) for row in rows], keys=[], redactions=[],
                session=Raw(msgspec.json.encode(state.session)), participants=[], wake_at=None, size=0,
            )  # fmt: skip
            if session_id not in await self._log.append([append]):
                raise StartError("the database did not take a session that was to be restored")
        if snapshot is not None:
            await self._log.save_snapshot(session_id, *snapshot)


def _row(recorded: e.Recorded) -> LogRow:
    event = recorded.event
    kind = str(event.__struct_config__.tag)
    body = Raw(msgspec.json.encode(event))
    return LogRow(recorded.session_id, recorded.epoch, recorded.seq, recorded.at, recorded.actor_id, kind, body)


async def restores(server: Homeroom) -> dict[str, float]:
    """Return the times of a full session's snapshot in this process, and of the server's first committed answers."""
    async with server.client() as client:
        token, user_id = await server.account(client, "teacher")
        owner = c.Caller(UserId(user_id), "teacher", has_invitation=True)
        writer = Writer(server.dsn, PREPARE)
        async with await Pool.open(server.dsn, size=2) as pool:
            kept = PostgresEventLog(pool, writer, f"benchmark:{new_id()}")
            try:
                archive = Archive(kept)
                log = full_session(SessionId(new_id()), owner, await kept.next_number())
                figures = encoding(machine.replay(log[:-TAIL]), log[-TAIL:])
                times: dict[str, list[float]] = {"snapshot_ms": [], "log_ms": [], "warm_ms": []}
                for _ in range(TIMES):
                    for column in ("snapshot_ms", "log_ms"):
                        log = full_session(SessionId(new_id()), owner, await kept.next_number())
                        early = machine.snapshot(machine.replay(log[:-TAIL]))
                        await archive.keep(log, (EVENTS - TAIL, early) if column == "snapshot_ms" else None)
                        ref = log[0].session_id
                        times[column].append(await answered(server, client, token, ref))
                        times["warm_ms"].append(await answered(server, client, token, ref))
            finally:
                await writer.close()
        return figures | {column: median(values) for column, values in times.items()}


def encoding(state: State, tail: list[e.Recorded]) -> dict[str, float]:
    """Return how long the event loop is blocked by encoding and decoding the snapshot and applying the tail."""
    snapshot = machine.snapshot(state)
    states = iter([machine.restored(snapshot) for _ in range(TIMES)])
    return {
        "snapshot_kib": len(snapshot) / 1024,
        "encode_ms": typical(lambda: machine.snapshot(state)),
        "decode_ms": typical(lambda: machine.restored(snapshot)),
        "tail_ms": typical(lambda: machine.replay(tail, next(states))),
    }


def typical(work: Callable[[], object]) -> float:
    """Return the median duration of `work` in milliseconds."""
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    return median(took)


async def answered(server: Homeroom, client: ClientSession, token: str, ref: str) -> float:
    """Return the milliseconds until a command is answered. Raise StartError if its event does not continue the log."""
    began = time.perf_counter()
    answer = await server.call(client, f"/v1/sessions/{ref}/commands", {"type": "send_message", "text": TEXT}, token)
    took = (time.perf_counter() - began) * 1e3
    if answer["seq"] <= EVENTS:
        raise StartError(f"a restored session answered with seq {answer['seq']}, but its log has {EVENTS} events")
    return took


def measure(server: Homeroom) -> dict[str, float]:
    """Run scenario R on a server."""
    return asyncio.run(restores(server))
