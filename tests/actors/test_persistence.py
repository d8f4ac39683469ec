"""The group commit: which appends are committed together, and which actors a failure concerns."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.persistence import AppendsCommitted, CommitFailed, Persistence, SaveSnapshot, WhenIdle
from actors.ports import Append
from actors.runtime import LoopActor
from actors.session import machine
from storage.testing import Trouble
from tests.support.author import Author, message
from tests.support.stage import PATIENCE_S, Log, turns


class Teller(LoopActor):
    """A session actor, as the log knows it: it sends appends and records what becomes of them."""

    def __init__(self, number: int, epoch: int = 1) -> None:
        super().__init__()
        self.author = Author(number, actor=self.actor_ref)
        self.author.epoch = epoch
        self.session_id = self.author.session_id
        self.heard: list[object] = []
        self.told = 0
        """The appends that were confirmed."""

    def on_receive(self, message: object) -> None:
        if isinstance(message, AppendsCommitted):
            self.told += message.appends
            self.heard.append(message.seq)
        else:
            self.heard.append(message)

    def append(self, rows: int = 1, *, size: int = 10) -> Append:
        seq = self.author.seq
        return self.author.append(*(message(seq + n) for n in range(rows)), size=size)


class Office:
    """A writer over a log in memory, and sessions that write."""

    def __init__(self, **changed: int) -> None:
        self.log = Log()
        self.observed: list[int] = []
        self._numbers = itertools.count(1)
        limits = {"commit_rows": 100, "commit_bytes": 10_000, "queue_rows": 1_000, **changed}
        self.writer = Persistence(self.log, observe=lambda rows, seconds: self.observed.append(rows), **limits).begin()

    async def teller(self) -> Teller:
        teller = Teller(next(self._numbers)).begin()
        await self.log.create(teller.author.creation)
        return teller

    async def successor(self, teller: Teller) -> Teller:
        """Return the actor that claims a session next."""
        claimed = await self.log.claim(teller.session_id)
        assert claimed is not None
        successor = Teller(int(teller.session_id[-12:]), claimed.epoch).begin()
        for recorded in claimed.tail[1:]:
            machine.apply(successor.author.state, recorded)
        return successor

    def tell(self, message: object) -> None:
        self.writer.actor_ref.tell(message)

    async def idle(self) -> None:
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tell(WhenIdle(reply))
        async with asyncio.timeout(PATIENCE_S):
            await reply
        await turns(2)

    def shape(self) -> list[list[int]]:
        """Return the number of rows of each append of each commit."""
        return [[len(part.rows) for part in batch] for batch in self.log.commits]

    def stored(self, teller: Teller) -> list[int]:
        return [row.seq for row in self.log.stored(teller.session_id).rows]

    def snapshots(self, *tellers: Teller) -> list[tuple[int, bytes] | None]:
        return [self.log.stored(teller.session_id).snapshot for teller in tellers]


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    office = Office()
    yield office
    await office.idle()
    assert office.writer.queued_rows == 0


# Batches


async def test_appends_of_one_drain_are_one_commit(office: Office) -> None:
    tellers = [await office.teller() for _ in range(3)]
    for teller in tellers:
        office.tell(teller.append())
    await office.idle()
    assert office.shape() == [[1, 1, 1]]
    assert [teller.heard for teller in tellers] == [[2]] * 3
    assert office.observed == [3]


async def test_appends_that_queue_during_a_commit_are_the_next_one(office: Office) -> None:
    ann, ben = await office.teller(), await office.teller()
    with office.log.held():
        office.tell(ann.append())
        await turns()
        for _ in range(3):
            office.tell(ann.append())
            await turns()
        office.tell(ben.append(2))
        await turns()
        assert office.shape() == [[1]], "one commit at a time"
        assert ann.heard == ben.heard == []
        assert office.writer.queued_rows == 6
    await office.idle()
    assert office.shape() == [[1], [1, 1, 1, 2]]
    assert ann.heard == [2, 5]
    assert ben.heard == [3]
    assert office.stored(ann) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("limits", "sizes", "batches"),
    [
        ({"commit_rows": 4}, [(2, 1), (2, 1), (1, 1), (3, 1)], [[2, 2], [1, 3]]),
        ({"commit_rows": 4}, [(9, 1), (1, 1)], [[9], [1]]),
        ({"commit_bytes": 100}, [(1, 60), (1, 40), (1, 1), (1, 100)], [[1, 1], [1], [1]]),
        ({"commit_bytes": 100}, [(1, 500), (1, 500)], [[1], [1]]),
    ],
    ids=["rows", "one larger than a batch", "bytes", "each larger than a batch"],
)
async def test_a_batch_is_bounded(
    limits: dict[str, int], sizes: list[tuple[int, int]], batches: list[list[int]]
) -> None:
    office = Office(**limits)
    teller = await office.teller()
    for rows, size in sizes:
        office.tell(teller.append(rows, size=size))
    await office.idle()
    assert office.shape() == batches
    assert office.stored(teller) == list(range(1, 2 + sum(rows for rows, _ in sizes)))


async def test_the_queue_is_full_at_its_bound_and_empties() -> None:
    office = Office(queue_rows=5)
    teller = await office.teller()
    with office.log.held():
        office.tell(teller.append(4))
        await turns()
        full = [office.writer.full]
        office.tell(teller.append(1))
        await turns()
        full.append(office.writer.full)
    await office.idle()
    assert [*full, office.writer.full] == [False, True, False], "what is being committed still counts"


async def test_two_claims_of_a_session_are_never_in_one_commit(office: Office) -> None:
    teller, other = await office.teller(), await office.teller()
    with office.log.held():
        office.tell(other.append())
        await turns()
        office.tell(teller.append())
        successor = await office.successor(teller)
        office.tell(successor.append())
        office.tell(other.append())
        await turns()
    await office.idle()
    assert [[part.epoch for part in batch] for batch in office.log.commits] == [[1], [1], [2, 1]]
    assert teller.heard == [CommitFailed(fenced=True)]
    assert successor.heard == [2]


# Failures


async def test_a_fenced_session_costs_the_others_nothing(office: Office) -> None:
    ann, ben, cat = [await office.teller() for _ in range(3)]
    await office.log.claim(ben.session_id)
    for teller in (ann, ben, cat):
        office.tell(teller.append())
    await office.idle()
    assert office.shape() == [[1, 1, 1]]
    assert [teller.heard for teller in (ann, ben, cat)] == [
        [2],
        [CommitFailed(fenced=True)],
        [2],
    ]
    assert office.stored(ben) == [1]


async def test_queued_appends_of_a_fenced_session_are_dropped(office: Office) -> None:
    ann, ben = await office.teller(), await office.teller()
    await office.log.claim(ben.session_id)
    with office.log.held():
        office.tell(ben.append())
        await turns()
        office.tell(ben.append(3))
        office.tell(ann.append())
        await turns()
    await office.idle()
    assert office.shape() == [[1], [1]]
    assert ben.heard == [CommitFailed(fenced=True)]
    assert ann.heard == [2]


@pytest.mark.parametrize("after", [False, True], ids=["before it took effect", "after it took effect"])
async def test_an_unknown_outcome_is_never_sent_again(office: Office, after: bool) -> None:
    ann, ben = await office.teller(), await office.teller()
    office.log.fail("append", "after" if after else "before")
    with office.log.held():
        office.tell(ann.append())
        office.tell(ben.append())
        await turns()
        office.tell(ann.append())
        await turns()
    await office.idle()
    assert office.shape() == [[1, 1]], "once, and what followed on it not at all"
    assert ann.heard == ben.heard == [CommitFailed(fenced=False)]
    assert office.stored(ann) == ([1, 2] if after else [1])


async def test_others_go_on_after_an_unknown_outcome(office: Office) -> None:
    ann, ben = await office.teller(), await office.teller()
    office.log.fail("append")
    with office.log.held():
        office.tell(ann.append())
        await turns()
        office.tell(ben.append())
        await turns()
    await office.idle()
    assert ann.heard == [CommitFailed(fenced=False)]
    assert ben.heard == [2]


async def test_a_refusal_for_one_session_does_not_affect_the_others(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    tellers = [await office.teller() for _ in range(3)]
    office.log.poisoned = tellers[1].session_id
    for teller in tellers:
        office.tell(teller.append())
        office.tell(teller.append())
    await office.idle()
    assert office.shape() == [[1, 1, 1, 1, 1, 1], [1, 1], [1, 1], [1, 1]]
    assert [teller.heard for teller in tellers] == [[3], [CommitFailed(fenced=False)], [3]]
    assert tellers[0].told == 2
    assert len(caplog.messages) == 2


async def test_words_of_an_actor_that_stopped_meanwhile(office: Office) -> None:
    teller = await office.teller()
    with office.log.held():
        office.tell(teller.append())
        await turns()
        teller.actor_ref.stop(block=False)
        await turns(2)
    await office.idle()
    assert office.stored(teller) == [1, 2], "it was on its way, and nobody has to hear"


@pytest.mark.parametrize("trouble", ["before", "after"])
async def test_a_failure_drops_nothing_of_a_successor(office: Office, trouble: Trouble) -> None:
    teller = await office.teller()
    office.log.fail("append", trouble)
    with office.log.held():
        office.tell(teller.append())
        await turns()
        teller.actor_ref.stop(block=False)
        await turns(2)
        # The commit is on its way, and its actor gone: a successor claims, and waits behind it.
        successor = await office.successor(teller)
        office.tell(successor.append())
        await turns()
    await office.idle()
    assert successor.heard == [2]


async def test_a_dropped_actors_last_words_are_not_written(office: Office) -> None:
    teller, other = await office.teller(), await office.teller()
    with office.log.held():
        office.tell(other.append())
        await turns()
        office.tell(teller.append())
        teller.actor_ref.stop(block=False)
        await turns(2)
    await office.idle()
    assert office.stored(teller) == [1], "it was told that this may not have been done"
    assert office.stored(other) == [1, 2]


# Snapshots and idleness


async def test_only_the_newest_snapshot_is_saved(office: Office) -> None:
    ann, ben = await office.teller(), await office.teller()
    for teller in (ann, ben):
        office.tell(teller.append(4))
    await office.idle()
    with office.log.held("save_snapshot"):
        for seq in (2, 3, 4):
            office.tell(SaveSnapshot(ann.session_id, seq, b"%d" % seq))
            office.tell(SaveSnapshot(ben.session_id, seq, b"%d" % seq))
    await office.idle()
    assert office.snapshots(ann, ben) == [(4, b"4"), (4, b"4")]
    assert office.log.calls["save_snapshot"] == 2


@pytest.mark.parametrize("trouble", ["before", "refused"])
async def test_a_snapshot_that_cannot_be_saved_is_no_harm(office: Office, trouble: Trouble) -> None:
    ann, ben = await office.teller(), await office.teller()
    for teller in (ann, ben):
        office.tell(teller.append(2))
    await office.idle()
    office.log.fail("save_snapshot", trouble)
    office.tell(SaveSnapshot(ann.session_id, 2, b"lost"))
    await office.idle()
    office.tell(SaveSnapshot(ben.session_id, 3, b"kept"))
    office.tell(ben.append())
    await office.idle()
    assert office.snapshots(ann, ben) == [None, (3, b"kept")]
    assert ben.heard[-1] == 4


async def test_a_refused_snapshot_costs_the_others_nothing(office: Office) -> None:
    ann, ben = await office.teller(), await office.teller()
    for teller in (ann, ben):
        office.tell(teller.append(2))
    await office.idle()
    office.log.fail("save_snapshot", "refused")
    office.tell(SaveSnapshot(ann.session_id, 2, b"lost"))
    office.tell(SaveSnapshot(ben.session_id, 3, b"kept"))
    await office.idle()
    assert office.snapshots(ann, ben) == [None, (3, b"kept")]


@pytest.mark.parametrize("operation", ["append", "save_snapshot"])
async def test_idle_comes_when_everything_has_been_written(office: Office, operation: Any) -> None:
    teller = await office.teller()
    office.tell(teller.append())
    await office.idle()
    reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with office.log.held(operation):
        office.tell(SaveSnapshot(teller.session_id, 2, b"two"))
        office.tell(teller.append())
        office.tell(WhenIdle(reply))
        await turns()
        assert not reply.done()
    async with asyncio.timeout(PATIENCE_S):
        await reply
    assert office.stored(teller) == [1, 2, 3]
    assert office.snapshots(teller) == [(2, b"two")]


async def test_idle_comes_after_a_failure_too(office: Office) -> None:
    teller = await office.teller()
    office.log.fail("append")
    office.tell(teller.append())
    await office.idle()
    assert teller.heard == [CommitFailed(fenced=False)]


async def test_idle_at_once_when_there_is_nothing(office: Office) -> None:
    await office.idle()
    assert office.shape() == []


@pytest.mark.parametrize("sizes", list(itertools.permutations([1, 7, 30])))
async def test_order_is_kept_whatever_the_batches(sizes: tuple[int, ...]) -> None:
    office = Office(commit_rows=8)
    ann, ben = await office.teller(), await office.teller()
    for size, teller in itertools.product(sizes, (ann, ben)):
        office.tell(teller.append(size))
        await turns(1)
    await office.idle()
    assert office.stored(ann) == office.stored(ben) == list(range(1, 2 + sum(sizes)))
    for teller in (ann, ben):
        seqs = [heard for heard in teller.heard if isinstance(heard, int)]
        assert seqs == sorted(seqs)
        assert seqs[-1] == 1 + sum(sizes)
        assert teller.told == len(sizes)
