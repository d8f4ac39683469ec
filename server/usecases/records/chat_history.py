"""Chat and questions of a session."""

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
    session: Session
    chatted: ChatRows
    messages: list[VisibleEvent]
    """Latest first."""
    next: int | None


async def chat(parts: HistoryParts, call: Call[object, ChatQuery], *, direct: bool = True) -> ChatPage:
    """Give messages, latest first: those to everyone, and with `direct` those to one, for their two sides."""
    query = call.query
    chatted = await parts.records.chat(
        call.session_id, call.principal.user_id, before=query.before, limit=query.limit + 1, direct=direct
    )
    more = len(chatted.rows) > query.limit
    del chatted.rows[query.limit :]
    messages = [event_in_log(row, call.principal.user_id) for row in chatted.rows]
    return ChatPage(call.card.session, chatted, messages, chatted.rows[-1].seq if more else None)


async def public_chat(parts: HistoryParts, call: Call) -> ChatPage:
    """The same without direct messages, for clients that know of none."""
    return await chat(parts, call, direct=False)


# Any: each API has its own view of a question.
async def questions(parts: HistoryParts, call: Call, show: Callable[[State, Question, bool], Any]) -> Listed:
    """List questions, in the order they were asked: those shown to everyone, one's own, and for moderators the rest."""
    viewer = call.principal.user_id

    def view(state: State) -> list[Any]:
        moderator = allowed(state, viewer, "moderate")
        return [
            show(state, question, moderator)
            for question in state.questions.values()
            if question_visible(question, viewer, moderator=moderator)
        ]

    return Listed(await read_state(parts, call.session_id, call.params["ref"], view), None)
