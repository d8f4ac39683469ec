"""Stored secrets: who can read them, with which keys, and in which formats."""

import hmac
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from server.security.secret_box import SecretBox, Unreadable

KEY, EARLIER, EARLIEST = ("a signing key of thirty-two bytes " + name for name in ("now", "before", "at first"))
owners = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def as_before_fernet(key: str, secret: bytes, owner: str) -> bytes:
    """Encrypt a secret as versions before Fernet stored it."""
    nonce = os.urandom(12)
    cipher = AESGCM(hmac.digest(key.encode(), b"homeroom: secrets of webhooks", "sha256"))
    return nonce + cipher.encrypt(nonce, secret, owner.encode())


@given(secret=st.binary(max_size=100), owner=owners)
def test_a_secret_is_read_with_the_key_it_was_encrypted_with(secret: bytes, owner: str) -> None:
    box = SecretBox(KEY)
    encrypted = box.encrypt(secret, owner)
    assert box.decrypt(encrypted, owner) == secret
    assert box.is_current(encrypted, owner)
    assert len(secret) < 8 or secret not in encrypted


@given(secret=st.binary(max_size=100), owner=owners, other=owners)
def test_nothing_but_its_owner_and_its_key_reads_it(secret: bytes, owner: str, other: str) -> None:
    for encrypted in (SecretBox(KEY).encrypt(secret, owner), as_before_fernet(KEY, secret, owner)):
        with pytest.raises(Unreadable):
            SecretBox(EARLIER, [EARLIEST]).decrypt(encrypted, owner)
        if other != owner:
            with pytest.raises(Unreadable):
                SecretBox(KEY).decrypt(encrypted, other)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_secret_are_unreadable(stored: bytes) -> None:
    with pytest.raises(Unreadable):
        SecretBox(KEY, [EARLIER]).decrypt(stored, "an endpoint")


@given(secret=st.binary(max_size=100), owner=owners, key=st.sampled_from([KEY, EARLIER, EARLIEST]))
def test_earlier_keys_and_the_earlier_format_stay_readable(secret: bytes, owner: str, key: str) -> None:
    box = SecretBox(KEY, [EARLIER, EARLIEST])
    by_fernet, before = SecretBox(key).encrypt(secret, owner), as_before_fernet(key, secret, owner)
    assert box.decrypt(by_fernet, owner) == box.decrypt(before, owner) == secret
    assert box.is_current(by_fernet, owner) == (key == KEY)
    assert not box.is_current(before, owner)


def test_new_secrets_are_encrypted_with_the_present_key() -> None:
    encrypted = SecretBox(KEY, [EARLIER]).encrypt(b"secret", "an endpoint")
    assert SecretBox(KEY).decrypt(encrypted, "an endpoint") == b"secret"


def test_a_stored_value_of_an_earlier_version_is_read() -> None:
    # Written by the version before Fernet, with this key.
    stored = bytes.fromhex(
        "0bad49f7e023862f940193a1e81e20fe09d18ca3b13ec1d2c5b1f9cf47db5d77dbebd6eedc501d43dec5a53a231d611bb157a9"
    )
    assert SecretBox("an old signing key of thirty-two bytes").decrypt(stored, "0199a1b2") == b"the secret of a webhook"
