"""New ids: UUIDv7 (RFC 9562)."""

import uuid_utils


def new_id() -> str:
    """Make a UUIDv7."""
    return str(uuid_utils.uuid7())
