"""New ids: UUIDv7 (RFC 9562)."""

import uuid_utils


def new_id() -> str:
    """Return a new UUIDv7: later ids sort after earlier ones."""
    return str(uuid_utils.uuid7())
