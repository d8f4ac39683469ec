"""The code of a session: the document as merging clients need it, and earlier versions to restore."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from actors.session.commands import RestoreCode
from actors.session.ids import SessionId
from actors.session.permissions import allowed, waiting
from actors.session.state import State
from server.http.problems import Problem
from server.http.refusals import refuses
from server.security.principal import Principal
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts, read_state, read_state_as_participant
from storage.log.history import Edit

TEXTS = 1 << 20
"""The most characters in a page of versions. A single version may be longer."""


class Document(Struct, frozen=True):
    """The shared code. `updates` are base64 Yjs updates which, applied in order, produce the text. They are [] until a
    client merges an update."""

    version: int
    language: str
    text: str
    updates: list[str]


@refuses(not_joined=403, not_owner=403, not_permitted=403, waiting=403)
async def document(parts: HistoryParts, call: Call) -> Document:
    """Return the code as it is now. Raise Problem 403 to a caller in the lobby or without access, 404, 503."""
    viewer = call.principal.user_id

    def view(state: State) -> Document:
        if waiting(state, viewer):
            raise Problem(403, "waiting", "You are in the lobby; a host has to admit you first.")
        code = state.code
        return Document(code.version, code.language, code.text, code.updates)

    found: Document = await read_state_as_participant(parts, call, view)
    return found


async def earlier(
    parts: HistoryParts, session_id: SessionId, principal: Principal, command: RestoreCode
) -> Mapping[str, object]:
    """Return the text of the version to restore, as a field of the `Caller`.

    Return {} if the caller may not edit: their request costs no read of the log. Raise Problem 404, 503."""

    def view(state: State) -> bool:
        return allowed(state, principal.user_id, "edit_code") and command.version <= state.code.version

    if not await read_state(parts, session_id, session_id, view):
        return {}
    if command.version == 0:
        return {"texts": {0: ""}}
    edit = await parts.records.edit(session_id, command.version)
    return {} if edit is None else {"texts": {command.version: edit.text}}


Version = Edit


class VersionsQuery(Struct, frozen=True, kw_only=True):
    """`before` selects the versions before this one."""

    before: Annotated[int, Meta(ge=1, lt=1 << 31)] = (1 << 31) - 1
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


async def versions(parts: HistoryParts, call: Call[object, VersionsQuery]) -> list[Edit]:
    """Return versions with their texts, latest first. The row has checked the caller's access."""
    query = call.query
    edits = await parts.records.edits(call.session_id, before=query.before, limit=query.limit)
    return await parts.records.with_texts(call.session_id, edits, TEXTS)
