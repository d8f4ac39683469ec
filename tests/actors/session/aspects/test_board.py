"""The board: bounded strokes; one's own may be erased, everybody's by those who may."""

from itertools import count

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects import board
from actors.session.errors import Reason
from actors.session.state import Stroke
from tests.support.script import ANN, BEN, EVE, TEACHER, Script, Steps, class_of, does, features, given, grants

LINE = [0.0, 0.0, 1.0, 1.0]


def draws(one: c.Caller, times: int = 1) -> list[Steps]:
    return [does(one, *[c.Draw(points=LINE)] * times)]


def drawing(*steps: Steps) -> Script:
    """A class in which Ann and Ben have drawn strokes 1 and 2."""
    return given(class_of(ANN, BEN), grants(ANN, "draw"), grants(BEN, "draw"), draws(ANN), draws(BEN), list(steps))


def test_drawing() -> None:
    command = c.Draw(tool="marker", points=LINE, color="#ff0000", width=3.0)
    script = given(class_of()).when(command, by=TEACHER)
    script.then(e.BoardDrawn(stroke_id=1, tool="marker", points=LINE, color="#ff0000", width=3.0))
    assert script.state.board.strokes == {1: Stroke(1, TEACHER.user_id, "marker", LINE, "#ff0000", 3.0)}
    script.when(c.Draw(tool="text", points=[0.5, 0.5], text="Hi"), by=TEACHER)
    script.then(e.BoardDrawn(stroke_id=2, tool="text", points=[0.5, 0.5], color="#000000", width=2.0, text="Hi"))
    assert (script.state.board.points, script.state.board.version) == (6, 2)


def test_strokes_that_are_none() -> None:
    script = drawing()
    script.when(c.Draw(points=[0.0, 0.0, 1.0]), by=ANN).rejected(Reason.NOT_ALLOWED, field="points")
    script.when(c.Draw(points=LINE, text="Hi"), by=ANN).rejected(Reason.NOT_ALLOWED, field="text")
    script.when(c.Draw(points=LINE, tool="text"), by=ANN).rejected(Reason.NOT_ALLOWED, field="text")


def test_the_board_is_bounded_in_strokes_and_in_numbers() -> None:
    script = drawing()
    numbers, ids = [0.0] * 2_000, count(3)
    while script.state.board.points + len(numbers) <= board.MAX_NUMBERS:
        drawn = e.BoardDrawn(stroke_id=next(ids), tool="pen", points=numbers, color="#000000", width=1.0)
        board.on_drawn(script.state, drawn, script.log[-1])
    script.when(c.Draw(points=numbers), by=ANN).rejected(Reason.TOO_MANY)
    script = drawing()
    for number in range(3, board.MAX_STROKES + 1):
        script.state.board.strokes[number] = script.state.board.strokes[1]
    script.when(c.Draw(points=LINE), by=ANN).rejected(Reason.TOO_MANY)


def test_erasing_ones_own() -> None:
    script = drawing().when(c.Erase([1]), by=BEN).rejected(Reason.NOT_PERMITTED, field="stroke_ids")
    script.when(c.Erase([2, 1]), by=BEN).rejected(Reason.NOT_PERMITTED, field="stroke_ids")
    script.when(c.Erase([2, 2, 99]), by=BEN).then(e.BoardErased(stroke_ids=[2]))
    script.when(c.Erase([2]), by=BEN).then()
    assert script.state.board.points == len(LINE)


def test_erasing_anybodys() -> None:
    script = drawing(grants(ANN, "erase")).when(c.Erase([2, 1]), by=ANN).then(e.BoardErased(stroke_ids=[2, 1]))
    assert (script.state.board.strokes, script.state.board.points) == ({}, 0)


def test_clearing_and_bringing_back() -> None:
    script = drawing()
    before = dict(script.state.board.strokes)
    for command in (c.ClearBoard(), c.RestoreBoard()):
        script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.RestoreBoard(), by=TEACHER).then()
    script.when(c.ClearBoard(), by=TEACHER).then(e.BoardCleared())
    script.when(c.ClearBoard(), by=TEACHER).then()
    assert (script.state.board.strokes, script.state.board.points) == ({}, 0)
    script.given(draws(ANN)).when(c.RestoreBoard(), by=TEACHER).then(e.BoardRestored())
    assert script.state.board.strokes == before
    assert script.state.board.points == 2 * len(LINE)
    script.when(c.RestoreBoard(), by=TEACHER).then()
    script.when(c.Draw(points=LINE), by=ANN)
    script.then(e.BoardDrawn(stroke_id=4, tool="pen", points=LINE, color="#000000", width=2.0))


@pytest.mark.parametrize(
    "command",
    [c.Draw(points=LINE), c.Erase([1]), c.ClearBoard(), c.RestoreBoard()],
    ids=lambda command: type(command).__name__,
)
def test_who_may(command: c.Command) -> None:
    script = drawing().when(command, by=EVE).rejected(Reason.NOT_JOINED)
    script.given(does(TEACHER, c.SetPermissions(ANN.user_id, revoke=["draw"])))
    script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
    script.given(features(board=False)).when(command, by=TEACHER).rejected(Reason.FEATURE_OFF)
