"""Actors that run on the event loop: pykka's actors without a thread each.

**Law:** an actor handles its messages one at a time, in the order they were sent, all on one loop. The first message in
an empty inbox schedules a drain; messages that arrive during a drain wait for the next. Nothing here ever blocks.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import pykka
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

logger = logging.getLogger(__name__)

A = TypeVar("A", bound=pykka.Actor)


class LoopInbox:
    """A queue that wakes its actor. Senders check its length first, which bounds it."""

    __slots__ = ("__weakref__", "_drain", "_envelopes", "awake", "loop")

    def __init__(self) -> None:
        # A list: an empty deque takes 700 bytes in every actor. A mailbox is bounded, so popping the first is cheap.
        self._envelopes: list[Any] = []
        self.awake = True
        """No drain needs to be scheduled: one is, or the actor has not started or has stopped."""

    def bind(self, drain: Callable[[], None]) -> None:
        """Schedule `drain` on the running loop whenever there are messages."""
        self.loop = asyncio.get_running_loop()
        self._drain = drain
        self.awake = False
        if self._envelopes:
            self.put(self._envelopes.pop())

    def unbind(self) -> None:
        """Schedule nothing more."""
        self.awake = True
        # Otherwise inbox and actor refer to each other, and the actor's memory waits for a full garbage collection:
        # after hours, and at a gigabyte.
        self._drain = _nothing

    def put(self, envelope: Any) -> None:
        """Add a message in its envelope."""
        self._envelopes.append(envelope)
        if not self.awake:
            self.awake = True
            # In an empty context: an actor works for many callers, not for the one whose message wakes it.
            self.loop.call_soon(self._drain, context=Context())

    def get(self) -> Any:
        """Remove and return the oldest envelope."""
        return self._envelopes.pop(0)

    def empty(self) -> bool:
        """Return whether there is no message."""
        return not self._envelopes

    def __len__(self) -> int:
        return len(self._envelopes)


def _nothing() -> None:
    pass


class Stopped:
    """Whether an actor has stopped, as pykka asks for it. A `threading.Event` would take 1.2 KB in every actor."""

    __slots__ = ("stopped",)

    def __init__(self) -> None:
        self.stopped = False

    def is_set(self) -> bool:
        """Return whether the actor has stopped."""
        return self.stopped

    def set(self) -> None:
        """Record that the actor has stopped."""
        self.stopped = True


class LoopRef(pykka.ActorRef[A]):
    """A reference with a short `tell`, which every command needs three times."""

    actor_stopped: Stopped  # type: ignore[assignment]

    def tell(self, message: Any) -> None:
        """Send a message. Raise ActorDeadError if the actor has stopped."""
        if self.actor_stopped.stopped:
            raise pykka.ActorDeadError(f"{self} not found")
        self.actor_inbox.put(Envelope(message))


def tell(actor: pykka.ActorRef[Any], message: object) -> None:
    """Send a message to an actor, or drop it if the actor has stopped."""
    try:
        actor.tell(message)
    except pykka.ActorDeadError:
        logger.debug("%s came after its actor had stopped", type(message).__name__)


class LoopScheduler:
    """Runs work of all actors that may wait a little: a quarter of it in each iteration of the loop.

    In between, the loop handles input, most of all the end of a commit, so that the database has its next commit while
    the work goes on. A quarter, because a longer queue must drain faster, or a backlog would grow."""

    __slots__ = ("_due", "_loop", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._due = False

    def add(self, work: Callable[[], None]) -> None:
        """Run work soon, after the work that was added before."""
        self._waiting.append(work)
        if not self._due:
            self._due = True
            self._loop.call_soon(self._run)

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        """Run work after a delay, before any work that is waiting then."""
        self._loop.call_later(delay_s, work)

    @staticmethod
    def time() -> float:
        """Return seconds on a clock that advances while a callback runs, unlike the clock of uvloop's loop."""
        return time.perf_counter()

    def _run(self) -> None:
        waiting = self._waiting
        try:
            for _ in range((len(waiting) + 3) // 4):
                waiting.popleft()()
        finally:
            self._due = bool(waiting)
            if waiting:
                self._loop.call_soon(self._run)


class LoopFuture(pykka.Future[Any]):
    """The result of `ask`: awaitable on the loop. `get` never waits: that would block the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def get(self, *, timeout: float | None = None) -> Any:
        return self._future.result()

    def set(self, value: Any | None = None) -> None:
        if not self._future.done():
            self._future.set_result(value)

    def set_exception(
        self,
        exc_info: tuple[type[BaseException] | None, BaseException | None, TracebackType | None] | None = None,
    ) -> None:
        error = (exc_info or sys.exc_info())[1]
        if not self._future.done():
            self._future.set_exception(error or RuntimeError("failed without an exception"))

    def __await__(self) -> Generator[None, None, Any]:
        return self._future.__await__()


class LoopActor(pykka.Actor):
    """A pykka actor that handles its messages on the event loop that started it.

    It is not in pykka's `ActorRegistry`, which searches a list to unregister an actor: 1.6 ms at 100,000 actors.
    The code that starts an actor keeps its reference.
    """

    actor_inbox: LoopInbox
    actor_stopped: Stopped  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.actor_stopped = Stopped()
        self._actor_ref = LoopRef(self)

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Create and start an actor. Return its reference."""
        return cls(*args, **kwargs).begin().actor_ref

    def begin(self) -> Self:
        """Start handling messages. Return the actor itself, where `start` returns its reference."""
        self._start_actor_loop()
        return self

    @staticmethod
    def _create_actor_inbox() -> Any:
        return LoopInbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.bind(self._drain)
        self._actor_loop_setup()

    def _drain(self) -> None:
        inbox, stopped = self.actor_inbox, self.actor_stopped
        inbox.awake = False
        # Only the messages that are here now: those that arrive meanwhile wait, so that no actor starves the loop.
        for _ in range(len(inbox)):
            if stopped.stopped:
                break
            envelope = inbox.get()
            message = envelope.message
            try:
                response = None
                if type(message) is _ActorStop:
                    self._stop()
                else:
                    # pykka's proxies are not used here; the plain path is the hot path.
                    response = self.on_receive(message)
                if envelope.reply_to is not None:
                    envelope.reply_to.set(response)
            except Exception:  # noqa: BLE001 - after any error this actor stops and the others continue
                if envelope.reply_to is not None:
                    envelope.reply_to.set_exception()
                self._fail()
        if not stopped.stopped:
            try:
                self.on_drained()
            except Exception:  # noqa: BLE001 - as above
                self._fail()
        if stopped.stopped:
            self._actor_loop_teardown()
            inbox.unbind()

    def on_drained(self) -> None:
        """Run after the messages of one drain. Subclasses do here what is needed once per drain."""

    def _fail(self) -> None:
        error = sys.exc_info()
        self._handle_failure(*error)
        try:
            self.on_failure(*error)
        except Exception:  # noqa: BLE001 - as above
            self._handle_failure(*sys.exc_info())

    def _stop(self) -> None:
        self.actor_stopped.set()
        self.on_stop()

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error = cast(Any, (exception_type, exception_value, traceback))
        logger.error("unhandled exception in %s", type(self).__name__, exc_info=error)
        self.actor_stopped.set()
