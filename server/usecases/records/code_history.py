"""The versions of a session's code, rebuilt from its log."""

from typing import Annotated

from msgspec import Meta, Struct

from actors.session.ids import SessionId
from server.http.pagination import Listed, listed
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts
from storage.log.history import Edit


class CodeQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`version` selects one version, with its text."""

    version: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[int, Meta(ge=1, lt=1 << 31)] = (1 << 31) - 1


@refuses(unknown_version=404)
async def code_history(parts: HistoryParts, call: Call[object, CodeQuery]) -> Listed:
    """Return the versions of the code, latest first, or with `version` that one and its text. Raise Problem 404."""
    query = call.query
    if query.version is not None:
        return Listed([await version(parts, call.session_id, query.version)], None)
    edits = await parts.records.edits(call.session_id, before=query.cursor, limit=query.limit + 1)
    return listed(edits, query.limit, lambda edit: edit.version)


async def version(parts: HistoryParts, session_id: SessionId, number: int) -> Edit:
    """Return a version of the code with its text. Raise Problem 404."""
    edit = await parts.records.edit(session_id, number)
    if edit is None:
        raise Problem(404, "unknown_version", f"There is no version {number}.", field="version")
    return edit
