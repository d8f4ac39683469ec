"""Commands that use the database without running the server."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

import msgspec

from actors.session import replay_pacing
from actors.session.event_rules import ends_streams
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId
from server.bootstrap.database import open_database
from server.bootstrap.signing_key import signing_key
from server.http.timestamps import rfc3339
from server.http.uuids import new_id
from server.security.tokens import Tokens
from server.settings.sections import Settings
from server.v1.frames import event_fields
from storage.log.history import Records
from storage.pool import Pool
from storage.sessions import UUID, Sessions
from storage.users import Users

FOLLOW_S = 0.5


@contextlib.asynccontextmanager
async def open_pool(settings: Settings, say: Callable[[str], None]) -> AsyncIterator[Pool]:
    async with contextlib.AsyncExitStack() as stack:
        dsn = await open_database(settings, stack, say)
        yield await stack.enter_async_context(await Pool.open(dsn, size=2))


def to_stderr(text: str) -> None:
    """Print a line for the operator beside the command's output."""
    print(f"homeroom: {text}", file=sys.stderr)


async def migrate(settings: Settings, say: Callable[[str], None]) -> int:
    """Apply migrations."""
    async with open_pool(settings, say):
        say("the database is up to date")
    return 0


async def token(settings: Settings, user: str, ttl_s: int) -> int:
    """Print an access token for the account with this id or email address."""
    async with open_pool(settings, to_stderr) as pool:
        users = Users(pool)
        is_id = UUID.fullmatch(user) is not None
        found = await (users.find(user) if is_id else users.find_login(email=user.lower()))  # type: ignore[arg-type]
        if found is None:
            to_stderr(f"There is no account {user!r}.")
            return 1
        auth = settings.auth
        tokens = Tokens(signing_key(settings), issuer=auth.issuer, audience=auth.audience, ttl_s=ttl_s)
        print(tokens.issue(found, new_id()))
    return 0


async def replay(
    settings: Settings, ref: str, *, first: int = 1, speed: float | None = None, follow: bool = False
) -> int:
    """Print a session's timeline, one line per event: at once, or at its original pace times `speed`."""
    async with open_pool(settings, to_stderr) as pool:
        known = await Sessions(pool).resolve(ref)
        if known is None:
            to_stderr(f"There is no session {ref!r}.")
            return 1
        before: Millis | None = None
        async for row in timeline(Records(pool), known[0], first - 1, follow):
            if speed is not None and before is not None:
                wait, shortened = replay_pacing.pause(before, row.at, speed=speed, gaps=False)
                if shortened:
                    print(f"{'':>6}  … {(row.at - before) / 1000:.0f} s of silence", flush=True)
                await asyncio.sleep(wait)
            before = row.at
            details = event_fields(row.event)
            kind = details.pop("type")
            text = msgspec.json.encode(details).decode()
            print(
                f"{row.seq:>6}  {rfc3339(row.at)}  {kind:<22} {row.actor_id or '-':<36}  {text}",
                flush=speed is not None or follow,
            )
    return 0


async def timeline(records: Records, session_id: SessionId, after: int, follow: bool) -> AsyncIterator[Recorded]:
    """Yield the rows after a number; with `follow` also new ones, until the session ends."""
    over = False
    while True:
        upto = await records.last_seq(session_id)
        async for rows in records.parts(session_id, after=after, upto=upto):
            for row in rows:
                over = over or ends_streams(row.event)
                yield row
            after = rows[-1].seq
        if over or not follow:
            return
        await asyncio.sleep(FOLLOW_S)
