"""The older products' HTTP APIs, one package each, none of which imports another.

A package has the same files: `table` (route rows), `bodies` (requests to commands), `views` (values to answers) and,
if the product has a stream, `stream` (events to frames). All are pure: they await nothing and keep no state.
"""

from server.api.dialect import Dialect
from server.dialects.interview import table as interview
from server.dialects.lesson import table as lesson
from server.dialects.live import table as live
from server.dialects.seeds import table as seeds
from server.dialects.tutorium import table as tutorium
from server.settings.sections import Settings


def tables(settings: Settings) -> tuple[Dialect, ...]:
    """Return the dialects that the settings enable."""
    chosen = settings.dialects
    known = (
        (chosen.tutorium, tutorium.table),
        (chosen.seeds, seeds.table),
        (chosen.lesson, lesson.table),
        (chosen.live, live.table),
        (chosen.interview, interview.table),
    )
    return tuple(table(settings) for on, table in known if on.enabled)
