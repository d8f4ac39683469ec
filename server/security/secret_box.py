"""Secrets that the database stores for users, encrypted: reading the database or a backup does not reveal them.

**Law:** a secret can be decrypted only for the owner that it was encrypted for. New secrets are encrypted with the
present key; earlier keys only decrypt.
"""

import base64
import hmac
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"homeroom: secret of a webhook\0"
AES_GCM_PURPOSE = b"homeroom: secrets of webhooks"
AES_GCM_NONCE_BYTES = 12


class Unreadable(Exception):
    """The secret was encrypted with an unknown key, or for another owner."""


class SecretBox:
    """Encrypts with Fernet, under a key that is derived from a signing key and the owner's id.

    `earlier_keys` are signing keys that were used before `key`. See ADR 33 for the format of versions before Fernet."""

    def __init__(self, key: str, earlier_keys: Sequence[str] = ()) -> None:
        self._keys = [each.encode() for each in (key, *earlier_keys)]

    def encrypt(self, secret: bytes, owner: str) -> bytes:
        """Encrypt a secret so that only `decrypt` with the same owner returns it."""
        return self._fernet(owner).encrypt(secret)

    def decrypt(self, encrypted: bytes, owner: str) -> bytes:
        """Return the secret. Raise Unreadable if no key fits, or if it is another owner's."""
        try:
            return self._fernet(owner).decrypt(encrypted)
        except InvalidToken:
            return self._decrypt_aes_gcm(encrypted, owner)

    def is_current(self, encrypted: bytes, owner: str) -> bool:
        """Return whether the present key alone decrypts this, in the present format."""
        try:
            fernet_of(self._keys[0], owner).decrypt(encrypted)
        except InvalidToken:
            return False
        return True

    def _fernet(self, owner: str) -> MultiFernet:
        return MultiFernet([fernet_of(key, owner) for key in self._keys])

    def _decrypt_aes_gcm(self, encrypted: bytes, owner: str) -> bytes:
        nonce, ciphertext = encrypted[:AES_GCM_NONCE_BYTES], encrypted[AES_GCM_NONCE_BYTES:]
        for key in self._keys:
            cipher = AESGCM(hmac.digest(key, AES_GCM_PURPOSE, "sha256"))
            try:
                return cipher.decrypt(nonce, ciphertext, owner.encode())
            except (InvalidTag, ValueError):
                continue
        raise Unreadable(f"the secret of {owner} was encrypted with another key")


def fernet_of(key: bytes, owner: str) -> Fernet:
    """Return the cipher of one owner's secrets."""
    # Fernet has no associated data, so the key itself depends on the owner.
    return Fernet(base64.urlsafe_b64encode(hmac.digest(key, PURPOSE + owner.encode(), "sha256")))
