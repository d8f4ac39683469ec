"""The checker reads the log from PostgreSQL and compares it with the answers and frames that clients received."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg2

from tests.support.load import Ledger
from tests.support.sse import Listener


class Row(NamedTuple):
    seq: int
    epoch: int
    type: str
    actor: str | None
    event: dict[str, Any]

    def concerns(self, user_id: str) -> bool:
        """Return whether a member of the load receives it: everything except direct messages between others."""
        return self.type != "chat_message" or not self.event.get("to") or user_id in (self.event["to"], self.actor)


Log = dict[str, list[Row]]


class Figures(NamedTuple):
    """The checked figures and the faults, each in a sentence."""

    rows: int
    acked: int
    unacked: int
    """In the log, but not acknowledged."""
    faults: list[str]


def read(dsn: str) -> Log:
    """Read the whole log of every session, in order."""
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select session_id::text, seq, epoch, type, actor_id::text, event from session_log order by 1, 2"
            )
            log: defaultdict[str, list[Row]] = defaultdict(list)
            for session_id, *row in cursor:
                log[session_id].append(Row(*row))
            cursor.execute("select session_id::text, last_seq, epoch from session_head")
            for session_id, last_seq, epoch in cursor.fetchall():
                assert log[session_id][-1].seq == last_seq, f"{session_id}: the head says {last_seq}"
                assert log[session_id][-1].epoch <= epoch, f"{session_id}: rows from the future"
            return dict(log)
    finally:
        connection.close()


def check_log(log: Log, ledger: Ledger) -> Figures:
    """Check that each acknowledged command is in the log once, at its `seq`, that seqs are dense, and their order."""
    faults = [f"{session_id}: seqs are not dense" for session_id, rows in log.items() if not dense(rows)]
    faults += [f"{session_id}: epochs go back" for session_id, rows in log.items() if not rising(r.epoch for r in rows)]
    places: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for session_id, rows in log.items():
        for row in rows:
            if row.type == "chat_message":
                places[session_id, row.event["text"]].append(row)
    faults += [f"{place} is in the log {len(found)} times" for place, found in places.items() if len(found) != 1]
    faults += [f"{place} was never sent" for place in places if place not in ledger.sent]
    order: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for acked in ledger.acked:
        found = places.get((acked.session_id, acked.text), [])
        if [(row.seq, row.actor) for row in found] != [(acked.seq, acked.user_id)]:
            faults.append(f"{acked} is at {[row.seq for row in found]}")
        order[acked.session_id, acked.user_id].append(acked.seq)
    faults += [f"{who}: out of order" for who, seqs in order.items() if not rising(seqs, strictly=True)]
    faults += [f"{text} was acknowledged {n} times" for text, n in counted(ledger).items() if n > 1]
    return Figures(sum(map(len, log.values())), len(ledger.acked), len(places) - len(ledger.acked), faults)


def counted(ledger: Ledger) -> Counter[tuple[str, str]]:
    return Counter((acked.session_id, acked.text) for acked in ledger.acked)


def check_streams(log: Log, listeners: Iterable[Listener]) -> list[str]:
    """Return the faults: each listener must get every event for them, once and in order, after the first snapshot."""
    faults = []
    for listener in listeners:
        who = f"listener {listener.user_id} of {listener.session_id}"
        faults += [f"{who}: {fault}" for fault in listener.faults]
        got = [(frame.epoch, frame.seq, frame.event) for frame in listener.frames]
        last = got[-1][1] if got else listener.start
        expected = [
            (row.epoch, row.seq, row.type)
            for row in log[listener.session_id]
            if listener.start < row.seq <= last and row.concerns(listener.user_id)
        ]
        if got != expected:
            lost, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
            doubled = [place for place, n in Counter(got).items() if n > 1]
            faults.append(f"{who}: lost {lost[:5]}, not theirs {extra[:5]}, doubled {doubled[:5]}, of {len(expected)}")
        by_seq = {row.seq: row for row in log[listener.session_id]}
        faults += [
            f"{who}: {frame} is not what the log has"
            for frame in listener.frames
            if frame.event == "chat_message" and frame.data["text"] != by_seq[frame.seq].event["text"]
        ]
    return faults


def dense(rows: list[Row]) -> bool:
    return [row.seq for row in rows] == list(range(1, len(rows) + 1))


def rising(numbers: Iterable[int], *, strictly: bool = False) -> bool:
    return all(a < b if strictly else a <= b for a, b in itertools.pairwise(numbers))
