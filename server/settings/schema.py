"""The sections of `config.toml`, derived from the types in `sections`: their names and their settings."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo

from server.settings.sections import Settings

ANY = "*"
"""Stands for the freely chosen part of a section's name: `auth.issuers.*`."""


def section_of(field: FieldInfo) -> tuple[str, type[Struct]] | None:
    """Return the name and the type of the section that a field is; None if the field is a setting."""
    match inspect.type_info(field.type):
        case inspect.StructType(cls=struct):
            return field.name, struct
        case inspect.DictType(value_type=inspect.StructType(cls=struct)):
            return f"{field.name}.{ANY}", struct
    return None


def _sections(struct: type[Struct], name: str) -> Iterable[tuple[str, type[Struct]]]:
    yield name, struct
    for field in msgspec.structs.fields(struct):
        if (within := section_of(field)) is not None:
            yield from _sections(within[1], f"{name}.{within[0]}" if name else within[0])


SHAPES: Mapping[str, type[Struct]] = dict(_sections(Settings, ""))
"""All sections by their dotted names, including the document itself ("") and groups of sections such as `dialects`."""
FIELDS: Mapping[tuple[str, str], FieldInfo] = {
    (section, field.name): field
    for section, struct in SHAPES.items()
    for field in msgspec.structs.fields(struct)
    if section_of(field) is None
}
SECTIONS = tuple(dict.fromkeys(section for section, _ in FIELDS))
FROM_FILE = {
    ("auth", "signing_key"): "signing_key_file",
    ("auth", "earlier_signing_keys"): "earlier_signing_keys_file",
    ("auth.issuers.*", "secret"): "secret_file",
    ("database", "dsn"): "dsn_file",
    ("blobs", "s3_access_key"): "s3_access_key_file",
    ("blobs", "s3_secret_key"): "s3_secret_key_file",
    ("rooms", "daily_api_key"): "daily_api_key_file",
    ("rooms", "daily_webhook_secret"): "daily_webhook_secret_file",
}
