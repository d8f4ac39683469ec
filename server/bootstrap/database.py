"""The database of the settings, or an embedded one, with the schema of this version."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from server.bootstrap.background import start_all
from server.settings.sections import BadSetting, Settings
from storage import migrate
from storage.embedded import server as embedded
from storage.embedded.server import Embedded
from storage.errors import DatabaseUnavailable, StorageError

logger = logging.getLogger(__name__)

WATCH_S = 0.5


async def open_database(settings: Settings, stack: contextlib.AsyncExitStack, say: Callable[[str], None]) -> str:
    """Start the database if it is embedded, apply migrations, and return the DSN. It stops when the stack is left.

    Raise BadSetting if the database of the settings cannot be reached, StorageError for other failures."""
    dsn = settings.database.dsn.reveal()
    if not dsn:
        directory = Path(settings.data.dir)
        say(f"starting PostgreSQL in {directory}")
        postgres = await asyncio.to_thread(embedded.start, directory)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        start_all(stack, {"supervising PostgreSQL": lambda: supervise(postgres)})
        dsn = postgres.dsn
    try:
        applied = await asyncio.to_thread(migrate.apply, dsn)
    except DatabaseUnavailable as error:
        if settings.database.dsn.reveal():
            raise BadSetting(f"the database that database.dsn names: {error}") from error
        raise
    for name in applied:
        say(f"applied migration {name}")
    return dsn


async def supervise(postgres: Embedded) -> None:
    """Restart the embedded PostgreSQL if it ends unexpectedly. To all other parts this is an ordinary restart."""
    while True:
        await asyncio.sleep(WATCH_S)
        if postgres.died:
            logger.error("PostgreSQL has ended unexpectedly; starting it again")
            try:
                await asyncio.to_thread(postgres.revive)
            except StorageError:
                logger.exception("PostgreSQL did not start; trying again")
