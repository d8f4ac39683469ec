"""The law of a client's view: first snapshot + frames == fresh snapshot, for every event and every kind of viewer.

`HYPOTHESIS_PROFILE=long` looks for longer, and each time elsewhere.
"""

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import role_of
from actors.session.state import FeaturesUpdate, Kind, Role, TextChange
from server.v1.frames import SILENT
from tests.support import script
from tests.support.deeds import (
    CHAT,
    COMING,
    DOING,
    ENDS,
    PEOPLE,
    ROSTER,
    SETTINGS,
    TAKING_PART,
    callers,
    flags,
    soon,
)
from tests.support.fold import FOLDS
from tests.support.script import AUDIO, GRACE, SECOND, SONG, knowing
from tests.support.watching import Watched

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
pytestmark = pytest.mark.timeout(1_800 if LONG else 400)  # Hypothesis may shrink a failure for five minutes

TEACHER, ANN, BEN, CAT, EVE, GUS = PEOPLE


def test_the_fold_knows_every_type_of_frame() -> None:
    framed = set(get_args(e.AnyEvent)) - {e.Relayed}
    assert FOLDS.keys() == {e.TYPES[event] for event in framed}


# One script per type of event, with every kind of viewer watching

HUGO, CORA, OLAF = (knowing(one) for one in script.PEOPLE[4:7])
CAST: dict[str, c.Caller] = {
    "owner": TEACHER, "host": HUGO, "cohost": CORA, "member": ANN, "observer": OLAF, "guest": GUS, "removed": CAT,
    "lobby": EVE, "midway": BEN,
}  # fmt: skip
Step = tuple[c.Caller, c.Command] | int
"""A command, or milliseconds that pass."""


def by_teacher(*commands: c.Command) -> list[Step]:
    return [(TEACHER, command) for command in commands]


