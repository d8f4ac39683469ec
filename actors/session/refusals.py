"""The reasons for which a session may refuse each command, for the descriptions of APIs.

A test compares them with the reasons that the source of the aspects raises.
"""

from collections.abc import Mapping, Set
from typing import get_args

from actors.session import commands as c
from actors.session.errors import Reason
from actors.session.machine import ALLOWED_STATUS

NEVER: Set[Reason] = frozenset()
PRESENT = frozenset({Reason.KICKED, Reason.NOT_JOINED, Reason.WAITING})
"""For commands that only participants send."""
PERMITTED = PRESENT | {Reason.NOT_PERMITTED}
"""For commands that require a permission."""
OF_COMMANDS: Mapping[type[c.Command], Set[Reason]] = {
    **dict.fromkeys((c.Tick, c.Disconnect, c.LoseConnections, c.Compact, c.ReportRecording), NEVER),
    **dict.fromkeys((c.Start, c.End, c.Lock, c.Unlock, c.MuteAll, c.LowerAll, c.Typing), PERMITTED),
    c.Cancel: PERMITTED | {Reason.NOT_SCHEDULED},
    c.Update: PERMITTED | {Reason.NOT_ALLOWED},
    c.Delete: {Reason.NOT_PERMITTED},
    c.LogAudioUpload: {Reason.NOT_PERMITTED},
    **dict.fromkeys(
        (c.Join, c.Connect),
        PRESENT | {Reason.FEATURE_OFF, Reason.FULL, Reason.LOCKED, Reason.NOT_INVITED, Reason.TOO_MANY},
    ),
    c.Leave: PRESENT,
    c.Invite: PERMITTED | {Reason.FULL, Reason.TOO_MANY, Reason.UNKNOWN_PARTICIPANT},
    c.Admit: PERMITTED | {Reason.FULL, Reason.UNKNOWN_PARTICIPANT},
    **dict.fromkeys((c.Deny, c.Mute, c.Unmute, c.RequestUnmute, c.LowerHand), PERMITTED | {Reason.UNKNOWN_PARTICIPANT}),
    **dict.fromkeys((c.Kick, c.SetPermissions), PERMITTED | {Reason.NOT_ALLOWED, Reason.UNKNOWN_PARTICIPANT}),
    c.SetPresent: PERMITTED
    | {Reason.FEATURE_OFF, Reason.FULL, Reason.LOCKED, Reason.NOT_INVITED, Reason.TOO_MANY, Reason.UNKNOWN_PARTICIPANT},
    c.SetRole: PERMITTED | {Reason.LAST_HOST, Reason.UNKNOWN_PARTICIPANT},
    c.RaiseHand: PRESENT | {Reason.FEATURE_OFF},
    c.CallNext: PERMITTED | {Reason.QUEUE_EMPTY},
    c.SetMedia: PERMITTED | {Reason.SCREEN_TAKEN},
    c.SelectAudio: PERMITTED | {Reason.UNKNOWN_AUDIO},
    **dict.fromkeys((c.Play, c.Seek), PERMITTED | {Reason.NOT_ALLOWED, Reason.NO_AUDIO}),
    **dict.fromkeys((c.Pause, c.SetSpeed, c.Stop), PERMITTED | {Reason.NO_AUDIO}),
    c.SendMessage: PERMITTED
    | {Reason.FEATURE_OFF, Reason.NOT_ALLOWED, Reason.UNKNOWN_MESSAGE, Reason.UNKNOWN_PARTICIPANT},
    c.DeleteMessage: PERMITTED | {Reason.UNKNOWN_MESSAGE},
    c.React: PERMITTED | {Reason.FEATURE_OFF, Reason.TOO_MANY, Reason.UNKNOWN_MESSAGE},
    c.SendVoice: PERMITTED
    | {
        Reason.FEATURE_OFF,
        Reason.NOT_ALLOWED,
        Reason.UNKNOWN_AUDIO,
        Reason.UNKNOWN_MESSAGE,
        Reason.UNKNOWN_PARTICIPANT,
    },
    c.AskQuestion: PERMITTED | {Reason.FEATURE_OFF, Reason.TOO_MANY},
    **dict.fromkeys((c.ApproveQuestion, c.DismissQuestion), PERMITTED | {Reason.UNKNOWN_QUESTION}),
    **dict.fromkeys((c.UpvoteQuestion, c.AnswerQuestion), PERMITTED | {Reason.NOT_ALLOWED, Reason.UNKNOWN_QUESTION}),
    **dict.fromkeys((c.OpenPoll, c.Draw), PERMITTED | {Reason.FEATURE_OFF, Reason.NOT_ALLOWED, Reason.TOO_MANY}),
    c.Vote: PERMITTED | {Reason.ALREADY_VOTED, Reason.NOT_ALLOWED, Reason.POLL_CLOSED, Reason.UNKNOWN_POLL},
    c.ClosePoll: PERMITTED | {Reason.UNKNOWN_POLL},
    c.EditCode: PERMITTED | {Reason.BEHIND, Reason.FEATURE_OFF, Reason.NOT_ALLOWED, Reason.TOO_LARGE},
    **dict.fromkeys(
        (c.SetLanguage, c.MergeCode, c.Erase, c.ClearBoard, c.RestoreBoard), PERMITTED | {Reason.FEATURE_OFF}
    ),
    c.RestoreCode: PERMITTED | {Reason.FEATURE_OFF, Reason.UNKNOWN_VERSION},
    c.Merge: PERMITTED | {Reason.FEATURE_OFF, Reason.NOT_ALLOWED, Reason.TOO_LARGE},
    c.StartRecording: PERMITTED | {Reason.FEATURE_OFF, Reason.RECORDING, Reason.TOO_MANY},
    c.StopRecording: PERMITTED | {Reason.NOT_RECORDING},
    c.LogEvent: PRESENT | {Reason.NOT_ALLOWED, Reason.TOO_LARGE},
    c.Signal: PRESENT | {Reason.TOO_LARGE, Reason.UNKNOWN_PARTICIPANT},
    **dict.fromkeys((c.MoveCursor, c.Relay), PRESENT | {Reason.TOO_LARGE}),
}


def reasons(command: type[c.Command]) -> Set[Reason]:
    """Return every reason for which a session may refuse a command, including its status and a kicked caller."""
    allowed = ALLOWED_STATUS[command]
    late = {Reason.ENDED, Reason.CANCELLED} if "ended" not in allowed else NEVER
    early = {Reason.NOT_LIVE} if "scheduled" not in allowed else NEVER
    return OF_COMMANDS[command] | late | early | {Reason.KICKED}


ALL: Set[Reason] = frozenset().union(*(reasons(command) for command in get_args(c.WireCommand)))
"""Every reason for which a command from a client may be refused."""
