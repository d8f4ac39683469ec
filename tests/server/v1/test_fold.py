"""The law of a client's view: first snapshot + frames == fresh snapshot, for every event and every kind of viewer.

`HYPOTHESIS_PROFILE=long` looks for longer, and each time elsewhere.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import MessageId, Millis
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
EXAMPLES = int(os.environ.get("FOLD_EXAMPLES", "100"))


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
    e.Signal: [(ANN, c.Signal(GUS.user_id, {"sdp": ""}))],
    e.Cursor: [(ANN, c.Cursor({"x": 0}))],
    e.Typing: [(ANN, c.Typing())],
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


class Views(RuleBasedStateMachine):
    """Six people with clients, a clock, lost connections and a server that restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    def teardown(self) -> None:
        self.runner.close()

    @initialize(
        kind=st.sampled_from(get_args(Kind)),
        features=st.builds(c.NewFeatures, lobby=flags, question_approval=flags, guests=flags),
        starts_at=soon,
        mute_on_join=flags,
        empty_after=st.none() | st.integers(1, 120),
        remembered=st.sampled_from([1, 4, 256]),
        come=st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(get_args(Role)), flags), max_size=6),
    )
    def create(self, come: list[tuple[c.Caller, Role, bool]], remembered: int, **new: Any) -> None:
        self.watched = Watched(PEOPLE, remembered=remembered, **new)
        self.do(self.watched.open, TEACHER, join=True)
        for one, role, admitted in come:
            self.do(self.watched.open, structs.replace(one, has_invitation=True), join=True)
            if admitted:
                self.ask(TEACHER, c.Admit(one.user_id))
                self.ask(TEACHER, c.SetRole(one.user_id, role))
                self.do(self.watched.open, one)

    @rule(deeds=st.lists(st.tuples(callers, st.integers(0, 3), COMING | COMING | ROSTER), min_size=1, max_size=8))
    def come_and_go(self, deeds: list[tuple[int, int, c.Command]]) -> None:
        for by, has_invitation, command in deeds:
            caller = structs.replace(self.caller(by), has_invitation=bool(has_invitation))
            match command:
                case c.Connect(join=join):
                    self.do(self.watched.open, caller, join=join)
                case c.Disconnect():
                    self.do(self.watched.close, caller)
                case _:
                    self.ask(caller, command)

    @rule(
        deeds=st.lists(st.tuples(callers, TAKING_PART | CHAT | DOING), min_size=1, max_size=12),
        after=st.integers(0, SECOND),
    )
    def take_part(self, deeds: list[tuple[int, c.Command]], after: int) -> None:
        """Do a few things in one turn."""
        for by, command in deeds:
            self.watched.now = Millis(self.watched.now + after)
            self.watched.decide(self.caller(by), self.about(command))
        self.do(self.watched.flush)

    @rule(deeds=st.lists(DOING | CHAT | ROSTER, min_size=1, max_size=12), after=st.integers(0, 10 * SECOND))
    def teach(self, deeds: list[c.Command], after: int) -> None:
        """Use everything there is to use as the teacher, who may."""
        for command in deeds:
            self.watched.now = Millis(self.watched.now + after)
            self.ask(TEACHER, self.about(command))

    @rule(by=callers, command=SETTINGS)
    def set_up(self, by: int, command: c.Command) -> None:
        self.ask(self.caller(by), command)

    @rule(by=callers, command=ENDS, really=st.integers(0, 30))
    def end(self, by: int, command: c.Command, really: int) -> None:
        if really == 17 or isinstance(command, c.Start):
            self.ask(self.caller(by), command)

    @rule(ms=st.integers(0, 2 * GRACE))
    def let_time_pass(self, ms: int) -> None:
        self.do(self.watched.wait, ms)

    @rule()
    def restart(self) -> None:
        self.do(self.watched.restart)

    @rule(who=st.lists(st.sampled_from(PEOPLE)))
    def come_back(self, who: list[c.Caller]) -> None:
        for one in who:
            self.do(self.watched.open, one)

    def ask(self, by: c.Caller, command: c.Command) -> None:
        self.do(self.watched.ask, by, command)

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
        return command

    @invariant()
    def the_frames_keep_the_view(self) -> None:
        self.watched.check()


TestViews = Views.TestCase
TestViews.settings = settings(
    max_examples=3_000 if LONG else EXAMPLES,
    stateful_step_count=50 if LONG else 30,
    derandomize=not LONG and EXAMPLES == 100,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
