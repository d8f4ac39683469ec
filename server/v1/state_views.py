"""A session's state in `/v1`, as one viewer may see it: one Struct per shape, and one function that makes it.

Only `state_view` and `snapshot` decide what a viewer sees; the other functions print what they are given.
"""

from collections.abc import Hashable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, structs

from actors.session import state as s
from actors.session.aspects import playback, polls, recording
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import allowed, effective, waiting
from actors.session.visibility import asker, message_visible, question_visible, voters
from server.http.timestamps import rfc3339, when
from server.v1.views import Counts, SessionView, encode, session_view

CHAT_SHOWN = 50
"""The number of latest messages in a snapshot."""


class MediaView(Struct, frozen=True):
    """The media that a participant sends."""

    video: bool
    audio: bool
    screen: bool


class ParticipantView(Struct, frozen=True, kw_only=True):
    """A participant. `permissions` are those in force, from their role, the session's features and changes by hosts."""

    user_id: UserId
    number: int
    name: str
    role: s.Role
    status: s.Presence
    online: bool
    muted: bool
    hand_raised_at: str | None
    joined_at: str | None
    left_at: str | None
    guest: bool
    colour: str | None
    media: MediaView
    permissions: list[str]


class HandView(Struct, frozen=True):
    """A raised hand. The list is in the order in which hands were raised."""

    user_id: UserId
    raised_at: str
    waiting_s: float


class VoiceView(Struct, frozen=True):
    """A voice note. `duration` is in seconds, null if the file does not state it."""

    audio_id: str
    duration: float | None


class MessageView(Struct, frozen=True, kw_only=True):
    """A chat message. `to` is the recipient of a direct message, null for a message to everyone."""

    message_id: MessageId
    seq: int
    user_id: UserId
    name: str | None
    text: str
    at: str
    to: UserId | None
    reply_to: MessageId | None
    voice: VoiceView | None
    deleted: bool
    reactions: dict[str, list[UserId]]


class TrackView(Struct, frozen=True):
    """The selected track. `duration` is in seconds, null if the file does not state it."""

    audio_id: str
    title: str
    duration: float | None


class PlaybackView(Struct, frozen=True, kw_only=True):
    """`position` is the track's position at `at`, in seconds."""

    track: TrackView
    status: Literal["stopped", "playing", "paused"]
    position: float
    speed: float
    at: str
    server_time: str


class QuestionView(Struct, frozen=True, kw_only=True):
    """A question. Only moderators see the `user_id` of an anonymous one; `mine.asked` lists the viewer's own."""

    question_id: int
    user_id: UserId | None
    name: str | None
    text: str
    at: str
    status: Literal["hidden", "open", "answered", "dismissed"]
    anonymous: bool
    answer: str | None
    answered_by: UserId | None
    upvotes: int


class PollView(Struct, frozen=True, kw_only=True):
    """A poll. `counts` are the votes per option. `voters` are the options that each voter chose, null for an anonymous
    poll."""

    poll_id: int
    user_id: UserId
    question: str
    options: list[str]
    at: str
    multiple: bool
    anonymous: bool
    open: bool
    voted: int
    counts: list[int]
    voters: dict[UserId, list[int]] | None


class CodeView(Struct, frozen=True):
    """The shared code at its latest version."""

    version: int
    language: str
    text: str


class BoardView(Struct, frozen=True):
    """The whiteboard. `cleared` are the strokes that `board_restored` restores."""

    version: int
    strokes: list[s.Stroke]
    cleared: list[s.Stroke]


class RecordingView(Struct, frozen=True):
    """The recording that is running, and who started it."""

    recording_id: int
    user_id: UserId
    started_at: str


class MineView(Struct, frozen=True):
    """The viewer's own votes (options by poll), the questions that they upvoted, and the questions that they asked."""

    votes: dict[int, list[int]]
    upvoted: list[int]
    asked: list[int]


class StateView(Struct, frozen=True, kw_only=True):
    """A session as one viewer may see it. A stream opened with `cursor` continues from this state. A viewer in the
    lobby gets no cursor and no more than the session itself."""

    cursor: str | None
    session: SessionView
    participants: list[ParticipantView]
    hands: list[HandView]
    chat: list[MessageView]
    sharer: UserId | None
    playback: PlaybackView | None
    questions: list[QuestionView]
    polls: list[PollView]
    code: CodeView | None
    board: BoardView | None
    recording: RecordingView | None
    server_time: str
    you: ParticipantView | UnsetType | None = UNSET
    """The viewer as a participant. `snapshot` adds `you` and `mine`, so that viewers can share the rest."""
    mine: MineView | UnsetType = UNSET


def participant_view(state: s.State, participant: s.Participant) -> ParticipantView:
    """Return the view of a participant."""
    return ParticipantView(
        user_id=participant.user_id,
        number=participant.number,
        name=participant.name,
        role=participant.role,
        status=participant.status,
        online=participant.online,
        muted=participant.muted,
        hand_raised_at=when(state.hands.get(participant.user_id)),
        joined_at=when(participant.joined_at),
        left_at=when(participant.left_at),
        guest=participant.guest,
        colour=participant.colour,
        media=MediaView(participant.video, participant.audio, participant.screen),
        permissions=sorted(effective(state, participant)),
    )


def message_view(state: s.State, message: s.Message) -> MessageView:
    """Return the view of a chat message."""
    return MessageView(
        message_id=message.message_id,
        seq=message.seq,
        user_id=message.user_id,
        name=name_of(state, message.user_id),
        text=message.text,
        at=rfc3339(message.at),
        to=message.to,
        reply_to=message.reply_to,
        voice=None if message.voice is None else VoiceView(message.voice.audio_id, message.voice.duration_s),
        deleted=message.deleted,
        reactions=message.reactions,
    )


