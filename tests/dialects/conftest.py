"""The fixtures of the server's tests serve here too."""

from tests.server.conftest import data, pytest_asyncio_loop_factories, town, town_dsn

__all__ = ["data", "pytest_asyncio_loop_factories", "town", "town_dsn"]
