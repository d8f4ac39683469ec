"""The directory: the session actors of this process. It starts them, restores them, and passivates idle ones.

**Law:** a session has at most one running actor. An actor that stops, for any reason, leaves the directory at once; the
next message starts another, which claims the session and restores it from the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from pykka import ActorRef

from actors.messages import (
    SYSTEM,
    Claimed,
    ClaimFailed,
    Execute,
    Fenced,
    Outcome,
    Passivate,
    ReadState,
    Subscribe,
    Unavailable,
)
from actors.ports import EventLog, LogUnavailable, SessionChannel
from actors.runtime import tell
from actors.session import commands as c
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId
from actors.session_actor import SessionActor
from actors.shared import Shared

logger = logging.getLogger(__name__)

MISSED_ROWS = 1_000
"""Rows read at once for a channel that is behind its restored session: those of the commits that were in flight."""
FENCED_TRIES = 3
RECOVERIES_AT_ONCE = 16
WAKE_EVERY_S = 5.0

Tell = Callable[[SessionId, Execute | ReadState | Subscribe], Unavailable | None]
"""`Directory.tell`, which each channel gets: it tells its session of users whose last stream has closed."""


class Directory:
    """All live sessions of this process."""

    def __init__(
        self,
        log: EventLog,
        *,
        channel: Callable[[SessionId, Tell], SessionChannel],
        release: Callable[[SessionId], None],
        shared: Shared,
        mailbox: int,
        passivate_after_s: float,
        wake_every_s: float = WAKE_EVERY_S,
    ) -> None:
        self._log = log
        self._channel = channel
        self._release = release
        self._shared = shared
        self._on_stop = self._stopped
        self._mailbox = mailbox
        self._passivate_after_s = passivate_after_s
        self._wake_every_s = wake_every_s
        self._actors: dict[SessionId, SessionActor] = {}
        self._reviving: set[SessionId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._actors)

    @property
    def settled(self) -> bool:
        """Whether no session is being restored or revived."""
        return not (self._reviving or self._tasks)

    def __contains__(self, session_id: SessionId) -> bool:
        return session_id in self._actors

    def __iter__(self) -> Iterator[SessionActor]:
        return iter(self._actors.values())

    async def ask(self, session_id: SessionId, message: Execute | ReadState | Subscribe) -> Outcome:
        """Send a message to a session and return its outcome. Send it again if the actor was fenced."""
        loop = asyncio.get_running_loop()
        for _ in range(FENCED_TRIES):
            message.reply = reply = loop.create_future()
            refusal = self.tell(session_id, message)
            outcome = refusal or await reply
            if not isinstance(outcome, Fenced):
                return outcome
            if isinstance(message, Execute) and message.key is not None:
                used = await self._log.find_key(session_id, message.by.user_id, message.key.key)
                if used is not None:
                    return message.key.outcome(used)
        return Unavailable("the session is moving to another server")

    def tell(self, session_id: SessionId, message: Execute | ReadState | Subscribe) -> Unavailable | None:
        """Send a message to a session, and start its actor if necessary. Return why it is not accepted now, if so."""
        if self._draining:
            return Unavailable("the server is shutting down", retry_s=2.0)
        actor = self._actors.get(session_id) or self._start(session_id)
        if actor.backlog >= self._mailbox:
            return Unavailable(f"{self._mailbox} commands are waiting in this session", busy=True)
        actor.actor_ref.tell(message)
        return None

    def _start(self, session_id: SessionId) -> SessionActor:
        channel = self._channel(session_id, self.tell)
        actor = SessionActor(session_id, channel, self._shared, self._on_stop).begin()
        self._actors[session_id] = actor
        self.spawn(self._restore(actor.actor_ref, session_id, channel))
        return actor

    async def _restore(self, actor: ActorRef[SessionActor], session_id: SessionId, channel: SessionChannel) -> None:
        try:
            claim = await self._log.claim(session_id)
            missed: list[Recorded] = []
            while claim is not None and channel.last_seq:
                after = missed[-1].seq if missed else channel.last_seq
                rows = await self._log.read(session_id, after, MISSED_ROWS)
                missed += rows
                if len(rows) < MISSED_ROWS:
                    break
        except LogUnavailable as error:
            # The reason is for the server's log only: it may name the database, and the caller sees the answer.
            logger.warning("session %s cannot be restored: %s", session_id, error)
            tell(actor, ClaimFailed("the log cannot be reached"))
        except Exception:
            logger.exception("restoring session %s failed", session_id)
            tell(actor, ClaimFailed("this session could not be restored"))
        else:
            tell(actor, Claimed(claim, missed))

    def _stopped(self, actor: SessionActor) -> None:
        if self._actors.get(actor.session_id) is actor:
            del self._actors[actor.session_id]
            if actor.channel.users() and not self._draining:
                # Its open streams must not have to wait for the next command to see the session again.
                if actor.session_id not in self._reviving:
                    self._reviving.add(actor.session_id)
                    self.spawn(self._revive(actor.session_id))
            else:
                self._release(actor.session_id)

    async def _revive(self, session_id: SessionId) -> None:
        delay = 0.05
        try:
            while (
                not self._draining and session_id not in self._actors and self._channel(session_id, self.tell).users()
            ):
                outcome = await self.ask(session_id, Execute(c.Tick(), SYSTEM))
                if not isinstance(outcome, Unavailable) and session_id in self._actors:
                    return
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
        finally:
            self._reviving.discard(session_id)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run background work that `drain` waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Time

    async def run(self) -> None:
        """Recover the sessions of servers that stopped, and wake due and passivate idle sessions, until cancelled."""
        while True:
            # Repeatedly: for some seconds, a server that has just been killed still counts as alive.
            await self._attempt(self._recover)
            await self._attempt(self.wake_due)
            await asyncio.sleep(self._wake_every_s)
            self._passivate()

    async def _attempt(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except LogUnavailable as error:
            logger.warning("the log cannot be reached, trying again: %s", error)
        except Exception:
            logger.exception("maintenance of sessions failed, trying again")

    async def _recover(self) -> None:
        """Wake the sessions that were in use when their server stopped, so that their grace times and ends are kept."""
        await self._tick_all(await self._log.interrupted())

    async def wake_due(self) -> None:
        """Wake sessions that are due before the next round. Their own timers then keep the exact moment."""
        soon = Millis(self._shared.clock() + round(WAKE_EVERY_S * 1000))
        await self._tick_all(await self._log.due(soon, 1_000))

    async def _tick_all(self, session_ids: list[SessionId]) -> None:
        waiting = [session_id for session_id in session_ids if session_id not in self._actors]
        for first in range(0, len(waiting), RECOVERIES_AT_ONCE):
            some = waiting[first : first + RECOVERIES_AT_ONCE]
            await asyncio.gather(*(self.ask(session_id, Execute(c.Tick(), SYSTEM)) for session_id in some))

    def _passivate(self) -> None:
        idle_since = time.monotonic() - self._passivate_after_s
        for actor in list(self._actors.values()):
            if actor.active_at <= idle_since and actor.idle:
                tell(actor.actor_ref, Passivate(idle_since))

    async def drain(self) -> None:
        """Refuse messages from now on, and let every session leave memory with a snapshot.

        Call it when nothing is in flight: a session that still has a commit to wait for stays."""
        self._draining = True
        for actor in list(self._actors.values()):
            tell(actor.actor_ref, Passivate(float("inf")))
        while self._tasks:
            await asyncio.wait(self._tasks)
