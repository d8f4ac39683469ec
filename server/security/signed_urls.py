"""URLs that are their own credential: a signature over what they lead to and when they expire."""

import hashlib
import hmac
import time

from server.http.problems import Problem

PURPOSE = b"homeroom: signed URLs"


class UrlSigner:
    """Signs resources (a path, with what of its query is bound to it), and verifies."""

    def __init__(self, key: str, *, ttl_s: int) -> None:
        # A key of their own: a signature here is worth nothing as a token's, nor the other way round.
        self._key = hmac.digest(key.encode(), PURPOSE, "sha256")
        self._ttl_s = ttl_s

    def signature(self, resource: str, expires: int) -> str:
        return hmac.new(self._key, f"{expires} {resource}".encode(), hashlib.sha256).hexdigest()

    def expiry(self) -> int:
        """Give the unix time up to which what is signed now is good."""
        return int(time.time()) + self._ttl_s

    def signed(self, resource: str, expires: int) -> str:
        """Give a resource as a URL that needs nothing else."""
        joint = "&" if "?" in resource else "?"
        return f"{resource}{joint}expires={expires}&signature={self.signature(resource, expires)}"

    def verify(self, resource: str, expires: int | None, signature: str | None) -> None:
        """Raises: Problem 403."""
        made = self.signature(resource, expires or 0)
        if expires is None or signature is None or not hmac.compare_digest(made.encode(), signature.encode()):
            raise Problem(
                403, "bad_signature", "The URL is not as it was signed; ask for a new one.", field="signature"
            )
        if expires <= time.time():
            raise Problem(403, "expired", "The URL has expired; ask for a new one.", field="expires")
