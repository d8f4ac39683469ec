"""Records: what has been in a session, read from its log. Attendance, chat, questions, code, statistics, export.

**Law:** everything here is made of the log's rows, and shows nobody more than they may see. Who took part sees what
everyone in the session could see, and their own; owner, hosts and cohosts see the rest.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from actors.session import attendance, lifecycle
from actors.session.attendance import Attendance
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId, UserId
from actors.session.permissions import allowed
from actors.session.state import Question, Session, State
from server.auth import Principal
from server.clock import now_millis
from server.errors import Problem
from server.lists import Listed, listed
from server.routes import Call, Download
from server.seats import Cut
from server.services import Services
from server.session_log import withheld
from storage.event_log import Summary
from storage.logs import Line
from storage.records import Chatted, Edit
from storage.rooms import Visit

LogLine = Line
LogSummary = Summary
CHECK_S = 1.0
"""How often a long answer looks whether its reader may still have it."""


async def took_part(services: Services, session_id: SessionId, principal: Principal, ref: str) -> Session:
    """Find a session for someone who may see what everyone in it could: who is in it, or, once it is over, was.

    Raises: Problem 404, 403."""
    found = await services.visible(session_id, principal, ref)
    was_in = found.place == "left" and found.joined and found.session.status in lifecycle.CLOSED
    if found.session.owner_id != principal.user_id and found.place != "joined" and not was_in:
        raise Problem(403, "not_joined", "Join the session first.")
    return found.session


async def moderates(services: Services, session_id: SessionId, principal: Principal, ref: str) -> Session:
    return (await services.moderated(session_id, principal, ref)).session


def still(check: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Make what a long answer calls every so often: Cut, once its reader may not have it any more."""
    checked_at = time.monotonic()

    async def checked() -> None:
        nonlocal checked_at
        if time.monotonic() - checked_at >= CHECK_S:
            checked_at = time.monotonic()
            try:
                await check()
            except Problem as problem:
                raise Cut("kicked") from problem

    return checked


# What clients have noted (`log_event`)


class NotedQuery(Struct, frozen=True, kw_only=True):
    event_type: str | None = None
    limit: int = 100


async def noted(services: Services, call: Call) -> list[Recorded]:
    """Read what clients have noted, latest first: everybody's for owner, hosts and cohosts, one's own for others."""
    query: NotedQuery = call.body
    whose = await noted_by(services, call)
    return await services.records.noted(call.session_id, event_type=query.event_type, user_id=whose, limit=query.limit)


async def noted_counts(services: Services, call: Call) -> dict[str, int]:
    """Count by type what `noted` reads."""
    return await services.records.noted_counts(call.session_id, user_id=await noted_by(services, call))


async def noted_by(services: Services, call: Call) -> UserId | None:
    """Say whose notes the caller may read; None: everybody's. Raises: Problem 403, 404."""
    caller = call.principal.user_id
    found = await services.visible(call.session_id, call.principal, call.params["ref"])
    return None if found.moderates(caller) else caller


# A classroom's log by numbers


class LinesQuery(Struct, frozen=True, kw_only=True):
    event_type: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class PlaybackQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


PLAYBACK = ("audio_selected", "audio_play", "audio_pause", "audio_seek")


async def lines(services: Services, call: Call) -> list[Line]:
    """Read a log, newest first. Whether the caller may has been seen to; `ref` is the session's number."""
    query: LinesQuery = call.query
    types = None if query.event_type is None else [query.event_type]
    return await services.logs.latest(int(call.params["ref"]), types=types, limit=query.limit)


async def lines_summary(services: Services, call: Call) -> Summary:
    """Add up what `lines` reads."""
    return await services.logs.summary(int(call.params["ref"]))


async def played(services: Services, call: Call) -> list[Line]:
    """Read what was played in a session, newest first; for who is in it, or was until its end."""
    await took_part(services, call.session_id, call.principal, call.params["ref"])
    return await services.logs.latest(int(call.params["ref"]), types=PLAYBACK, limit=call.query.limit)


# Attendance


class AttendanceQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`late_after_s`: how long after the start is late, and before the end early."""

    late_after_s: Annotated[int, Meta(ge=0, le=86_400)] = 300
    format: Literal["json", "csv"] = "json"


class Attended(Struct, frozen=True):
    session: Session
    started_at: Millis | None
    until: Millis | None
    """Up to when it is counted: the session's end, or now."""
    lines: list[attendance.Line]
    csv: bool
    visits: list[Visit] = []


