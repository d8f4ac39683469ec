"""Opening the database: a failure names the setting that the operator can change."""

import contextlib
import traceback

import pytest

from server.bootstrap.database import open_database
from server.settings.loader import load
from server.settings.sections import BadSetting


async def test_a_database_that_cannot_be_reached_is_named_by_its_setting() -> None:
    settings = load(None, {}, {"database.dsn": "postgresql://127.0.0.1:1/nowhere"})
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(BadSetting, match=r"database\.dsn.*Connection refused"):
            await open_database(settings, stack, lambda text: None)


async def test_an_invalid_dsn_is_not_quoted_in_the_message() -> None:
    """It may contain a password."""
    settings = load(None, {}, {"database.dsn": "postgresql//homeroom:secret@127.0.0.1/homeroom"})
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(BadSetting, match=r"database\.dsn names: this is not a DSN") as refused:
            await open_database(settings, stack, lambda text: None)
    assert "secret" not in "".join(traceback.format_exception(refused.value))