ask = c.AskQuestion("Why?", anonymous=True)
approval = c.Update(features=FeaturesUpdate(question_approval=True))
open_poll = c.OpenPoll("Which?", ["A", "B"], anonymous=True)
select, play = c.SelectAudio(AUDIO), c.Play()
draw = c.Draw(points=[0.0, 0.5])
says = (ANN, c.SendMessage(text="Hello"))
SCRIPTS: dict[type[e.Event], list[Step]] = {
    e.SessionStarted: by_teacher(c.Start()),
    e.SessionEnded: [*by_teacher(select, play, c.StartRecording()), (ANN, ask), (ANN, c.RaiseHand()),
                     (TEACHER, c.End())],
    e.SessionCancelled: by_teacher(c.Cancel()),
    e.SessionUpdated: by_teacher(c.Update(title="Maths", capacity=50, features=FeaturesUpdate(polls=False))),
    e.SessionLocked: by_teacher(c.Lock()),
    e.SessionUnlocked: by_teacher(c.Lock(), c.Unlock()),
    e.ParticipantInvited: by_teacher(c.Invite(script.BEN.user_id)),
    e.ParticipantWaiting: [(EVE, c.Leave()), (EVE, c.Join())],
    e.ParticipantJoined: [*by_teacher(c.SetPermissions(ANN.user_id, ["draw"], ["chat"])), (ANN, c.Leave()),
                          *by_teacher(c.SetRole(ANN.user_id, "observer"), c.SetPresent(ANN.user_id, True))],
    e.ParticipantDenied: by_teacher(c.Deny(EVE.user_id)),
    e.ParticipantLeft: [(ANN, c.RaiseHand()), (ANN, c.Leave())],
    e.ParticipantKicked: by_teacher(c.SetPermissions(CORA.user_id, [], ["chat"]), c.Kick(CORA.user_id)),
    e.ParticipantOnline: [(ANN, c.Disconnect()), (ANN, c.Connect())],
    e.ParticipantOffline: [(ANN, c.Disconnect())],
    e.ConnectionsLost: [(TEACHER, c.LoseConnections([]))],
    e.RoleChanged: [(ANN, c.SetMedia(video=True, audio=True)), *by_teacher(c.SetRole(ANN.user_id, "observer"))],
    e.PermissionsChanged: [(ANN, c.SetMedia(video=True, audio=True)),
                           *by_teacher(c.SetPermissions(ANN.user_id, ["draw"], ["video"]))],
    e.ParticipantMuted: by_teacher(c.Mute(ANN.user_id)),
    e.ParticipantUnmuted: by_teacher(c.Mute(ANN.user_id), c.Unmute(ANN.user_id)),
    e.AllMuted: by_teacher(c.MuteAll([])),
    e.UnmuteRequested: by_teacher(c.Mute(ANN.user_id), c.RequestUnmute(ANN.user_id)),
    e.HandRaised: [(ANN, c.RaiseHand()), (GUS, c.RaiseHand())],
    e.HandLowered: [(ANN, c.RaiseHand()), (ANN, c.LowerHand())],
    e.HandsLowered: [(ANN, c.RaiseHand()), (TEACHER, c.LowerAll())],
    e.HandCalled: [(ANN, c.RaiseHand()), (TEACHER, c.CallNext())],
    e.ChatMessage: [says, (ANN, c.SendMessage(text="Psst", to=GUS.user_id)), (TEACHER, c.SendVoice(AUDIO))],
    e.MessageDeleted: [says, (ANN, c.React(MessageId(1), "x", False)), (TEACHER, c.DeleteMessage(MessageId(1)))],
    e.MessageReacted: [says, (ANN, c.React(MessageId(1), "x", False)), (GUS, c.React(MessageId(1), "x", False)),
                       (ANN, c.React(MessageId(1), "x", True))],
    e.MediaChanged: [(CORA, c.SetMedia(screen=True)), (HUGO, c.SetMedia(screen=True)),
                     (HUGO, c.SetMedia(screen=False))],
    e.AudioSelected: by_teacher(select),
    e.AudioPlay: by_teacher(select, play),
    e.AudioPause: [*by_teacher(select, play), 1_500, (TEACHER, c.Pause())],
    e.AudioSeek: by_teacher(select, c.Seek(30.0)),
    e.AudioSpeed: [*by_teacher(select, play), 1_500, (TEACHER, c.SetSpeed(1.3)), 1_700],
    e.AudioStop: [*by_teacher(select, play), 1_500, (TEACHER, c.Stop())],
    e.AudioEnded: [*by_teacher(select, play), 61_000],
    e.QuestionAsked: [(ANN, ask), (GUS, c.AskQuestion("When?")), (TEACHER, approval), (ANN, ask)],
    e.QuestionApproved: [(TEACHER, approval), (ANN, ask), 5_000, (GUS, c.AskQuestion("When?")),
                         *by_teacher(c.ApproveQuestion(2), c.ApproveQuestion(1))],
    e.QuestionUpvoted: [(ANN, ask), (GUS, c.UpvoteQuestion(1)), (ANN, c.UpvoteQuestion(1)),
                        (GUS, c.UpvoteQuestion(1, remove=True))],
    e.QuestionAnswered: [(ANN, ask), (TEACHER, c.AnswerQuestion(1, "Because."))],
    e.QuestionDismissed: [(ANN, ask), (ANN, c.DismissQuestion(1)), (TEACHER, approval), (ANN, ask),
                          (TEACHER, c.DismissQuestion(2))],
    e.PollOpened: by_teacher(open_poll, c.OpenPoll("Which?", ["A", "B"], multiple=True)),
    e.PollVoted: [*by_teacher(open_poll, c.OpenPoll("Which?", ["A", "B"])), (ANN, c.Vote(1, [1])),
                  (GUS, c.Vote(2, [0]))],
    e.PollClosed: by_teacher(open_poll, c.ClosePoll(1)),
    e.CodeEdited: by_teacher(c.EditCode(text="let x"),
                             c.EditCode(1, changes=[c.Change(4, 1, "\U0001d11e"), c.Change(0, 0, "a")])),
    e.CodeMerged: by_teacher(c.Merge([TextChange(0, insert="x")], "AAA=")),
    e.LanguageChanged: by_teacher(c.SetLanguage("python")),
    e.BoardDrawn: by_teacher(draw, c.Draw(points=[0.0, 0.5], tool="text", text="Hi")),
    e.BoardErased: by_teacher(draw, draw, c.Erase([1])),
    e.BoardCleared: by_teacher(draw, c.ClearBoard(), draw),
    e.BoardRestored: by_teacher(draw, c.ClearBoard(), draw, c.RestoreBoard()),
    e.RecordingStarted: by_teacher(c.StartRecording()),
    e.RecordingStopped: by_teacher(c.StartRecording(), c.StopRecording()),
    e.RecordingUpdated: by_teacher(c.StartRecording(), c.ReportRecording(status="completed", recording_id=1)),
    e.EventLogged: [(ANN, c.LogEvent("error"))],
    e.AudioUploaded: by_teacher(c.LogAudioUpload(SONG)),
    e.SignalSent: [(ANN, c.Signal(GUS.user_id, {"sdp": ""}))],
    e.CursorMoved: [(ANN, c.MoveCursor({"x": 0}))],
    e.TypingChanged: [(ANN, c.Typing())],
}  # fmt: skip
SCHEDULED = (e.SessionStarted, e.SessionCancelled)
"""What happens before a session is live."""
UNHEARD = {e.SessionCreated, e.SessionDeleted, *SILENT}
"""No stream carries these: none is open yet, or none is any more; the last tells clients nothing."""


