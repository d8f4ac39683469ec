"""Who was there, when and for how long: a fold over a session's presence events.

**Law:** a person's intervals are disjoint, in order and inside the session; their minutes are the intervals' sum.
Memory grows with people, not with rows.
"""

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import Presence, Role

INTERVALS = 1_000
"""Intervals listed per person; time past that still counts."""
TYPES: tuple[type[e.Event], ...] = (
    e.SessionCreated, e.SessionStarted, e.SessionEnded, e.SessionCancelled,
    e.ParticipantInvited, e.ParticipantWaiting, e.ParticipantJoined, e.ParticipantDenied, e.ParticipantLeft,
    e.ParticipantKicked, e.ParticipantOnline, e.ParticipantOffline, e.ConnectionsLost, e.RoleChanged,
)  # fmt: skip
"""The events that attendance is made of."""


class Interval(Struct, frozen=True):
    since: Millis
    until: Millis


class Line(Struct, frozen=True, kw_only=True):
    """One person's attendance. `late` and `left_early` are None while nobody can say: never there, or not over yet.

    `last_left_at` is None for who is still there."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    kicked: bool
    """At some time: `status` says how it is now."""
    intervals: tuple[Interval, ...]
    intervals_left_out: int
    present_ms: int
    share: float
    late: bool | None
    left_early: bool | None
    first_joined_at: Millis | None
    last_left_at: Millis | None


class _Person(Struct):
    user_id: UserId
    number: int
    name: str
    role: Role = "member"
    status: Presence = "invited"
    kicked: bool = False
    joined_at: Millis | None = None
    """Since when they have been in; None: they are not."""
    away_at: Millis | None = None
    """Since when they have had no stream open."""
    first_joined_at: Millis | None = None
    last_left_at: Millis | None = None
    past: list[tuple[Millis, Millis]] = []
    """What is over, merged; unclipped."""
    latest: tuple[Millis, Millis] | None = None
    """The last of it, which a quick return would make longer."""
    counted_ms: int = 0
    """Of intervals that are no longer listed."""
    left_out: int = 0


class Attendance:
    """Takes a session's presence events, in order, and says who attended."""

    def __init__(self) -> None:
        self.started_at: Millis | None = None
        self.ended_at: Millis | None = None
        self._grace_ms = 0
        self._people: dict[UserId, _Person] = {}

    def take(self, recorded: e.Recorded) -> None:
        """Take one event; those of other types count for nothing."""
        at = recorded.at
        match recorded.event:
            case e.SessionCreated(grace_ms=grace_ms):
                self._grace_ms = grace_ms
            case e.SessionStarted():
                self.started_at = at
            case e.SessionEnded() | e.SessionCancelled():
                self._close(at)
            case e.ParticipantOnline(user_id=user_id):
                self._people[user_id].away_at = None
            case e.ParticipantOffline(user_id=user_id):
                self._people[user_id].away_at = at
            case e.ConnectionsLost(user_ids=user_ids):
                for user_id in user_ids:
                    self._people[user_id].away_at = at
            case event:
                self._move(event, at)

    def _move(self, event: e.Event, at: Millis) -> None:
        """Take what changes somebody's place in the roster."""
        match event:
            case e.ParticipantInvited() | e.ParticipantWaiting():
                person = self._person(event.user_id, event.name, event.number)
                person.status = "invited" if isinstance(event, e.ParticipantInvited) else "waiting"
            case e.ParticipantJoined():
                self._join(event, at)
            case e.ParticipantDenied(user_id=user_id):
                self._depart(user_id, "denied", at)
            case e.ParticipantLeft(user_id=user_id, last_seen=last_seen):
                self._depart(user_id, "left", at if last_seen is None else last_seen)
            case e.ParticipantKicked(user_id=user_id):
                self._depart(user_id, "kicked", at)
            case e.RoleChanged(user_id=user_id, role=role):
                self._people[user_id].role = role
            case _:
                pass  # says nothing about presence

    def _person(self, user_id: UserId, name: str, number: int) -> _Person:
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = _Person(user_id, number, name)
        person.name = name
        return person

    def _join(self, event: e.ParticipantJoined, at: Millis) -> None:
        person = self._person(event.user_id, event.name, event.number)
        person.role, person.status = event.role, "joined"
        person.joined_at = person.joined_at or at
        person.first_joined_at = person.first_joined_at or at
        person.away_at = person.last_left_at = None

    def _depart(self, user_id: UserId, status: Presence, at: Millis) -> None:
        person = self._people[user_id]
        self._leave(person, at)
        person.status = status
        if status == "kicked":
            person.kicked = True
            # A kick takes with it what one was trusted with.
            person.role = "member" if person.role in ("host", "cohost") else person.role

    def _close(self, at: Millis) -> None:
        self.ended_at = at
        for person in self._people.values():
            if person.status in ("joined", "waiting"):
                # Somebody who had just lost their stream was last seen then, not when the session ended.
                self._leave(person, at if person.away_at is None else person.away_at)
                person.status = "left"

    def _leave(self, person: _Person, at: Millis) -> None:
        """Put down an interval, as one with the last if they were back within the grace time."""
        if person.joined_at is None:
            return
        since, until = person.joined_at, max(at, person.joined_at)
        person.joined_at = person.away_at = None
        person.last_left_at = until
        if person.latest is not None:
            if since - person.latest[1] <= self._grace_ms:
                person.latest = (person.latest[0], max(until, person.latest[1]))
                return
            self._keep(person, person.latest)
        person.latest = (since, until)

    def _keep(self, person: _Person, interval: tuple[Millis, Millis]) -> None:
        if len(person.past) < INTERVALS - 1:
            person.past.append(interval)
        else:
            # Whatever is not listed is summed up at once, and that needs its place in the session.
            clipped = self._clipped(*interval, interval[1])
            person.counted_ms += clipped.until - clipped.since if clipped else 0
            person.left_out += 1

    def _clipped(self, since: Millis, until: Millis, end: Millis) -> Interval | None:
        """Cut an interval to the session; None: it was all before the start."""
        if self.started_at is None:
            return None
        since, until = max(since, self.started_at), min(until, end)
        return Interval(since, until) if since < until else None

    def end(self, now: Millis) -> Millis | None:
        """Say up to when attendance is counted: the session's end, or now; None: it has not started."""
        if self.started_at is None:
            return None
        return max(self.started_at, now if self.ended_at is None else self.ended_at)

    def lines(self, now: Millis, *, tolerance_ms: int) -> list[Line]:
        """Give a line for everyone ever in the roster, in its order, as of `now`.

        Late is who came more than the tolerance after the start; early who left more than that before the end."""
        return [self._line(person, now, tolerance_ms) for person in self._people.values()]

    def line(self, user_id: UserId, now: Millis, *, tolerance_ms: int) -> Line | None:
        person = self._people.get(user_id)
        return None if person is None else self._line(person, now, tolerance_ms)

    def _line(self, person: _Person, now: Millis, tolerance_ms: int) -> Line:
        end = self.end(now)
        spans = [*person.past, *([] if person.latest is None else [person.latest])]
        if person.joined_at is not None:
            here = (person.joined_at, max(now, person.joined_at))
            if spans and here[0] - spans[-1][1] <= self._grace_ms:
                here = (spans.pop()[0], here[1])
            spans.append(here)
        clipped = [] if end is None else [self._clipped(since, until, end) for since, until in spans]
        intervals = tuple(interval for interval in clipped if interval is not None)
        present_ms = person.counted_ms + sum(interval.until - interval.since for interval in intervals)
        length_ms = 0 if end is None or self.started_at is None else end - self.started_at
        late = left_early = None
        if self.started_at is not None and intervals:
            late = intervals[0].since > self.started_at + tolerance_ms
            left_early = None if self.ended_at is None else intervals[-1].until < self.ended_at - tolerance_ms
        return Line(
            user_id=person.user_id,
            number=person.number,
            name=person.name,
            role=person.role,
            status=person.status,
            kicked=person.kicked,
            intervals=intervals,
            intervals_left_out=person.left_out,
            present_ms=present_ms,
            share=min(1.0, present_ms / length_ms) if length_ms else 0.0,
            late=late,
            left_early=left_early,
            first_joined_at=person.first_joined_at,
            last_left_at=person.last_left_at,
        )
