"""The chat and the questions of a session. A direct message is returned only to its sender and its recipient."""

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from actors.session.permissions import allowed
from actors.session.state import Question, Session, State
from actors.session.visibility import VisibleEvent, event_in_log, question_visible
from server.http.pagination import Listed
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts, read_state
from storage.log.history import ChatRows


class ChatQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`before` selects the messages before the one with this `seq`."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    before: Annotated[int, Meta(ge=1, lt=1 << 31)] = (1 << 31) - 1


class ChatPage(Struct, frozen=True):
    """A page of the chat. `next` is the `before` of the following page."""

    session: Session
    chatted: ChatRows
    messages: list[VisibleEvent]
    """Latest first."""
    next: int | None


async def chat(parts: HistoryParts, call: Call[object, ChatQuery], *, direct: bool = True) -> ChatPage:
    """Return a page of the messages to everyone and, with `direct`, of the direct messages that the caller sent or
    received."""
    query = call.query
    chatted = await parts.records.chat(
        call.session_id, call.principal.user_id, before=query.before, limit=query.limit + 1, direct=direct
    )
    more = len(chatted.rows) > query.limit
    del chatted.rows[query.limit :]
    messages = [event_in_log(row, call.principal.user_id) for row in chatted.rows]
    return ChatPage(call.card.session, chatted, messages, chatted.rows[-1].seq if more else None)


async def public_chat(parts: HistoryParts, call: Call) -> ChatPage:
    """Return a page of the messages to everyone, for clients that do not know direct messages."""
    return await chat(parts, call, direct=False)


# Any: each API has its own view of a question.
async def questions(parts: HistoryParts, call: Call, show: Callable[[State, Question, bool], Any]) -> Listed:
    """Return the questions that the caller may read, in the order in which they were asked.

    These are the visible ones and the caller's own; moderators read all. Raise Problem 404, 503."""
    viewer = call.principal.user_id

    def view(state: State) -> list[Any]:
        moderator = allowed(state, viewer, "moderate")
        return [
            show(state, question, moderator)
            for question in state.questions.values()
            if question_visible(question, viewer, moderator=moderator)
        ]

    return Listed(await read_state(parts, call.session_id, call.params["ref"], view), None)