def test_every_event_has_a_script() -> None:
    assert SCRIPTS.keys() == set(get_args(e.AnyEvent)) - UNHEARD - {e.Relayed}


def cast(scheduled: bool) -> Watched:
    """Return a session with the whole cast in it except Eve, who waits in the lobby, and Ben, who comes later."""
    watched = Watched([knowing(one) for one in script.PEOPLE] + [TEACHER], features=c.NewFeatures(guests=True))
    for one in (*(() if scheduled else (TEACHER,)), HUGO, CORA, OLAF, ANN, GUS, CAT):
        assert watched.ask(one, c.Join())
    roles: list[tuple[c.Caller, Role]] = [(HUGO, "host"), (CORA, "cohost"), (OLAF, "observer")]
    for one, role in roles:
        assert watched.ask(TEACHER, c.SetRole(one.user_id, role))
    assert watched.ask(TEACHER, c.Update(features=FeaturesUpdate(lobby=True)))
    for kind, one in CAST.items():
        assert kind == "midway" or watched.open(one, join=kind == "lobby")
    return watched


def perform(watched: Watched, step: Step) -> None:
    match step:
        case int(ms):
            watched.wait(ms)
        case by, c.Connect():
            assert watched.open(by)
        case by, c.Disconnect():
            watched.close(by)
        case _, c.LoseConnections():
            watched.restart()
            for one in CAST.values():
                watched.open(one)
        case by, command:
            assert watched.ask(by, command), f"{command} is refused"


