"""`Retry-After` as other servers send it: seconds, a date, or nothing that makes sense."""

import time
from email.utils import formatdate

import pytest

from server.http.client_responses import MAX_WAIT_S, retry_after_s


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "soon", "-1", "1.5", "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "0" * 5_000 + "x",
        "Mon, 99 Jan 2026 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999", "\u0661",
    ],
)  # fmt: skip
def test_an_invalid_retry_after_is_ignored(text: str) -> None:
    assert retry_after_s({"Retry-After": text}) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s({"Retry-After": " 7 "}) == 7
    assert retry_after_s({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(60, abs=2)
    assert retry_after_s({"Retry-After": formatdate(0, usegmt=True)}) == 0


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5_000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_is_bounded(text: str) -> None:
    assert retry_after_s({"Retry-After": text}) == MAX_WAIT_S
