"""Reading a log in parts: everything once, in order, in parts that are bounded, whatever is looked for."""

import contextlib

import psycopg2
import pytest

from actors.session import events as e
from storage.log.history import PART_BYTES, PART_ROWS, TYPED_ROWS, Records
from storage.pool import Pool

SESSION = "01990000-0000-7000-8000-000000000001"
ROWS = 30_000


@pytest.fixture
def filled(dsn: str) -> str:
    """A log of messages, some of them large; each 7th, 400th and 29,000th row is of another type."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            """insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
            select %(session)s, 1, n, now(), %(session)s, 'chat_message', jsonb_build_object('type', 'chat_message',
                'message_id', n, 'text', case when n %% 5000 < 3 then repeat('x', 200000) else 'Hello' end)
            from generate_series(1, %(rows)s) n;
            update session_log set type = 'hand_raised', event = jsonb_build_object(
                'type', 'hand_raised', 'user_id', %(session)s) where seq %% 7 = 0;
            update session_log set type = 'hands_lowered', event = '{"type": "hands_lowered"}' where seq %% 400 = 0;
            update session_log set type = 'poll_closed', event = '{"type": "poll_closed", "poll_id": 1, "results": []}'
                where seq %% 29000 = 0""",
            {"session": SESSION, "rows": ROWS},
        )
    return dsn


def kind(seq: int) -> type[e.Event]:
    if seq % 29_000 == 0:
        return e.PollClosed
    if seq % 400 == 0:
        return e.HandsLowered
    return e.HandRaised if seq % 7 == 0 else e.ChatMessage


@pytest.mark.parametrize(
    "types",
    [None, (e.ChatMessage,), (e.HandRaised,), (e.HandsLowered, e.PollClosed), (e.PollClosed,), (e.BoardCleared,)],
    ids=str,
)
async def test_everything_once_in_order_and_bounded(filled: str, types: tuple[type[e.Event], ...] | None) -> None:
    async with await Pool.open(filled, size=1) as pool:
        records = Records(pool)
        for after, upto in ((0, ROWS), (123, ROWS - 456), (5_000, 5_001), (7, 7)):
            seen = []
            async for rows in records.parts(SESSION, after=after, upto=upto, types=types):  # type: ignore[arg-type]
                assert 0 < len(rows) <= (PART_ROWS if types is None else TYPED_ROWS)
                texts = [row.event.text for row in rows if isinstance(row.event, e.ChatMessage)]
                assert sum(map(len, texts[:-1])) < PART_BYTES
                seen += [row.seq for row in rows]
            assert seen == [seq for seq in range(after + 1, upto + 1) if types is None or kind(seq) in types]
