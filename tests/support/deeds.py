"""Hypothesis strategies for commands, for tests of invariants.

They draw from few ids, so that commands affect the same objects; some ids are unknown.
"""

from datetime import UTC, datetime
from typing import get_args

import msgspec
from hypothesis import strategies as st

from actors.session import commands as c
from actors.session.ids import MessageId, UserId
from actors.session.state import BoardTool, Features, FeaturesUpdate, Permission, Role
from tests.support.script import (
    ANN,
    AUDIO,
    BEN,
    CAT,
    EVE,
    GUS,
    SONG,
    START,
    TEACHER,
    UNKNOWN,
    UNMEASURED,
    knowing,
)

PEOPLE = [knowing(one) for one in (TEACHER, ANN, BEN, CAT, EVE, GUS)]
OWNER = TEACHER.user_id

# Commands. Few ids, so that they affect the same objects; some are unknown.

someone = st.sampled_from([*(one.user_id for one in PEOPLE)] * 3 + [UserId("nobody")])
callers = st.integers(0, 23)
"""Rather those who are in than the others: see `Sessions.caller`."""
message = st.integers(1, 100).map(MessageId)
flags = st.booleans()
maybe = st.none() | someone
some_permissions = st.lists(st.sampled_from(get_args(Permission)), max_size=3)
switches = {name: st.just(msgspec.UNSET) | flags for name in Features.__struct_fields__}

COMING = st.sampled_from([c.Join(), c.Connect(join=True), c.Connect(), c.Disconnect(), c.Leave()])
ROSTER = (
    st.builds(c.Invite, someone)
    | st.builds(c.Admit, someone)
    | st.builds(c.Deny, someone)
    | st.builds(c.Kick, someone, flags)
    | st.builds(c.SetPresent, someone, flags)
    | st.builds(c.SetRole, someone, st.sampled_from(get_args(Role)))
    | st.builds(c.SetPermissions, someone, some_permissions, some_permissions)
)
SPEAKING = (
    st.builds(c.Mute, maybe)
    | st.builds(c.Unmute, maybe)
    | st.builds(c.MuteAll, st.lists(someone, max_size=2))
    | st.builds(c.RequestUnmute, someone)
    | st.builds(c.LowerHand, maybe)
    | st.sampled_from([c.RaiseHand(), c.RaiseHand(), c.LowerAll(), c.CallNext()])
)
SENDING = st.builds(c.SendMessage, text=st.just("…"), to=maybe, reply_to=st.none() | message)
CHAT = (
    SENDING
    | SENDING
    | st.builds(c.DeleteMessage, message)
    | st.builds(c.React, message, st.sampled_from(["👍", "👎"]), flags)
    | st.builds(c.SendVoice, st.sampled_from([AUDIO, UNKNOWN]), maybe)
)
unset = st.just(msgspec.UNSET)
few = st.integers(0, 6)
positions = st.floats(0, 70)
speeds = st.sampled_from([0.5, 1.0, 1.3, 2.0])
change = st.builds(c.Change, few, st.integers(0, 3), st.sampled_from(["", "x", "äöü", "𝄞"]))
changes = st.lists(change, max_size=3)
text = st.sampled_from(["", "let x = 1", "äöü 𝄞"])
MEDIA = st.builds(c.SetMedia, video=unset | flags, audio=unset | flags, screen=unset | flags)
PLAYBACK = (
    st.builds(c.SelectAudio, st.sampled_from([AUDIO, AUDIO, UNMEASURED, UNKNOWN]))
    | st.builds(c.Play, st.none() | positions, st.none() | speeds)
    | st.builds(c.Seek, positions)
    | st.builds(c.SetSpeed, speeds)
    | st.sampled_from([c.Play(), c.Play(), c.Pause(), c.Stop()])
)
QUESTIONS = (
    st.builds(c.AskQuestion, st.just("?"), flags)
    | st.builds(c.AskQuestion, st.just("?"), flags)
    | st.builds(c.ApproveQuestion, few)
    | st.builds(c.UpvoteQuestion, few, flags)
    | st.builds(c.AnswerQuestion, few, st.none() | st.just("Because."))
    | st.builds(c.DismissQuestion, few)
)
POLLS = (
    st.builds(c.OpenPoll, st.just("Which?"), st.sampled_from([["A", "B"], ["A", "B", "C"], ["A", "A"]]), flags, flags)
    | st.builds(c.Vote, few, st.lists(st.integers(0, 3), min_size=1, max_size=3))
    | st.builds(c.Vote, few, st.lists(st.integers(0, 1), min_size=1, max_size=1))
    | st.builds(c.ClosePoll, few)
)
CODE = (
    st.builds(c.EditCode, few, text=text)
    | st.builds(c.EditCode, few, changes=changes)
    | st.builds(c.Merge, st.lists(change.map(c.Change.stored), max_size=3), st.just("AAA="))
    | st.builds(c.RestoreCode, few)
    | st.builds(c.SetLanguage, st.sampled_from(["python", "javascript"]))
    | st.sampled_from([c.MergeCode("AAA="), c.Compact("AAA=")])
)
points = st.lists(st.floats(0, 1), min_size=2, max_size=7)
BOARD = (
    st.builds(c.Draw, points=points, tool=st.sampled_from(get_args(BoardTool)), text=st.none() | st.just("Hi"))
    | st.builds(c.Draw, points=st.just([0.0, 0.5]))
    | st.builds(c.Erase, st.lists(few, min_size=1, max_size=3))
    | st.sampled_from([c.ClearBoard(), c.RestoreBoard()])
)
RECORDING = st.sampled_from([c.StartRecording(), c.StopRecording()])
DOING = MEDIA | PLAYBACK | PLAYBACK | QUESTIONS | POLLS | CODE | BOARD | RECORDING
RELAYED = (
    st.builds(c.LogEvent, st.sampled_from(["error", "export_board", "participant_joined"]))
    | st.builds(c.Signal, someone, st.just({"sdp": ""}))
    | st.sampled_from([c.MoveCursor({"x": 0}), c.Typing(), c.LogAudioUpload(SONG)])
)
TAKING_PART = ROSTER | SPEAKING | RELAYED
soon = st.none() | st.integers(1, 300).map(lambda s: datetime.fromtimestamp(START / 1000 + s, UTC))
SETTINGS = st.sampled_from([c.Lock(), c.Unlock()]) | st.builds(
    c.Update,
    title=st.just(msgspec.UNSET) | st.sampled_from(["Physics", "Maths"]),
    capacity=st.just(msgspec.UNSET) | st.integers(1, 5),
    mute_on_join=st.just(msgspec.UNSET) | flags,
    starts_at=st.just(msgspec.UNSET) | soon,
    features=st.just(msgspec.UNSET) | st.builds(FeaturesUpdate, **switches),
)
ENDS = st.sampled_from([c.Start(), c.End(), c.Cancel(), c.Delete()])
