"""The code of a session: the document with what merging clients begin with, and earlier versions to bring back."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from actors.session.commands import RestoreCode
from actors.session.ids import SessionId
from actors.session.permissions import allowed
from actors.session.state import State
from actors.session_actor import Look, Snapshot
from server.actions import look
from server.auth import Principal
from server.errors import Problem
from server.routes import Call
from server.services import Services


class Document(Struct, frozen=True):
    """`updates`: Yjs updates, base64; applied in this order they give the text. [] until somebody merges."""

    version: int
    language: str
    text: str
    updates: list[str]


async def document(services: Services, call: Call) -> Document:
    """Read the code as it is now."""
    viewer = call.principal.user_id

    def view(state: State) -> Document | None:
        place, code = state.participants.get(viewer), state.code
        waiting = place is not None and place.status == "waiting"
        return None if waiting else Document(code.version, code.language, code.text, code.updates)

    found: Document | None = await look(services, call, view)
    if found is None:
        raise Problem(403, "waiting", "You are in the lobby; a host has to admit you first.")
    return found


async def earlier(
    services: Services, session_id: SessionId, principal: Principal, command: RestoreCode
) -> Mapping[str, object]:
    """Rebuild the version to bring back, for one who may edit: for others no log is read."""

    def view(state: State) -> bool:
        return allowed(state, principal.user_id, "edit_code") and command.version <= state.code.version

    outcome = await services.directory.ask(session_id, Look(view, asyncio.get_running_loop().create_future()))
    if not (isinstance(outcome, Snapshot) and outcome.value):
        return {}
    if command.version == 0:
        return {"texts": {0: ""}}
    edit = await services.records.edit(session_id, command.version)
    return {} if edit is None else {"texts": {command.version: edit.text}}
