"""A session's log, in pages and in numbers, for its moderators.

**Law:** the content of a direct message is for its sender and its recipient; moderators learn only that it was sent.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct, structs

from actors.session import commands as c
from actors.session.aspects import lifecycle
from actors.session.events import DurableEvent
from actors.session.ids import UserId
from actors.session.visibility import event_in_log
from server.http.pagination import Listed, PageCursor, listed
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.accounts import UserRef
from server.usecases.call import Call
from storage.log.event_log import PostgresEventLog, Summary
from storage.log.seeds_log import Line, Logs

LogLine = Line


LogSummary = Summary


@dataclass(frozen=True, kw_only=True)
class LogParts:
    """Logs of sessions, by id and by number."""

    log: PostgresEventLog
    logs: Logs


class LinesQuery(Struct, frozen=True, kw_only=True):
    event_type: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class PlaybackQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


PLAYBACK = ("audio_selected", "audio_play", "audio_pause", "audio_seek")


async def lines(parts: LogParts, call: Call[object, LinesQuery]) -> list[Line]:
    """Return the latest lines of a log, newest first. `ref` is the session's number. The row has checked the caller's
    access."""
    query = call.query
    types = None if query.event_type is None else [query.event_type]
    return await parts.logs.latest(int(call.params["ref"]), types=types, limit=query.limit)


async def lines_summary(parts: LogParts, call: Call) -> Summary:
    """Return the totals of the log that `lines` reads."""
    return await parts.logs.summary(int(call.params["ref"]))


async def played(parts: LogParts, call: Call) -> list[Line]:
    """Return the latest playback lines of a session's log, newest first. The row has checked the caller's access."""
    return await parts.logs.latest(int(call.params["ref"]), types=PLAYBACK, limit=call.query.limit)


EVENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(DurableEvent))


class LogQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`type` selects event types: repeat it, or separate them by commas. `since` is inclusive, `until` exclusive."""

    type: Annotated[str, Meta(max_length=2_000)] | None = None
    user: UserRef | None = None
    since: c.When | None = None
    until: c.When | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: PageCursor | None = None


@refuses(invalid=422)
async def log_page(parts: LogParts, call: Call[object, LogQuery]) -> Listed:
    """Return a page of a session's log as its reader may see it. Raise Problem 422 for an unknown event type."""
    query = call.query
    rows = await parts.log.page(
        call.session_id,
        after=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        types=None if query.type is None else event_types(query.type),
        user_id=None if query.user is None else UserId(query.user),
        since=lifecycle.millis(query.since),
        until=lifecycle.millis(query.until),
        descending=query.order == "desc",
    )
    page = listed(rows, query.limit, lambda row: row.seq)
    return structs.replace(page, items=[event_in_log(row, call.principal.user_id) for row in page.items])


def event_types(listed: str) -> list[str]:
    """Return the event types of a list separated by commas. Raise Problem 422 for an unknown type."""
    types = listed.split(",")
    for name in types:
        if name not in EVENT_TYPES:
            raise Problem(422, "invalid", f"There is no event type {name!r}.", field="type")
    return types


async def log_summary(parts: LogParts, call: Call) -> Summary:
    """Return the totals of a session's log."""
    return await parts.log.summary(call.session_id)