async def attended(services: Services, call: Call) -> Attended:
    """Say who was there: to owner, hosts and cohosts everyone, to others themselves."""
    query: AttendanceQuery = call.query
    viewer = call.principal.user_id
    found = await services.visible(call.session_id, call.principal, call.params["ref"])
    now, fold = now_millis(), Attendance()
    upto = await services.records.last_seq(call.session_id)
    async for rows in services.records.parts(call.session_id, upto=upto, types=attendance.TYPES):
        for row in rows:
            fold.take(row)
        await asyncio.sleep(0)
    lines = fold.lines(now, tolerance_ms=query.late_after_s * 1000)
    if not found.moderates(viewer):
        lines = [line for line in lines if line.user_id == viewer]
    visits: list[Visit] = []
    if found.session.room is not None:
        visits = await services.ledger.visits(call.session_id, None if found.moderates(viewer) else viewer)
    return Attended(found.session, fold.started_at, fold.end(now), lines, query.format == "csv", visits)


# The log


async def statistics(services: Services, call: Call) -> Any:
    await services.moderated(call.session_id, call.principal, call.params["ref"])
    return await services.records.statistics(call.session_id)


class Export(Struct, frozen=True):
    """What an API prints of an export: a line about the session, and one per row."""

    head: Callable[[Session, int, Millis], bytes]
    row: Callable[[Recorded], bytes]


async def export(services: Services, call: Call, lines: Export) -> Download:
    """Give the whole log as it is now, line by line."""
    ref, session_id, viewer = call.params["ref"], call.session_id, call.principal.user_id
    session = await moderates(services, session_id, call.principal, ref)
    upto = await services.records.last_seq(session_id)
    checked = still(lambda: moderates(services, session_id, call.principal, ref))

    async def body() -> AsyncGenerator[bytes, None]:
        yield lines.head(session, upto, now_millis())
        async with contextlib.aclosing(services.records.parts(session_id, upto=upto)) as parts:
            async for rows in parts:
                yield b"".join([lines.row(withheld(row, viewer)) for row in rows])
                await checked()

    return Download(f"{session.name}.ndjson", "application/x-ndjson", body(), call.principal)


# Chat, questions, code


class ChatQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`before`: the `seq` of the message that the page ends before."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    before: Annotated[int, Meta(ge=1, lt=1 << 31)] = (1 << 31) - 1


class ChatPage(Struct, frozen=True):
    session: Session
    chatted: Chatted
    next: int | None


async def chat(services: Services, call: Call, *, direct: bool = True) -> ChatPage:
    """Give messages, latest first: those to everyone, and with `direct` those to one, for their two sides."""
    query: ChatQuery = call.query
    session = await took_part(services, call.session_id, call.principal, call.params["ref"])
    chatted = await services.records.chat(
        call.session_id, call.principal.user_id, before=query.before, limit=query.limit + 1, direct=direct
    )
    more = len(chatted.rows) > query.limit
    del chatted.rows[query.limit :]
    return ChatPage(session, chatted, chatted.rows[-1].seq if more else None)


async def public_chat(services: Services, call: Call) -> ChatPage:
    """The same without direct messages, for clients that know of none."""
    return await chat(services, call, direct=False)


async def questions(services: Services, call: Call, show: Callable[[State, Question, bool], Any]) -> Listed:
    """List questions, in the order they were asked: those shown to everyone, one's own, and for moderators the rest."""
    viewer = call.principal.user_id
    await took_part(services, call.session_id, call.principal, call.params["ref"])

    def view(state: State) -> list[Any]:
        all_of_them = allowed(state, viewer, "moderate")
        return [
            show(state, question, all_of_them)
            for question in state.questions.values()
            if all_of_them or question.shown or question.user_id == viewer
        ]

    return Listed(await services.look(call.session_id, call.params["ref"], view), None)


class CodeQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`version`: that one alone, with its text."""

    version: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[int, Meta(ge=1, lt=1 << 31)] = (1 << 31) - 1


async def code_history(services: Services, call: Call) -> Listed:
    """List versions of the code, latest first."""
    query: CodeQuery = call.query
    await took_part(services, call.session_id, call.principal, call.params["ref"])
    if query.version is not None:
        return Listed([await version(services, call.session_id, query.version)], None)
    edits = await services.records.edits(call.session_id, before=query.cursor, limit=query.limit + 1)
    return listed(edits, query.limit, lambda edit: edit.version)


async def version(services: Services, session_id: SessionId, number: int) -> Edit:
    """Rebuild a version of the code. Raises: Problem 404."""
    edit = await services.records.edit(session_id, number)
    if edit is None:
        raise Problem(404, "unknown_version", f"There is no version {number}.", field="version")
    return edit
