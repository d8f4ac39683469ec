"""The products' own HTTP surfaces, one table module each.

**Law:** a module here says what a contract says: rows, shapes, words. It waits for nothing and keeps nothing.
"""

from server.api.dialect import Dialect
from server.dialects import interview, lesson, live, seeds, tutorium
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
