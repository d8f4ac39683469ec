"""The products' own HTTP surfaces, one table module each.

**Law:** a module here says what a contract says: rows, shapes, words. It waits for nothing and keeps nothing.
"""

from server.config import Settings
from server.dialect import Dialect


def tables(settings: Settings) -> tuple[Dialect, ...]:
    """Give the dialects that the settings switch on."""
    return ()
