"""Classes, played one after the other by a cast of users.

**Law:** the cast uses the public API only.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp

from server.demo.lessons import LESSONS, STUDENTS, TEACHER, Cue, Lesson, says
from server.demo.people import DemoUser, Refused, StreamFrame

TTL_S = 3_600
"""When a class ends if the demo is killed."""
CALL_TIMEOUT_S = 15.0
FAREWELL_S = 2.0
NEXT_AFTER_S = 10.0
ASIDES = 20
"""The most answers to newcomers that the teacher still has to give."""


class ClassEnded(Exception):
    """The class ended before the script did."""


async def play(url: str, public_url: str, say: Callable[[str], None], *, speed: float = 1.0) -> None:
    """Play classes on the server at `url` until cancelled. Print their links, which begin with `public_url`.

    Raise Refused or aiohttp.ClientError if the cast cannot continue.
    """
    connector = aiohttp.TCPConnector(limit=3 * (len(STUDENTS) + 1))
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 20) as http:
        cast = {name: DemoUser(http, url, name, "student") for name in STUDENTS}
        cast[TEACHER] = DemoUser(http, url, TEACHER, "teacher")
        for person in cast.values():
            await person.register()
        code = await create_class(cast[TEACHER], LESSONS[0])
        for lesson, following in following_pairs():
            link = f"{public_url}/?code={code}"
            say(f"on now: {lesson.title}")
            say(f"watch it and join in: {link}")
            this = Class(cast, code, speed)
            try:
                with contextlib.suppress(ClassEnded):
                    await this.run(lesson)
                code = await create_class(cast[TEACHER], following)
                with contextlib.suppress(ClassEnded):
                    await this.perform(says(TEACHER, f"Next: {following.title} {public_url}/?code={code}"))
                await asyncio.sleep(NEXT_AFTER_S / speed)
            finally:
                await this.end()


def following_pairs() -> Iterator[tuple[Lesson, Lesson]]:
    """Yield each lesson with the next one, without end."""
    return itertools.pairwise(itertools.cycle(LESSONS))


async def create_class(teacher: DemoUser, lesson: Lesson) -> str:
    """Create a class and return its join code."""
    body = {"title": lesson.title, "description": lesson.description, "capacity": 100, "ttl": TTL_S}
    return str((await teacher.call("POST", "/v1/sessions", body))["code"])


class Class:
    """A class. The teacher follows the script and answers newcomers between two cues."""

    def __init__(self, cast: dict[str, DemoUser], code: str, speed: float) -> None:
        self._cast = cast
        self._teacher = cast[TEACHER]
        self._code = code
        self._speed = speed
        self._names = {person.user_id: person.name for person in cast.values()}
        self._latest: dict[str, int] = {}
        self._asides: deque[Cue] = deque(maxlen=ASIDES)
        self._watching: set[asyncio.Task[None]] = set()

    async def run(self, lesson: Lesson) -> None:
        """Play a lesson. Raise ClassEnded, Refused, aiohttp.ClientError."""
        await self.perform(Cue(TEACHER, {"type": "join"}))
        for cue in lesson.cues:
            await self.perform(cue)
            await asyncio.sleep(pause_s(cue) / self._speed)
            while self._asides:
                aside = self._asides.popleft()
                await self.perform(aside)
                await asyncio.sleep(pause_s(aside) / self._speed)

    async def perform(self, cue: Cue) -> None:
        """Perform a cue. Skip it if the class does not allow it now, for which a newcomer may be the reason.

        Raise ClassEnded, Refused, aiohttp.ClientError.
        """
        person = self._cast[cue.who]
        try:
            if cue.do["type"] == "join":
                await person.call("POST", "/v1/sessions/join", {"code": self._code})
                self._watch(person)
                return
            events = await person.command(self._code, self._resolved(cue.do))
        except KeyError:
            return
        except Refused as refused:
            if refused.status == 410:
                raise ClassEnded from refused
            if refused.status in (401, 429, 503):
                raise
            return
        for event in events:
            if event["type"] == "chat_message":
                self._latest[cue.who] = event["message_id"]
            if event["type"] == "hand_called":
                name = self._names.get(event["user_id"], "you there")
                self._asides.append(says(TEACHER, f"Yes, {name}?"))

    def _resolved(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return the command with ids in place of names. Raise KeyError if someone has not written anything yet."""
        ids: dict[str, Any] = {key: self._cast[command[key]].user_id for key in ("user_id", "to") if key in command}
        messages: dict[str, Any] = {
            key: self._latest[command[key]] for key in ("message_id", "reply_to") if key in command
        }
        return {**command, **ids, **messages}

    def _watch(self, person: DemoUser) -> None:
        on_frame = self._notice if person is self._teacher else ignore
        task = asyncio.create_task(person.watch(self._code, on_frame))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _notice(self, frame: StreamFrame) -> None:
        """React, as the teacher, to participants who are not in the cast."""
        if frame.event == "snapshot":
            # They may have joined before the teacher's stream was open.
            for participant in frame.body["participants"]:
                self._welcome(participant["user_id"], participant["name"])
        who = frame.body.get("actor")
        if who is None or any(who == person.user_id for person in self._cast.values()):
            return
        match frame.event:
            case "participant_joined":
                self._welcome(who, frame.body["name"])
            case "hand_raised":
                self._asides.append(Cue(TEACHER, {"type": "call_next"}))
            case "chat_message" if frame.body["text"].rstrip().endswith("?") and "to" not in frame.body:
                name = self._names.get(who, "friend")
                self._asides.append(says(TEACHER, f"Good question, {name}. Who has an idea?"))

    def _welcome(self, user_id: str, name: str) -> None:
        """Greet a newcomer, once."""
        if user_id not in self._names:
            self._names[user_id] = name
            self._asides.append(says(TEACHER, f"Welcome, {name}! Write to us, or raise a hand."))

    async def end(self) -> None:
        """End the class, at any point, and wait until all streams of the cast have ended."""
        with contextlib.suppress(Refused, aiohttp.ClientError, TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                try:
                    await self._teacher.command(self._code, {"type": "end"})
                except Refused:
                    # It had not started.
                    await self._teacher.command(self._code, {"type": "cancel"})
                if self._watching:
                    await asyncio.wait(self._watching)
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)


def ignore(frame: StreamFrame) -> None:
    """Do nothing: students only follow the script."""


def pause_s(cue: Cue) -> float:
    """Return how many seconds it takes to read what a cue says."""
    return min(1.5 + 0.05 * len(cue.do.get("text", "")), 5.0)
