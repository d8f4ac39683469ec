"""Signed URLs, which need no other credential: a signature over the resource and the time of expiry."""

import hashlib
import hmac
import time

from server.http.problems import Problem

PURPOSE = b"homeroom: signed URLs"


class UrlSigner:
    """Signs and verifies resources: paths, with those parameters of the query that the signature must cover."""

    def __init__(self, key: str, *, ttl_s: int) -> None:
        # A derived key: a signature of a URL must not be valid as one of a token, nor the reverse.
        self._key = hmac.digest(key.encode(), PURPOSE, "sha256")
        self._ttl_s = ttl_s

    def signature(self, resource: str, expires: int) -> str:
        """Return the signature of a resource that expires at a Unix time, in hexadecimal."""
        return hmac.new(self._key, f"{expires} {resource}".encode(), hashlib.sha256).hexdigest()

    def expiry(self) -> int:
        """Return the Unix time at which a URL signed now expires."""
        return int(time.time()) + self._ttl_s

    def signed(self, resource: str, expires: int) -> str:
        """Return a resource with its expiry and signature as parameters."""
        separator = "&" if "?" in resource else "?"
        return f"{resource}{separator}expires={expires}&signature={self.signature(resource, expires)}"

    def verify(self, resource: str, expires: int | None, signature: str | None) -> None:
        """Raise Problem 403 if the signature is missing or wrong, or has expired."""
        expected = self.signature(resource, expires or 0)
        if expires is None or signature is None or not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Problem(
                403, "bad_signature", "The signature does not fit this URL. Ask for a new one.", field="signature"
            )
        if expires <= time.time():
            raise Problem(403, "expired", "The URL has expired. Ask for a new one.", field="expires")
