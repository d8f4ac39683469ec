"""The export of a session: its whole log, one line per event. Access is checked again while the export is sent."""

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
    """The lines that an API prints of an export: one about the session, and one per event."""

    head: Callable[[Session, int, Millis], bytes]
    row: Callable[[VisibleEvent], bytes]


@refuses(kicked=403, not_joined=403, not_permitted=403, unknown_session=404)
async def export(parts: HistoryParts, call: Call, lines: Export) -> Download:
    """Return the log up to its present end as a download. The download raises SlotRevoked when the caller loses
    access."""
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
