"""The schema and the statements, with much in the tables: what stays quick however long a server runs."""

import json
from typing import Any

import psycopg2
from msgspec import inspect

from actors.session.ids import Capacity
from storage import queries

SESSIONS, USERS = 20_000, 1_000
UNINDEXED = """
select c.conname from pg_constraint c
where c.contype = 'f' and c.confrelid <> 'sessions'::regclass and not exists (
    select from pg_index i
    where i.indrelid = c.conrelid and i.indpred is null
        and (i.indkey::int2[])[0 : cardinality(c.conkey) - 1] = c.conkey)
"""
"""References that an index does not lead along. Sessions are never dropped."""
FILLED = f"""
insert into sessions (session_id, number, name, code, kind, status, owner_id, body)
select gen_random_uuid(), n, 'name-' || n, 'code-' || n, 'tutoring', 'ended', lpad((n % {USERS})::text, 32, '0')::uuid,
    '{{"dialect": "tutorium"}}'
from generate_series(1, {SESSIONS}) n;
insert into participants (session_id, user_id, number, name, role, status)
select session_id, lpad((number * 7 % {USERS})::text, 32, '0')::uuid, 1, 'Ann', 'member', 'left' from sessions;
analyze sessions; analyze participants
"""


def run(dsn: str, sql: str, params: Any = None) -> list[Any]:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


def passed_over(node: Any) -> int:
    """Add up the rows that a plan has looked at for nothing."""
    return int(node.get("Rows Removed by Filter", 0)) + sum(passed_over(inner) for inner in node.get("Plans", ()))


def test_dropping_a_row_walks_through_no_table(dsn: str) -> None:
    assert run(dsn, UNINDEXED) == []


def test_a_user_s_lists_do_not_look_at_everybody_s_sessions(dsn: str) -> None:
    run(dsn, FILLED)
    sql, somebody = queries.load("sessions"), "0" * 29 + "021"
    none: dict[str, Any] = dict.fromkeys(("before", "status", "kind", "owner", "participant", "course_id"))
    asked = {"kind": "tutoring", "dialect": "tutorium", "status": None, "owner": None, "skip": 0, "limit": 100}
    for name, params in (
        ("page", {**none, "viewer": somebody, "limit": 51}),
        ("page", {**none, "viewer": somebody, "limit": 51, "participant": "0" * 29 + "028"}),
        ("slice", {**asked, "participant": somebody}),
        ("slice_total", {**asked, "participant": somebody}),
        ("slice", {**asked, "owner": somebody, "participant": None}),
    ):
        (explained,) = run(dsn, f"explain (analyze, format json) {sql[name]}", params)
        plan = (explained if isinstance(explained, list) else json.loads(explained))[0]["Plan"]
        assert passed_over(plan) < 200, name


LOGGED = """
insert into users (user_id, name, role) values (%(user)s, 'Ann', 'student');
insert into sessions (session_id, number, name, code, kind, status, owner_id, body)
select lpad(n::text, 32, '0')::uuid, n, 'name-' || n, 'code-' || n, 'classroom', 'ended', %(user)s, '{}'
from generate_series(1, 20000) n;
insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
select session_id, 1, seq, now(), %(user)s, 'chat_message', '{"text": "Hello"}'
from sessions, generate_series(1, 3) seq;
"""
CROWDED = """
insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
select lpad('1', 32, '0')::uuid, 1, seq, now(), %(user)s, 'hands_lowered', jsonb_build_object('user_ids',
    array(select lpad(n::text, 32, '0')::uuid from generate_series(1, %(people)s) n))
from generate_series(4, 5) seq
"""
SOMEBODY = "0" * 29 + "021"


def test_a_classroom_s_log_is_read_without_looking_at_the_others(dsn: str) -> None:
    run(dsn, LOGGED, {"user": SOMEBODY})
    run(dsn, "analyze sessions; analyze session_log")
    sql = queries.load("logs")
    for name, statement in {
        "by hand": "select * from logs where session_id = %(number)s",
        "by hand, one type": "select * from logs where session_id = %(number)s and event_type = 'chat_message'",
        "latest": sql["latest"],
        "summary": sql["summary"],
    }.items():
        params = {"number": 7, "types": None, "limit": 100}
        (explained,) = run(dsn, f"explain (analyze, format json) {statement}", params)
        plan = (explained if isinstance(explained, list) else json.loads(explained))[0]["Plan"]
        assert passed_over(plan) < 200, name


def test_everybody_s_hands_lowered_at_once_are_so_many_rows_with_numbers_of_their_own(dsn: str) -> None:
    most = inspect.type_info(Capacity).le  # type: ignore[attr-defined]
    run(dsn, LOGGED, {"user": SOMEBODY})
    run(dsn, CROWDED, {"user": SOMEBODY, "people": most})
    numbers = run(dsn, "select log_id from logs where session_id in (1, 2)")
    assert len(numbers) == len(set(numbers)) == 2 * most + 6
    run(dsn, "delete from session_log where seq > 3")
    run(dsn, CROWDED, {"user": SOMEBODY, "people": most + 1})
    assert len(set(run(dsn, "select log_id from logs where session_id = 1"))) == 2 * most + 4, "the bound is needed"
