"""The products' own HTTP surfaces, one table module each.

**Law:** a module here says what a contract says: rows, shapes, words. It waits for nothing and keeps nothing.
"""

from server.api.dialect import Dialect
from server.dialects.interview import table as interview
from server.dialects.lesson import table as lesson
from server.dialects.live import table as live
from server.dialects.seeds import table as seeds
from server.dialects.tutorium import table as tutorium
from server.settings.sections import Settings


def tables(settings: Settings) -> tuple[Dialect, ...]:
    """Give the dialects that the settings switch on."""
    chosen = settings.dialects
    known = (
        (chosen.tutorium, tutorium.table),
        (chosen.seeds, seeds.table),
        (chosen.lesson, lesson.table),
        (chosen.live, live.table),
        (chosen.interview, interview.table),
    )
    return tuple(table(settings) for on, table in known if on.enabled)
