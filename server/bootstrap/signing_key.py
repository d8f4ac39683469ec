"""The key that signs tokens, and from which other keys are derived: set, or generated at the first start and stored."""

import os
import secrets
from pathlib import Path

from server.settings.sections import BadSetting, Settings


def signing_key(settings: Settings) -> str:
    """Return the key of the settings, or the one in the data directory, which is generated if it does not exist.

    Raise BadSetting if it can be neither read nor written."""
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
        where = f"data.dir = {settings.data.dir!r}"
        raise BadSetting(f"{where}: the signing key cannot be stored there: {error}") from error
    key = path.read_text().strip()
    if len(key) < 32:
        raise BadSetting(f"{path} contains no key. Delete it to have a new one generated, which logs everyone out")
    return key