def name_of(state: s.State, user_id: UserId) -> str | None:
    """Return the name of a participant or of the owner, who may not have joined; None for anyone else."""
    participant, session = state.participants.get(user_id), state.session
    return participant.name if participant else session.owner_name if user_id == session.owner_id else None


def state_view(state: s.State, viewer: UserId, now: Millis) -> StateView:
    """Return the session as `viewer` may see it, without `you` and `mine`.

    No viewer gets direct messages between others. Only moderators get the lobby, participants who have left, questions
    that await approval and the authors of anonymous questions. A viewer in the lobby gets only the session itself."""
    session, server_time = session_view(state.session), rfc3339(now)
    if waiting(state, viewer):
        return StateView(
            cursor=None, session=session, participants=[], hands=[], chat=[], sharer=None, playback=None, questions=[],
            polls=[], code=None, board=None, recording=None, server_time=server_time,
        )  # fmt: skip
    moderator = allowed(state, viewer, "moderate")
    latest = [m for m in state.messages.values() if message_visible(m, viewer)][-CHAT_SHOWN:]
    return StateView(
        cursor=f"{state.epoch}-{state.seq}",
        session=structs.replace(session, counts=counts(state)),
        participants=[
            participant_view(state, participant)
            for participant in state.participants.values()
            if moderator or participant.status == "joined"
        ],
        hands=[
            HandView(user_id, rfc3339(raised_at), max(0, now - raised_at) / 1000)
            for user_id, raised_at in state.hands.items()
        ],
        chat=[message_view(state, message) for message in latest],
        sharer=state.sharer,
        playback=None if state.playback is None else playback_view(state.playback, now),
        questions=[
            question_view(state, question, moderator)
            for question in state.questions.values()
            if question.status != "dismissed" and question_visible(question, viewer, moderator=moderator)
        ],
        polls=[poll_view(poll) for poll in state.polls.values()],
        code=CodeView(state.code.version, state.code.language, state.code.text),
        board=board_view(state),
        recording=None if (running := recording.running(state)) is None else recording_view(running),
        server_time=server_time,
    )


def counts(state: s.State) -> Counts:
    """Count the participants who have joined. Unlike in lists of sessions, the lobby is left out: only moderators see
    it."""
    online = sum(one.online and one.status == "joined" for one in state.participants.values())
    return Counts(state.session.joined, online)


def playback_view(playing: s.Playback, now: Millis) -> PlaybackView:
    """Return the playback with its position at `now`."""
    track = playing.track
    return PlaybackView(
        track=TrackView(track.audio_id, track.title, track.duration_s),
        status=playing.status,
        position=playback.position_at(playing, now),
        speed=playing.speed,
        at=rfc3339(now),
        server_time=rfc3339(now),
    )


def question_view(state: s.State, question: s.Question, moderator: bool) -> QuestionView:
    """Return the view of a question, with its author unless it is anonymous and the viewer no moderator."""
    user_id = asker(question, confidant=moderator)
    return QuestionView(
        question_id=question.question_id,
        user_id=user_id,
        name=None if user_id is None else name_of(state, user_id),
        text=question.text,
        at=rfc3339(question.at),
        status=question.status,
        anonymous=question.anonymous,
        answer=question.answer,
        answered_by=question.answered_by,
        upvotes=len(question.upvotes),
    )


def poll_view(poll: s.Poll) -> PollView:
    """Return the view of a poll, with its voters unless it is anonymous."""
    return PollView(
        poll_id=poll.poll_id,
        user_id=poll.user_id,
        question=poll.question,
        options=poll.options,
        at=rfc3339(poll.at),
        multiple=poll.multiple,
        anonymous=poll.anonymous,
        open=poll.open,
        voted=len(poll.votes),
        counts=polls.results(poll),
        voters=voters(poll),
    )


def board_view(state: s.State) -> BoardView:
    """Return the view of the whiteboard."""
    return BoardView(state.board.version, list(state.board.strokes.values()), list(state.cleared.values()))


def recording_view(running: s.Recording) -> RecordingView:
    """Return the view of a running recording."""
    return RecordingView(running.recording_id, running.user_id, rfc3339(running.started_at))


def mine_view(state: s.State, viewer: UserId) -> MineView:
    """Return the viewer's own votes, upvotes and questions."""
    questions = state.questions.values()
    return MineView(
        votes={poll.poll_id: poll.votes[viewer] for poll in state.polls.values() if viewer in poll.votes},
        upvoted=[question.question_id for question in questions if viewer in question.upvotes],
        asked=[question.question_id for question in questions if question.user_id == viewer],
    )


def snapshot(state: s.State, viewer: UserId, now: Millis, shared: dict[Hashable, bytes]) -> bytes:
    """Encode `state_view` with `you` and `mine`. `shared` caches the part that viewers of one state have in common."""
    alone = (
        waiting(state, viewer)
        or any(m.to is not None and message_visible(m, viewer) for m in state.messages.values())
        or any(q.user_id == viewer and not q.visible for q in state.questions.values())
    )
    key = viewer if alone else allowed(state, viewer, "moderate")
    body = shared.get(key)
    if body is None:
        body = shared[key] = encode(state_view(state, viewer, now))
    you = state.participants.get(viewer)
    own = b"null" if you is None else encode(participant_view(state, you))
    return b'%b,"you":%b,"mine":%b}' % (body[:-1], own, encode(mine_view(state, viewer)))
