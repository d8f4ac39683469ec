"""Polls: everyone votes once, and the votes add up."""

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.polls import MAX_POLLS, results
from actors.session.errors import Reason
from actors.session.event_rules import anonymous
from tests.support.script import (
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    TEACHER,
    Script,
    Steps,
    class_of,
    does,
    features,
    given,
    has_role,
    revokes,
)

OPTIONS = ["Red", "Green", "Blue"]


def opens(*, multiple: bool = False, secret: bool = False) -> list[Steps]:
    return [does(TEACHER, c.OpenPoll("Which?", OPTIONS, multiple=multiple, anonymous=secret))]


def room(*steps: Steps) -> Script:
    return given(class_of(ANN, BEN, CAT), list(steps))


def votes(one: c.Caller, *options: int) -> list[Steps]:
    return [does(one, c.Vote(1, list(options)))]


def test_opening() -> None:
    script = room(has_role(CORA, "cohost")).when(c.OpenPoll("Which?", OPTIONS), by=CORA)
    script.then(e.PollOpened(poll_id=1, question="Which?", options=OPTIONS))
    script.when(c.OpenPoll("Which?", OPTIONS), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.OpenPoll("Which?", ["A", "A"]), by=CORA).rejected(Reason.NOT_ALLOWED, field="options")
    script.given(features(polls=False)).when(c.OpenPoll("Which?", OPTIONS), by=CORA).rejected(Reason.FEATURE_OFF)


def test_a_session_holds_so_many() -> None:
    script = room(opens())
    for number in range(MAX_POLLS - 1):
        script.state.polls[number + 2] = script.state.polls[1]
    script.when(c.OpenPoll("Which?", OPTIONS), by=TEACHER).rejected(Reason.TOO_MANY)


def test_everyone_votes_once() -> None:
    script = room(opens()).when(c.Vote(1, [2]), by=ANN).then(e.PollVoted(poll_id=1, options=[2]))
    script.when(c.Vote(1, [2]), by=ANN).rejected(Reason.ALREADY_VOTED, field="poll_id")
    script.when(c.Vote(1, [0]), by=ANN).rejected(Reason.ALREADY_VOTED, field="poll_id")
    script.given(does(ANN, c.Leave(), c.Join())).when(c.Vote(1, [0]), by=ANN)
    script.rejected(Reason.ALREADY_VOTED, field="poll_id")


def test_votes_add_up() -> None:
    script = room(opens(multiple=True), votes(ANN, 0, 2), votes(BEN, 2), votes(CAT, 2, 0, 2))
    assert results(script.state.polls[1]) == [2, 0, 3]
    script.when(c.ClosePoll(1), by=TEACHER).then(e.PollClosed(poll_id=1, results=[2, 0, 3]))


def test_the_vote_of_a_participant_who_left_counts() -> None:
    script = room(opens(), votes(ANN, 1), does(TEACHER, c.Kick(ANN.user_id))).when(c.ClosePoll(1), by=TEACHER)
    script.then(e.PollClosed(poll_id=1, results=[0, 1, 0]))


@pytest.mark.parametrize("options", [[3], [0, 3]])
def test_only_existing_options_can_be_chosen(options: list[int]) -> None:
    room(opens(multiple=True)).when(c.Vote(1, options), by=ANN).rejected(Reason.NOT_ALLOWED, field="options")


def test_a_poll_without_multiple_accepts_one_option() -> None:
    script = room(opens()).when(c.Vote(1, [0, 1]), by=ANN).rejected(Reason.NOT_ALLOWED, field="options")
    script.when(c.Vote(1, [1, 1]), by=ANN).then(e.PollVoted(poll_id=1, options=[1]))


def test_a_closed_poll_takes_no_more() -> None:
    script = room(opens(), does(TEACHER, c.ClosePoll(1))).when(c.Vote(1, [0]), by=ANN)
    script.rejected(Reason.POLL_CLOSED, field="poll_id")
    script.when(c.ClosePoll(1), by=TEACHER).then()


def test_who_may() -> None:
    script = room(opens(), revokes(BEN, "vote"))
    script.when(c.Vote(1, [0]), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.Vote(1, [0]), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.ClosePoll(1), by=ANN).rejected(Reason.NOT_PERMITTED)
    for command in (c.Vote(2, [0]), c.ClosePoll(2)):
        script.when(command, by=TEACHER).rejected(Reason.UNKNOWN_POLL, field="poll_id")


def test_only_the_log_has_the_voter_of_an_anonymous_vote() -> None:
    script = room(opens(secret=True)).when(c.Vote(1, [0]), by=ANN)
    script.then(e.PollVoted(poll_id=1, options=[0], anonymous=True))
    assert anonymous(script.log[-1].event)
    assert not anonymous(room(opens(), votes(ANN, 0)).log[-1].event)
