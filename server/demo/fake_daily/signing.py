"""How Daily signs what it tells."""

import base64
import hmac
import time
import uuid
from typing import Any

import msgspec

SECRET = base64.b64encode(b"a secret of the fake Daily's own").decode()


def envelope(type: str, payload: Any, *, event_id: str | None = None) -> bytes:
    """Put an event into its envelope, as Daily sends it."""
    return msgspec.json.encode(
        {"version": "1.0.0", "type": type, "id": event_id or str(uuid.uuid4()), "payload": payload,
         "event_ts": time.time()}
    )  # fmt: skip


def signed(secret: str, body: bytes, stamp: str | None = None) -> dict[str, str]:
    """Give the headers of a webhook: its time, and the signature over that and the body."""
    stamp = stamp or str(int(time.time()))
    mac = hmac.digest(base64.b64decode(secret), stamp.encode() + b"." + body, "sha256")
    return {
        "Content-Type": "application/json",
        "X-Webhook-Timestamp": stamp,
        "X-Webhook-Signature": base64.b64encode(mac).decode(),
    }
