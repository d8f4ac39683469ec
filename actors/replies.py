"""Replies to those who wait for a session actor."""

import logging
from collections.abc import Iterable

from actors.messages import Outcome, ReplyFuture

logger = logging.getLogger(__name__)


def settle(replies: Iterable[tuple[ReplyFuture, Outcome]]) -> None:
    """Set the outcome of each reply. Log failures and continue: the others still get their replies."""
    for reply, outcome in replies:
        try:
            if not reply.done():
                reply.set_result(outcome)
        except Exception:
            logger.exception("setting the reply %s failed", type(outcome).__name__)
