"""Secrets that the database keeps for others: whoever reads the database, or a backup of it, does not read them."""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"homeroom: secrets of webhooks"
NONCE_BYTES = 12


class Unreadable(Exception):
    """Sealed with another key, or for something else."""


class SecretBox:
    """AES-256-GCM, with a key made of the server's signing key."""

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(hmac.digest(key.encode(), PURPOSE, "sha256"))

    def encrypt(self, secret: bytes, of: str) -> bytes:
        """Seal a secret; `of` names what it belongs to, and it can be opened for nothing else."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, of.encode())

    def decrypt(self, sealed: bytes, of: str) -> bytes:
        """Raises: Unreadable."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], of.encode())
        except (InvalidTag, ValueError) as error:
            raise Unreadable(f"the secret of {of} was sealed with another key") from error
