"""The access policy, over every membership, every status of a session and everything there is to ask for."""

import itertools
from typing import get_args

import pytest

from actors.session.access import ALLOWED, CLOSED, Ask, Membership, check, may, refusal
from actors.session.errors import Reason, Rejected
from actors.session.state import Presence, Role, Status

MEMBERSHIPS = [
    Membership(owner, status, role, ever_joined, session)
    for owner, (status, role), ever_joined, session in itertools.product(
        (False, True),
        [(None, None), *itertools.product(get_args(Presence), get_args(Role))],
        (False, True),
        get_args(Status),
    )
    if not (status in ("joined",) and not ever_joined) and not (status is None and ever_joined)
]


def expected(ask: Ask, who: Membership) -> bool:
    """Return the policy in another form, to compare: a table of the memberships that each Ask admits."""
    if who.owner:
        return True
    in_roster = who.status not in (None, "kicked", "denied")
    looks_back = who.session in CLOSED and who.ever_joined and in_roster
    return {
        Ask.CARD: in_roster,
        Ask.STATE: who.status in ("joined", "waiting") or looks_back,
        Ask.HISTORY: who.status == "joined" or looks_back,
        Ask.MODERATION: in_roster and who.role in ("host", "cohost"),
        Ask.OWNERSHIP: False,
    }[ask]


def test_every_question_has_a_rule() -> None:
    assert ALLOWED.keys() == set(Ask)


@pytest.mark.parametrize("ask", Ask, ids=lambda ask: ask.value)
def test_who_may_read_what(ask: Ask) -> None:
    assert [who for who in MEMBERSHIPS if may(ask, who) != expected(ask, who)] == []


def test_a_refusal_has_a_reason() -> None:
    for ask, who in itertools.product(Ask, MEMBERSHIPS):
        if may(ask, who):
            check(ask, who)
        else:
            with pytest.raises(Rejected):
                check(ask, who)
            assert refusal(ask, who).reason in (Reason.NOT_JOINED, Reason.NOT_OWNER, Reason.NOT_PERMITTED)


def test_an_invited_user_who_never_joined_reads_no_session_that_is_over() -> None:
    for session in CLOSED:
        invited = Membership(False, "invited", "member", False, session)
        assert [ask for ask in Ask if may(ask, invited)] == [Ask.CARD]
