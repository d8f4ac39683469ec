"""Scripts for the session machine: `given(class_of(ANN), says(ANN, …)).when(command, by=ANN).then(event)`.

Every step is checked against the machine's laws on the way: a refusal changes nothing, `replay(log) == state`.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import FeaturesUpdate, Participant, Permission, Role, State, Track

START = Millis(1_700_000_000_000)
SECOND = 1_000
GRACE = 10 * SECOND
SESSION = SessionId("01990000-0000-7000-8000-000000000001")


def person(name: str) -> c.Caller:
    return c.Caller(UserId(name.lower()), name)


ANN, BEN, CAT, EVE = (structs.replace(person(name), has_invitation=True) for name in ("Ann", "Ben", "Cat", "Eve"))
"""Students; Eve is the one who is up to something."""
HUGO, CORA, OLAF = (structs.replace(person(name), has_invitation=True) for name in ("Hugo", "Cora", "Olaf"))
"""A second host, a cohost, an observer (`staff` makes them so)."""
GUS = structs.replace(person("Gus"), has_invitation=True, guest=True, colour="#00aa00", issued_at=START)
"""A guest: no account, only a token for this session."""
PEOPLE = (ANN, BEN, CAT, EVE, HUGO, CORA, OLAF, GUS)
KNOWN = {one.user_id: c.Person(one.name, one.number) for one in PEOPLE}
AUDIO, UNMEASURED, UNKNOWN = (f"01990000-0000-7000-8000-00000000000{digit}" for digit in "789")
SONG = Track(AUDIO, "Song", 60.0, 7)
TRACKS = {AUDIO: SONG, UNMEASURED: Track(UNMEASURED, "Live recording", None)}
"""The audio library: one minute of audio, and audio of unknown duration."""
TEACHER = structs.replace(person("Teacher"), people=KNOWN, tracks=TRACKS)
"""The owner, for whom the shell has looked everything up."""
SERVER = c.Caller(UserId(""), "")
LOBBY = c.NewFeatures(lobby=True)


def without_code(caller: c.Caller) -> c.Caller:
    return structs.replace(caller, has_invitation=False)


def knowing(caller: c.Caller) -> c.Caller:
    """Return the caller with the inputs that the shell loads for a command."""
    return structs.replace(caller, people=KNOWN, tracks=TRACKS)


class Step(NamedTuple):
    """A command, or time that passed (`command` is None)."""

    by: c.Caller
    command: c.Command | None
    after: int = 0


Steps = Step | Iterable["Steps"]


def does(by: c.Caller, *commands: c.Command) -> list[Step]:
    return [Step(by, command) for command in commands]


def says(by: c.Caller, text: str = "Hello", to: c.Caller | None = None) -> list[Step]:
    return does(by, c.SendMessage(text=text, to=to.user_id if to else None))


def passes(ms: int) -> Step:
    """Let time pass, with every Tick that falls due in it."""
    return Step(SERVER, None, ms)


def joins(*people: c.Caller) -> list[Step]:
    return [Step(one, c.Join()) for one in people]


def class_of(*people: c.Caller) -> list[Step]:
    """A live session that its owner and these users have joined."""
    return joins(TEACHER, *people)


def has_role(one: c.Caller, role: Role) -> list[Step]:
    return [*joins(one), *does(TEACHER, c.SetRole(one.user_id, role))]


def staff() -> list[Step]:
    """Hugo joins as a host, Cora as a cohost, Olaf as an observer."""
    return [*has_role(HUGO, "host"), *has_role(CORA, "cohost"), *has_role(OLAF, "observer")]


def grants(one: c.Caller, *permissions: Permission) -> list[Step]:
    return does(TEACHER, c.SetPermissions(one.user_id, grant=list(permissions)))


def revokes(one: c.Caller, *permissions: Permission) -> list[Step]:
    return does(TEACHER, c.SetPermissions(one.user_id, revoke=list(permissions)))


def features(**change: bool) -> list[Step]:
    return does(TEACHER, c.Update(features=FeaturesUpdate(**change)))


def creation(**new: Any) -> c.Create:
    return c.Create(
        new=c.NewSession(**{"title": "Physics 101", **new}),
        session_id=SESSION,
        number=8,
        name="physics-101-x7k2",
        code="K7Q2MD",
        default_capacity=100,
        grace_ms=GRACE,
    )


FOR_CLIENTS: dict[type, dict[str, Any]] = {
    e.ParticipantInvited: {"permissions": None},
    e.ParticipantWaiting: {"permissions": None},
    e.ParticipantJoined: {"permissions": None, "joined_at": None, "online": False},
    e.ParticipantKicked: {"permissions": None, "role": None},
    e.RoleChanged: {"permissions": None},
    e.PermissionsChanged: {"permissions": None},
    e.QuestionApproved: {"name": None, "asked_at": None},
}
"""What events say only so that clients can keep their view of the session: `tests/server/v1/test_fold.py` tests it."""


def without_extras(event: e.Event) -> e.Event:
    """Return an event without what it says only for clients."""
    return structs.replace(event, **FOR_CLIENTS.get(type(event), {}))


class Script:
    """A session, its log and its clock; `when` sends a command, `then` and `rejected` check its result."""

    def __init__(self, **new: Any) -> None:
        self.now = START
        events = lifecycle.create(creation(**new), TEACHER, self.now)
        self.log = machine.record(SESSION, 1, 0, self.now, TEACHER.user_id, events)
        self.state: State = machine.replay(self.log)
        self.answer: list[e.Event] | Rejected = []
        self.by = SERVER

    def given(self, *steps: Steps) -> Self:
        for step in flat(steps):
            if step.command is None:
                self.wait(step.after)
            else:
                self.when(step.command, by=step.by, after=step.after)
                assert not isinstance(self.answer, Rejected), f"{step.command} was to work: {self.answer!r}"
                self.take(self.answer)
        return self

    def when(self, command: c.Command, by: c.Caller, after: int = 0) -> Self:
        self.now = Millis(self.now + after)
        self.by = by
        before = machine.snapshot(self.state)
        try:
            self.answer = machine.decide(self.state, command, by, self.now)
        except Rejected as rejected:
            self.answer = rejected
        assert machine.snapshot(self.state) == before, "decide changed the state"
        return self

    def then(self, *events: e.Event) -> Self:
        """Check the exact events, without the `FOR_CLIENTS` fields; no arguments: the command changes nothing."""
        assert not isinstance(self.answer, Rejected), f"was refused: {self.answer!r}"
        assert [without_extras(one) for one in self.answer] == [without_extras(one) for one in events]
        self.take(self.answer)
        return self

    def rejected(self, reason: Reason, field: str | None = None) -> Self:
        assert isinstance(self.answer, Rejected), f"was not refused: {self.answer}"
        assert (self.answer.reason, self.answer.field) == (reason, field), self.answer.detail
        assert self.answer.detail.endswith((".", "?"))
        return self

    def take(self, events: Iterable[e.Event]) -> None:
        actor_id = self.by.user_id or None
        rows = machine.record(SESSION, 1, self.state.seq, self.now, actor_id, events)
        for recorded in rows:
            machine.apply(self.state, recorded)
        self.log += rows
        assert machine.replay(self.log) == self.state

    def wait(self, ms: int) -> None:
        end = self.now + ms
        while (due := machine.deadline(self.state)) is not None and due <= end:
            self.now = max(self.now, due)
            self.when(c.Tick(), by=SERVER)
            assert isinstance(self.answer, list)
            assert self.answer, "a Tick at the deadline makes something happen"
            self.take(self.answer)
        self.now = Millis(end)

    def participant(self, one: c.Caller) -> Participant:
        return self.state.participants[one.user_id]


def joined_event(one: c.Caller, number: int = 2, *, muted: bool = False) -> e.ParticipantJoined:
    return e.ParticipantJoined(user_id=one.user_id, name=one.name, number=number, role="member", muted=muted)


def waiting_event(one: c.Caller, number: int = 2) -> e.ParticipantWaiting:
    return e.ParticipantWaiting(user_id=one.user_id, name=one.name, number=number)


def online_event(one: c.Caller) -> e.ParticipantOnline:
    return e.ParticipantOnline(user_id=one.user_id)


def kicks(*people: c.Caller, ban: bool = False) -> list[Step]:
    return does(TEACHER, *(c.Kick(one.user_id, ban=ban) for one in people))


def loses_connection(one: c.Caller) -> list[Step]:
    """A user's last stream closes for longer than the grace time."""
    return [*does(one, c.Connect(), c.Disconnect()), passes(GRACE)]


def flat(steps: Iterable[Steps]) -> Iterable[Step]:
    for step in steps:
        if isinstance(step, Step):
            yield step
        else:
            yield from flat(step)


def given(*steps: Steps, **new: Any) -> Script:
    """A scheduled session of the teacher, and the steps so far. Keywords: the fields of `NewSession`."""
    return Script(**new).given(*steps)
