"""Encrypts the secrets of webhooks anew after the server's signing key has been changed."""

import logging

from server.security.secret_box import SecretBox, Unreadable
from storage.endpoints import Endpoints

logger = logging.getLogger(__name__)

PAGE = 500


async def reencrypt(endpoints: Endpoints, secret_box: SecretBox) -> None:
    """Encrypt all stored secrets with the present key. Secrets that no key decrypts stay as they are and are logged.

    Raise LogUnavailable if the database cannot be reached."""
    changed, unreadable, after = 0, 0, None
    while page := await endpoints.secrets(after, PAGE):
        for endpoint_id, secret, old_secret in page:
            renewed = renew(secret_box, secret, endpoint_id)
            # An old secret that cannot be decrypted is of no use, and none of the present one's business.
            old_renewed = old_secret and (renew(secret_box, old_secret, endpoint_id) or old_secret)
            if renewed is None:
                unreadable += 1
            elif (renewed, old_renewed) != (secret, old_secret):
                await endpoints.reencrypt(endpoint_id, secret, renewed, old_renewed)
                changed += 1
        after = page[-1][0]
    logger.warning("secrets of %d webhooks were encrypted with the present signing key", changed)
    if unreadable:
        logger.error("secrets of %d webhooks cannot be decrypted with any key: their owners have to rotate", unreadable)


def renew(secret_box: SecretBox, encrypted: bytes, endpoint_id: str) -> bytes | None:
    """Return the secret encrypted with the present key; the same bytes if it is already; None if no key decrypts it."""
    if secret_box.is_current(encrypted, endpoint_id):
        return encrypted
    try:
        return secret_box.encrypt(secret_box.decrypt(encrypted, endpoint_id), endpoint_id)
    except Unreadable:
        return None
