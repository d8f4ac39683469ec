"""The database, brought up: the one that the settings name, or an embedded one; with this version's schema."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from server.bootstrap.background import start_all
from server.settings.sections import BadSetting, Settings
from storage import embedded, migrate
from storage.embedded import Embedded
from storage.errors import StorageError, Unavailable

logger = logging.getLogger(__name__)

WATCH_S = 0.5


async def database(settings: Settings, stack: contextlib.AsyncExitStack, say: Callable[[str], None]) -> str:
    """Bring up the database and its schema; give its DSN. An embedded one stops when the stack is left.

    Raises: BadSetting, storage.errors.StorageError."""
    dsn = settings.database.dsn.reveal()
    if not dsn:
        directory = Path(settings.data.dir)
        say(f"starting PostgreSQL in {directory}")
        postgres = await asyncio.to_thread(embedded.start, directory)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        start_all(stack, {"looking after PostgreSQL": lambda: watching(postgres)})
        dsn = postgres.dsn
    try:
        applied = await asyncio.to_thread(migrate.apply, dsn)
    except Unavailable as error:
        if settings.database.dsn.reveal():
            raise BadSetting(f"the database that database.dsn names: {error}") from error
        raise
    for name in applied:
        say(f"applied migration {name}")
    return dsn


async def watching(postgres: Embedded) -> None:
    """Start the embedded PostgreSQL again when it ends by itself; everything else waits for it as for any restart."""
    while True:
        await asyncio.sleep(WATCH_S)
        if postgres.died:
            logger.error("PostgreSQL has ended by itself; starting it again")
            try:
                await asyncio.to_thread(postgres.revive)
            except StorageError:
                logger.exception("PostgreSQL did not start; trying again")