@pytest.mark.parametrize("event", SCRIPTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("turning", ["", "midway", "promoted", "removed", "resumed"])
async def test_every_viewer_keeps_their_view(event: type[e.Event], turning: str) -> None:
    """In between, one viewer comes, becomes a moderator and stops being one, is removed, or loses the connection."""
    for at in range(len(SCRIPTS[event]) + 1 if turning else 1):
        watched = cast(event in SCHEDULED)
        watched.check()
        for index, step in enumerate(SCRIPTS[event]):
            if turning and index == at:
                turn(watched, turning)
            perform(watched, step)
            watched.check()
        if turning and watched.state.session.status in ("scheduled", "live"):
            if at == len(SCRIPTS[event]):
                turn(watched, turning)
            turn_back(watched, turning)
        kind = e.TYPES[event]
        received = any(watched.clients[one.user_id].received[kind] for one in CAST.values())
        missed = turning == "resumed" and event in e.EPHEMERAL
        assert received or missed, f"no viewer received {kind}"


def turn(watched: Watched, turning: str) -> None:
    match turning:
        case "midway":
            assert watched.ask(TEACHER, c.Invite(BEN.user_id))
            assert watched.open(BEN, join=True) or watched.state.session.locked
        case "promoted":
            watched.ask(TEACHER, c.SetRole(GUS.user_id, "cohost"))
        case "removed":
            assert watched.ask(TEACHER, c.Kick(CAT.user_id))
            assert not watched.clients[CAT.user_id].open
        case "resumed":
            watched.close(GUS)
    watched.check()


def turn_back(watched: Watched, turning: str) -> None:
    match turning:
        case "promoted":
            watched.ask(TEACHER, c.SetRole(GUS.user_id, "member"))
        case "resumed":
            assert watched.open(GUS)
    watched.check()


# Random scripts


REPORTS = st.builds(c.ReportRecording, status=st.just("completed"), recording_id=st.integers(1, 3))
AUDIO_MS = 61_000
"""Longer than the track."""

Happening = int | list[c.Caller] | tuple[int, bool, c.Command]
"""Milliseconds that pass; people who reconnect, nobody after a restart of the server; or a caller's command."""
HAPPENINGS: st.SearchStrategy[Happening] = (
    st.integers(0, 2 * GRACE)
    | st.just(AUDIO_MS)
    | st.lists(st.sampled_from(PEOPLE), max_size=4)
    | st.tuples(callers, flags, COMING | ROSTER | SETTINGS | ENDS)
    | st.tuples(callers, flags, COMING)
)


class Views(RuleBasedStateMachine):
    """Six people with clients, a clock, lost connections and a server that restarts."""

    received: ClassVar[set[str]] = set()
    """The types of frames that some client received in any script."""
    viewers: ClassVar[set[str]] = set()
    """The kinds of viewers whose view was compared in any script."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    def teardown(self) -> None:
        self.runner.close()
        for client in self.watched.clients.values():
            self.received.update(client.received)

    @initialize(
        kind=st.sampled_from(get_args(Kind)),
        features=st.builds(c.NewFeatures, lobby=flags, question_approval=flags, guests=flags),
        starts_at=soon,
        mute_on_join=flags,
        empty_after=st.none() | st.integers(1, 120),
        remembered=st.sampled_from([1, 4, 256]),
        teacher_joins=st.sampled_from([True, True, False]),
        come=st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(get_args(Role)), flags), max_size=6),
    )
    def create(self, come: list[tuple[c.Caller, Role, bool]], remembered: int, teacher_joins: bool, **new: Any) -> None:
        self.watched = Watched(PEOPLE, remembered=remembered, **new)
        self.do(self.watched.open, TEACHER, join=teacher_joins)
        for one, role, admitted in come:
            self.do(self.watched.open, structs.replace(one, has_invitation=True), join=True)
            if admitted:
                self.ask(TEACHER, c.Admit(one.user_id))
                self.ask(TEACHER, c.SetRole(one.user_id, role))
                self.do(self.watched.open, one)

    @rule(happenings=st.lists(HAPPENINGS, min_size=1, max_size=6))
    def happen(self, happenings: list[Happening]) -> None:
        """Have people come, go, reconnect or change the session, have time pass, or the server restart."""
        for one in happenings:
            match one:
                case int(ms):
                    self.do(self.watched.wait, ms)
                case tuple((by, has_invitation, command)):
                    caller = structs.replace(self.caller(by), has_invitation=has_invitation)
                    self.come_or_go(caller, command, by)
                case []:
                    self.do(self.watched.restart)
                case [*people]:
                    for person in people:
                        self.do(self.watched.open, person)

    def come_or_go(self, caller: c.Caller, command: c.Command, number: int) -> None:
        match command:
            case c.Connect(join=join):
                self.do(self.watched.open, caller, join=join)
            case c.Disconnect():
                self.do(self.watched.close, caller)
            case c.End() | c.Cancel() | c.Delete() if number % 2:
                pass  # many scripts go on
            case _:
                self.ask(caller, command)

    @rule(
        deeds=st.lists(st.tuples(callers, TAKING_PART | CHAT | DOING), min_size=6, max_size=16),
        after=st.integers(0, SECOND),
    )
    def take_part(self, deeds: list[tuple[int, c.Command]], after: int) -> None:
        """Do a few things in one turn."""
        for by, command in deeds:
            self.watched.now = Millis(self.watched.now + after)
            self.watched.decide(self.caller(by), self.about(command))
        self.do(self.watched.flush)

    @rule(deeds=st.lists(DOING | CHAT | ROSTER | REPORTS, min_size=6, max_size=16), after=st.integers(0, 10 * SECOND))
    def teach(self, deeds: list[c.Command], after: int) -> None:
        """Use everything there is to use as the teacher, who may."""
        for command in deeds:
            self.watched.now = Millis(self.watched.now + after)
            self.ask(TEACHER, command)

    def ask(self, by: c.Caller, command: c.Command) -> None:
        self.do(self.watched.ask, by, self.about(command))

    def do(self, act: Callable[..., object], *args: object, **keywords: object) -> None:
        """Act in a loop, which subscribers need for their futures."""

        async def acting() -> None:
            act(*args, **keywords)

        self.runner.run(acting())

    def caller(self, number: int) -> c.Caller:
        inside = [one for one in PEOPLE if role_of(self.watched.state, one.user_id)]
        candidates = [*inside, *inside, *inside, *PEOPLE]
        return candidates[number % len(candidates)]

    def about(self, command: c.Command) -> c.Command:
        """Return a command about what is there, or nearly."""
        state = self.watched.state
        match command:
            case c.SendMessage(reply_to=int(reply_to)):
                return structs.replace(command, reply_to=MessageId(reply_to % (state.last_message_id + 1)))
            case c.DeleteMessage() | c.React():
                return structs.replace(command, message_id=MessageId(command.message_id % (state.last_message_id + 2)))
            case c.EditCode(base_version=int(base)) if base > 1:
                return structs.replace(command, base_version=state.code.version)
            case c.Admit() | c.Deny():
                waiting = [user_id for user_id, one in state.participants.items() if one.status == "waiting"]
                return structs.replace(command, user_id=waiting[0]) if waiting else command
            case c.ApproveQuestion() | c.UpvoteQuestion() | c.AnswerQuestion() | c.DismissQuestion():
                return structs.replace(command, question_id=command.question_id % (state.last_question_id + 2))
            case c.Vote() | c.ClosePoll():
                return structs.replace(command, poll_id=command.poll_id % (state.last_poll_id + 2))
        return command

    @invariant()
    def the_frames_keep_the_view(self) -> None:
        self.watched.check()
        for client in self.watched.clients.values():
            if client.open:
                self.viewers.add(kind_of(self.watched, client.user_id))


def kind_of(watched: Watched, viewer: UserId) -> str:
    """Return the role in which a user watches; or `lobby`, `owner`, `guest`, or `outside` for others."""
    one = watched.state.participants.get(viewer)
    if viewer == watched.state.session.owner_id:
        return "owner"
    if one is None or one.status not in ("joined", "waiting"):
        return "outside"
    return "lobby" if one.status == "waiting" else "guest" if one.guest else one.role


ROUND = settings(
    max_examples=500 if LONG else 50,
    stateful_step_count=50 if LONG else 20,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FEWEST, MOST = 3, 16
"""How often a round is played: at least, and at most until every type of event has been reached."""


def test_random_scripts_keep_every_view() -> None:
    """They reach every type of event and every kind of viewer, so that none goes untested unnoticed."""
    kinds = {e.TYPES[event] for event in SCRIPTS} | {"owner", "host", "cohost", "member", "observer", "guest", "lobby"}
    first = random.randrange(1 << 30) if LONG else 0
    for number in range(MOST):
        run_state_machine_as_test(seed(first + number)(Views), settings=ROUND)
        if number + 1 >= FEWEST and kinds <= Views.received | Views.viewers:
            break
    assert kinds - Views.received - Views.viewers == set()
