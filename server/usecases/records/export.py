"""The whole log of a session, line by line."""

import contextlib
from collections.abc import AsyncGenerator, Callable

from msgspec import Struct

from actors.session.access import Ask
from actors.session.ids import Millis
from actors.session.state import Session
from actors.session.visibility import VisibleEvent, event_in_log
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.usecases.call import Call, Download
from server.usecases.records.access_recheck import periodic_recheck
from server.usecases.session_access import HistoryParts, require_membership


class Export(Struct, frozen=True):
    """What an API prints of an export: a line about the session, and one per row."""

    head: Callable[[Session, int, Millis], bytes]
    row: Callable[[VisibleEvent], bytes]


@refuses(kicked=403, not_joined=403, not_permitted=403, unknown_session=404)
async def export(parts: HistoryParts, call: Call, lines: Export) -> Download:
    """Give the whole log as it is now, line by line."""
    ref, session_id, viewer = call.params["ref"], call.session_id, call.principal.user_id
    session = call.card.session
    upto = await parts.records.last_seq(session_id)
    checked = periodic_recheck(lambda: require_membership(parts, Ask.MODERATION, session_id, call.principal, ref))

    async def body() -> AsyncGenerator[bytes, None]:
        yield lines.head(session, upto, now_millis())
        async with contextlib.aclosing(parts.records.parts(session_id, upto=upto)) as batches:
            async for rows in batches:
                yield b"".join([lines.row(event_in_log(row, viewer)) for row in rows])
                await checked()

    return Download(f"{session.name}.ndjson", "application/x-ndjson", body(), call.principal)
