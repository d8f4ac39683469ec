"""Streams that are cut anywhere and resume with `Last-Event-ID` receive exactly the events they missed."""

import asyncio

from tests.support.checker import check_log, check_streams, read
from tests.support.load import school
from tests.support.processes import LIFTED, Server, directory, homeroom

CUTS = 1_000
# Small, so that many resumed streams are served from the log.
SETTINGS = {**LIFTED, "streams": {"replay_events": 16}}


async def test_streams_that_are_cut_a_thousand_times_miss_nothing(scratch: str | None) -> None:
    with directory(scratch) as data:
        server = Server(data, settings=SETTINGS)
        async with homeroom(server), school(server, talkers=4, sessions=4, each=4) as full:
            await full.listen(32, cut_after=8_000)
            full.talk()
            async with asyncio.timeout(45):
                while sum(listener.cuts for listener in full.listeners) < CUTS:
                    await full.ledger.grows(20)
                    full.check()
            for listener in full.listeners:
                listener.cut_after = 0
            await full.finish()
            log = read(server.dsn)
            faults = [*check_log(log, full.ledger).faults, *check_streams(log, full.listeners)]
            cuts = sum(listener.cuts for listener in full.listeners)
            frames = sum(len(listener.frames) for listener in full.listeners)
            print(f"\n{cuts} cuts, {frames} frames, {len(full.ledger.acked)} commands; faults: {len(faults)}")
            assert not faults, faults[:20]
            assert cuts >= CUTS
