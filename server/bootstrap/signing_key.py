"""The key that signs tokens, and from which others are derived: given, or made at the first start and kept."""

import os
import secrets
from pathlib import Path

from server.settings.sections import BadSetting, Settings


def signing_key(settings: Settings) -> str:
    """Give the key that signs tokens: the settings' own, or one that is made once and kept beside the data."""
    if settings.auth.signing_key:
        return settings.auth.signing_key.reveal()
    path = Path(settings.data.dir) / "signing.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    except OSError as error:
        raise BadSetting(f"data.dir = {settings.data.dir!r}: the signing key cannot be kept there: {error}") from error
    key = path.read_text().strip()
    if len(key) < 32:
        raise BadSetting(f"{path} holds no key; delete it to have a new one made, which logs everybody out")
    return key
