"""Attendance: who was present, when and for how long, from a session's presence events.

**Law:** a participant's intervals are disjoint, in order and inside the session, and their sum is the time present.
Memory grows with participants, not with rows.
"""

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import Presence, Role

INTERVALS = 1_000
"""Intervals listed per participant. The time of further ones still counts."""
TYPES: tuple[type[e.Event], ...] = (
    e.SessionCreated, e.SessionStarted, e.SessionEnded, e.SessionCancelled,
    e.ParticipantInvited, e.ParticipantWaiting, e.ParticipantJoined, e.ParticipantDenied, e.ParticipantLeft,
    e.ParticipantKicked, e.ParticipantOnline, e.ParticipantOffline, e.ConnectionsLost, e.RoleChanged,
)  # fmt: skip
"""The events that attendance depends on."""


class Interval(Struct, frozen=True):
    """A time of presence, from `since` until before `until`."""

    since: Millis
    until: Millis


class ParticipantAttendance(Struct, frozen=True, kw_only=True):
    """One participant's attendance."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    kicked: bool
    """At some time. `status` is the present one."""
    intervals: tuple[Interval, ...]
    intervals_left_out: int
    present_ms: int
    share: float
    """Of the session's length so far, 0 to 1."""
    late: bool | None
    """None for a participant who has never been present."""
    left_early: bool | None
    """None while the session is not over, too."""
    first_joined_at: Millis | None
    last_left_at: Millis | None
    """None for a participant who is present."""


class _Person(Struct):
    user_id: UserId
    number: int
    name: str
    role: Role = "member"
    status: Presence = "invited"
    kicked: bool = False
    joined_at: Millis | None = None
    """Since when the participant has been present; None: not present."""
    away_at: Millis | None = None
    """Since when the participant has had no stream open."""
    first_joined_at: Millis | None = None
    last_left_at: Millis | None = None
    past: list[tuple[Millis, Millis]] = []
    """Intervals that are over: merged, and not yet clipped to the session."""
    latest: tuple[Millis, Millis] | None = None
    """The last interval that is over. A return within the grace time would extend it."""
    counted_ms: int = 0
    """The time of intervals that are not listed."""
    left_out: int = 0


class Attendance:
    """Collects a session's presence events, in order, and returns attendance at any moment."""

    def __init__(self) -> None:
        self.started_at: Millis | None = None
        self.ended_at: Millis | None = None
        self._grace_ms = 0
        self._people: dict[UserId, _Person] = {}

    def add(self, recorded: e.Recorded) -> None:
        """Add one event. Events of types that attendance does not depend on are ignored."""
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
        """Add an event that changes the roster."""
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
            # A kick also takes away any role above member.
            person.role = "member" if person.role in ("host", "cohost") else person.role

    def _close(self, at: Millis) -> None:
        self.ended_at = at
        for person in self._people.values():
            if person.status in ("joined", "waiting"):
                # A participant whose stream was lost just before was present until then, not until the end.
                self._leave(person, at if person.away_at is None else person.away_at)
                person.status = "left"

    def _leave(self, person: _Person, at: Millis) -> None:
        """Add the interval that ends now, merged with the last one after a return within the grace time."""
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
            # An interval that is not listed is summed up at once, clipped to the session.
            clipped = self._clipped(*interval, interval[1])
            person.counted_ms += clipped.until - clipped.since if clipped else 0
            person.left_out += 1

    def _clipped(self, since: Millis, until: Millis, end: Millis) -> Interval | None:
        """Return an interval clipped to the session; None if all of it was before the start."""
        if self.started_at is None:
            return None
        since, until = max(since, self.started_at), min(until, end)
        return Interval(since, until) if since < until else None

    def end(self, now: Millis) -> Millis | None:
        """Return until when attendance counts: the session's end, or now; None if the session has not started."""
        if self.started_at is None:
            return None
        return max(self.started_at, now if self.ended_at is None else self.ended_at)

    def lines(self, now: Millis, *, tolerance_ms: int) -> list[ParticipantAttendance]:
        """Return a line for everyone ever in the roster, in its order, as of `now`.

        A participant is late who came more than the tolerance after the start, and left early more than that before
        the end."""
        return [self._line(person, now, tolerance_ms) for person in self._people.values()]

    def line(self, user_id: UserId, now: Millis, *, tolerance_ms: int) -> ParticipantAttendance | None:
        """Return one participant's line; None for a user who was never in the roster."""
        person = self._people.get(user_id)
        return None if person is None else self._line(person, now, tolerance_ms)

    def _line(self, person: _Person, now: Millis, tolerance_ms: int) -> ParticipantAttendance:
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
        return ParticipantAttendance(
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
