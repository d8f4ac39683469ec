"""Others read names and titles: each has a visible character, and none that changes how the text around it reads."""

from collections.abc import Iterator

import msgspec
import pytest

from server.api.routes import Api
from server.dialects import tables
from server.settings.sections import Settings
from server.v1.table import API

HIDDEN = [" ", "\u3000", "\u200b", "\u00ad", "\ufeff", "\u2060", "\u3164", "\u115f", "\uffa0", "\u2800", "\u180e",
          "\u200d\u200d", "\ufe0f", "\U000e0041", "\u034f", " \u200b "]  # fmt: skip
HARMFUL = ["a\0", "a\n", "a\tb", "\x1b[31ma", "a\x7f", "a\u0085", "a\u2028b", "a\u2029", "\u202eevil",
           "a\u2066b", "a\u200fb", "a\u061cb", "a\ufffeb", "a\x9bb"]  # fmt: skip
FINE = ["A", "Zoë", "O'Brien-Smith", "李雷", "Ⅷ", "प्रिया", "مريم", "שרה", "👩‍🏫 Ann", "می‌خواهم", "a b", "7", "❤️"]
SHOWN_TO_OTHERS = {"name", "title", "display_name"}


def fields() -> Iterator[tuple[str, type]]:
    """Return the type of every field with a visible name or title, in every API."""
    apis: tuple[Api, ...] = (API, *tables(Settings()))
    for api in apis:
        for row in api.rows:
            body = row.body if row.body is not None else getattr(row, "form", None)
            if isinstance(body, type) and issubclass(body, msgspec.Struct):
                for field in msgspec.structs.fields(body):
                    if field.name in SHOWN_TO_OTHERS:
                        yield f"{row.method} {api.prefix}{row.path} {field.encode_name}", field.type


FIELDS = dict(fields())


def accepts(kind: type, text: str) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("field", FIELDS)
def test_names_that_are_invisible_or_change_text_direction_are_refused(field: str) -> None:
    assert [text for text in HIDDEN + HARMFUL if accepts(FIELDS[field], text)] == []


@pytest.mark.parametrize("field", [field for field in FIELDS if accepts(FIELDS[field], "A b")])
def test_names_in_every_script_are_accepted(field: str) -> None:
    assert [text for text in FINE if not accepts(FIELDS[field], text)] == []
