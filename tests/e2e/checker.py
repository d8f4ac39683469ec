"""The checker: what clients were told against what PostgreSQL has. It reads the log itself, not through the server."""

from collections import defaultdict

import psycopg2

from tests.e2e.load import Ack, Reader


def rows(dsn: str) -> dict[str, list[tuple[int, str, str | None]]]:
    """Read every session's log as (seq, type, text), in order of seq."""
    found: dict[str, list[tuple[int, str, str | None]]] = defaultdict(list)
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select session_id::text, seq, type, event ->> 'text' from session_log order by session_id, seq"
            )
            for session_id, seq, kind, text in cursor:
                found[session_id].append((seq, kind, text))
    finally:
        connection.close()
    return found


def check(dsn: str, acks: list[Ack], readers: list[Reader]) -> None:
    """Hold the log to everything that anyone was told. Raises: AssertionError, saying what is wrong."""
    log = rows(dsn)
    for session_id, session in log.items():
        assert [seq for seq, _, _ in session] == list(range(1, len(session) + 1)), f"seqs of {session_id} have a gap"
        texts = [text for _, kind, text in session if kind == "chat_message"]
        twice = {text for text in texts if texts.count(text) > 1} if len(set(texts)) < len(texts) else set()
        assert not twice, f"applied twice: {sorted(map(str, twice))[:5]}"
    places = {(session_id, seq): text for session_id, session in log.items() for seq, _, text in session}
    lost = [ack for ack in acks if places.get((ack.session_id, ack.seq)) != ack.text]
    assert not lost, f"{len(lost)} of {len(acks)} acknowledged commands are not where they were said to be: {lost[:3]}"
    latest: dict[tuple[str, str], int] = {}
    for ack in acks:
        assert latest.get((ack.session_id, ack.writer), 0) < ack.seq, f"out of the writer's order: {ack}"
        latest[ack.session_id, ack.writer] = ack.seq
    for reader in readers:
        assert reader.resets == 0, "a good cursor was answered with a reset"
        wanted = [seq for seq, _, _ in log[reader.session_id] if seq > reader.first][: len(reader.seqs)]
        assert reader.seqs == wanted, f"a stream of {reader.session_id} was not shown each event once, in order"
