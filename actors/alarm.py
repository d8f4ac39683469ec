"""The timer of one session: it tells the actor `Wake` at the machine's next deadline. At most one is set at a time."""

import asyncio
from typing import Any

from pykka import ActorRef

from actors.messages import Wake
from actors.runtime import tell
from actors.session.ids import Millis


class Alarm:
    """Wakes one actor, whose reference it holds only while it is set."""

    __slots__ = ("_timer", "due")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self.due: Millis | None = None
        """When it rings; None: it is not set."""

    def set(self, due: Millis | None, now: Millis, actor: ActorRef[Any]) -> None:
        """Ring at `due` instead of at any earlier setting; at once if that is past, never if it is None."""
        self.cancel()
        self.due = due
        if due is not None:
            delay_s = max(0, due - now) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, tell, actor, Wake())

    def cancel(self) -> None:
        """Do not ring. Also call this when it has rung, so that the same moment can be set again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.due = None
