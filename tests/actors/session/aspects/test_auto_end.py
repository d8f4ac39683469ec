"""What time alone does: a session starts by itself, and ends when it expires, is empty or has no host."""

from datetime import UTC, datetime
from typing import Any

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects.lifecycle import create
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from tests.support.script import (
    ANN,
    BEN,
    CORA,
    GRACE,
    SECOND,
    SERVER,
    START,
    TEACHER,
    Script,
    class_of,
    creation,
    does,
    features,
    given,
    has_role,
    joins,
    passes,
)

MINUTE = 60 * SECOND


def at(ms: int) -> datetime:
    return datetime.fromtimestamp((START + ms) / 1000, UTC)


def ended(script: Script) -> str | None:
    return script.state.session.end_reason


# Empty


def test_an_empty_session_ends_after_a_while() -> None:
    script = given(class_of(ANN), does(ANN, c.Leave()), does(TEACHER, c.Leave()), empty_after=60)
    assert machine.deadline(script.state) == START + MINUTE
    script.when(c.Tick(), by=SERVER, after=MINUTE - 1).then()
    script.when(c.Tick(), by=SERVER, after=1).then(e.SessionEnded(reason="empty"))


def test_who_comes_back_in_time_keeps_it() -> None:
    script = given(class_of(), does(TEACHER, c.Leave()), passes(MINUTE - 1), joins(ANN), passes(MINUTE), empty_after=60)
    assert ended(script) is None
    script.given(does(ANN, c.Leave()), passes(MINUTE - 1))
    assert ended(script) is None
    assert ended(script.given(passes(1))) == "empty"


def test_the_time_counts_from_the_last_departure() -> None:
    """Not from `last_seen` of a participant who lost the connection: others were still present."""
    script = given(class_of(ANN), does(ANN, c.Connect(), c.Disconnect()), passes(SECOND), empty_after=60)
    script.given(does(TEACHER, c.Leave()), passes(GRACE - SECOND))
    assert script.participant(ANN).left_at == START
    assert script.state.emptied_at == START + GRACE


def test_a_session_that_never_started_is_not_empty() -> None:
    assert machine.deadline(given(empty_after=60, host_gone_after=60).state) is None


def test_a_session_that_starts_without_participants_is_empty() -> None:
    script = given(does(TEACHER, c.Start()), passes(MINUTE), empty_after=60)
    assert ended(script) == "empty"


def test_the_lobby_does_not_count() -> None:
    script = given(
        class_of(), features(lobby=True), joins(ANN), does(TEACHER, c.Leave()), passes(MINUTE), empty_after=60
    )
    assert ended(script) == "empty"


def test_without_the_setting_it_waits() -> None:
    assert machine.deadline(given(class_of(), does(TEACHER, c.Leave())).state) is None


# No host


def test_a_session_without_a_host_ends_after_a_while() -> None:
    script = given(class_of(ANN), does(TEACHER, c.Leave()), passes(MINUTE), host_gone_after=60)
    assert ended(script) == "host_gone"


def test_a_cohost_will_do() -> None:
    script = given(class_of(ANN), has_role(CORA, "cohost"), does(TEACHER, c.Leave()), host_gone_after=60)
    assert machine.deadline(script.state) is None
    assert script.state.hosts == 1
    script.given(does(TEACHER, c.SetRole(CORA.user_id, "member")))
    assert machine.deadline(script.state) == START + MINUTE
    script.given(does(TEACHER, c.SetRole(ANN.user_id, "host")))
    assert machine.deadline(script.state) is None
    script.given(does(TEACHER, c.Kick(ANN.user_id)))
    assert machine.deadline(script.state) == START + MINUTE


def test_whichever_comes_first() -> None:
    both = {"empty_after": 120, "host_gone_after": 60}
    assert ended(given(class_of(ANN), does(TEACHER, c.Leave()), passes(5 * MINUTE), **both)) == "host_gone"
    both = {"empty_after": 60, "host_gone_after": 120}
    assert ended(given(class_of(), does(TEACHER, c.Leave()), passes(5 * MINUTE), **both)) == "empty"
    assert ended(given(class_of(), does(TEACHER, c.Leave()), passes(5 * MINUTE), ttl=30, **both)) == "expired"


# By itself


def test_it_starts_by_itself() -> None:
    script = given(auto_start=True, starts_at=at(MINUTE))
    assert machine.deadline(script.state) == START + MINUTE
    script.when(c.Tick(), by=SERVER, after=MINUTE).then(e.SessionStarted())
    assert script.state.session.started_at == START + MINUTE
    assert machine.deadline(script.state) is None


def test_it_starts_so_long_before_as_it_was_asked_to() -> None:
    script = given(auto_start=True, starts_at=at(3 * MINUTE), early=60)
    assert machine.deadline(script.state) == START + 2 * MINUTE
    script.when(c.Tick(), by=SERVER, after=2 * MINUTE).then(e.SessionStarted())


def test_only_where_it_was_asked_to() -> None:
    assert machine.deadline(given(starts_at=at(MINUTE)).state) is None


def test_it_follows_a_start_that_is_moved() -> None:
    script = given(does(TEACHER, c.Update(starts_at=at(2 * MINUTE))), auto_start=True, starts_at=at(MINUTE))
    assert machine.deadline(script.state) == START + 2 * MINUTE
    assert machine.deadline(script.given(does(TEACHER, c.Update(starts_at=None))).state) is None


def test_a_host_may_start_it_earlier() -> None:
    script = given(class_of(BEN), passes(2 * MINUTE), auto_start=True, starts_at=at(MINUTE))
    assert [type(row.event) for row in script.log].count(e.SessionStarted) == 1


@pytest.mark.parametrize(("new", "field"), [({"auto_start": True}, "auto_start"), ({"early": 60}, "early")])
def test_it_needs_to_know_when(new: dict[str, Any], field: str) -> None:
    script = given()
    try:
        create(creation(**new), TEACHER, script.now)
    except Rejected as rejected:
        script.answer = rejected
    script.rejected(Reason.NOT_ALLOWED, field=field)


def test_a_session_that_expires_when_it_would_start_expires() -> None:
    script = given(auto_start=True, starts_at=at(MINUTE), ttl=60).when(c.Tick(), by=SERVER, after=MINUTE)
    script.then(e.SessionEnded(reason="expired"))


def test_nothing_is_due_after_the_end() -> None:
    script = given(class_of(), does(TEACHER, c.End()), ttl=60, empty_after=60, host_gone_after=60)
    assert machine.deadline(script.state) is None
    assert (script.state.emptied_at, script.state.hostless_at, script.state.hosts) == (None, None, 0)


def test_timers_survive_a_restart() -> None:
    script = given(class_of(), does(TEACHER, c.Leave()), empty_after=60)
    later = machine.restored(machine.snapshot(script.state))
    assert machine.deadline(later) == START + MINUTE
    assert machine.decide(later, c.Tick(), SERVER, Millis(START + MINUTE)) == [e.SessionEnded(reason="empty")]
