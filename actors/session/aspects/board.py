"""The board: strokes, bounded in number and size. They are drawn, erased, cleared and restored."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import allowed, require
from actors.session.state import State, Stroke

MAX_STROKES = 5_000
MAX_NUMBERS = 400_000
"""Coordinates of all strokes together: about 4 MB of snapshot."""


def draw(state: State, command: c.Draw, by: c.Caller, now: Millis) -> list[e.Event]:
    require_board(state)
    require(state, by, "draw")
    if len(command.points) % 2:
        raise Rejected(Reason.NOT_ALLOWED, "Send `points` as pairs: x, y, x, y and so on.", field="points")
    if (command.tool == "text") != (command.text is not None):
        raise Rejected(Reason.NOT_ALLOWED, "Send `text` with the tool `text`, and only with it.", field="text")
    board = state.board
    if len(board.strokes) >= MAX_STROKES or board.points + len(command.points) > MAX_NUMBERS:
        raise Rejected(
            Reason.TOO_MANY, f"The board holds at most {MAX_STROKES} strokes and {MAX_NUMBERS} numbers; clear it first."
        )
    return [
        e.BoardDrawn(
            stroke_id=board.last_stroke_id + 1,
            tool=command.tool,
            points=command.points,
            color=command.color,
            width=command.width,
            text=command.text,
        )
    ]


def require_board(state: State) -> None:
    """Raise Rejected if the session has no board."""
    if not state.session.features.board:
        raise Rejected(Reason.FEATURE_OFF, "The board is switched off in this session.")


def erase(state: State, command: c.Erase, by: c.Caller, now: Millis) -> list[e.Event]:
    require_board(state)
    require(state, by, "draw")
    strokes = state.board.strokes
    stroke_ids = [stroke_id for stroke_id in dict.fromkeys(command.stroke_ids) if stroke_id in strokes]
    if not allowed(state, by.user_id, "erase") and any(strokes[one].user_id != by.user_id for one in stroke_ids):
        raise Rejected(
            Reason.NOT_PERMITTED,
            "Without the permission 'erase' you may only erase your own strokes.",
            field="stroke_ids",
        )
    return [e.BoardErased(stroke_ids=stroke_ids)] if stroke_ids else []


def clear_board(state: State, command: c.ClearBoard, by: c.Caller, now: Millis) -> list[e.Event]:
    require_board(state)
    require(state, by, "erase")
    return [e.BoardCleared()] if state.board.strokes else []


def restore_board(state: State, command: c.RestoreBoard, by: c.Caller, now: Millis) -> list[e.Event]:
    require_board(state)
    require(state, by, "erase")
    return [e.BoardRestored()] if state.cleared else []


def on_drawn(state: State, event: e.BoardDrawn, recorded: e.Recorded) -> None:
    board = state.board
    board.last_stroke_id = event.stroke_id
    board.points += len(event.points)
    board.strokes[event.stroke_id] = Stroke(
        event.stroke_id,
        recorded.actor_id or state.session.owner_id,
        event.tool,
        event.points,
        event.color,
        event.width,
        event.text,
    )
    board.version += 1


def on_erased(state: State, event: e.BoardErased, recorded: e.Recorded) -> None:
    board = state.board
    for stroke_id in event.stroke_ids:
        board.points -= len(board.strokes.pop(stroke_id).points)
    board.version += 1


def on_cleared(state: State, event: e.BoardCleared, recorded: e.Recorded) -> None:
    board = state.board
    state.cleared, board.strokes = board.strokes, {}
    board.points = 0
    board.version += 1


def on_restored(state: State, event: e.BoardRestored, recorded: e.Recorded) -> None:
    """Replace everything that was drawn since the board was cleared."""
    board = state.board
    board.strokes, state.cleared = state.cleared, {}
    board.points = sum(len(stroke.points) for stroke in board.strokes.values())
    board.version += 1


HANDLERS = {c.Draw: draw, c.Erase: erase, c.ClearBoard: clear_board, c.RestoreBoard: restore_board}
APPLIERS = {
    e.BoardDrawn: on_drawn,
    e.BoardErased: on_erased,
    e.BoardCleared: on_cleared,
    e.BoardRestored: on_restored,
}
