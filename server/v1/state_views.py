"""What `/v1` says of a session's state, as one viewer may see it: one Struct per shape, made by one function each."""

from collections.abc import Hashable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, structs

from actors.session import state as s
from actors.session.aspects import playback, polls, recording
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import allowed, effective, waiting
from server.http.timestamps import rfc3339, when
from server.v1.views import Counts, SessionView, encode, session_view

CHAT_SHOWN = 50


class MediaView(Struct, frozen=True):
    video: bool
    audio: bool
    screen: bool


class ParticipantView(Struct, frozen=True, kw_only=True):
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
    """A raised hand; the list is the queue."""

    user_id: UserId
    raised_at: str
    waiting_s: float


class VoiceView(Struct, frozen=True):
    audio_id: str
    duration: float | None


class MessageView(Struct, frozen=True, kw_only=True):
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
    audio_id: str
    title: str
    duration: float | None


class PlaybackView(Struct, frozen=True, kw_only=True):
    """`position`, in seconds, is where the track stands at `at`."""

    track: TrackView
    status: Literal["stopped", "playing", "paused"]
    position: float
    speed: float
    at: str
    server_time: str


class QuestionView(Struct, frozen=True, kw_only=True):
    """`user_id` of an anonymous question is for moderators only; `mine.asked` says which are one's own."""

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
    """`counts`: votes per option. `voters`: who chose what, where the poll is not anonymous."""

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
    version: int
    language: str
    text: str


class BoardView(Struct, frozen=True):
    """`cleared`: the strokes that `board_restored` brings back."""

    version: int
    strokes: list[s.Stroke]
    cleared: list[s.Stroke]


class RecordingView(Struct, frozen=True):
    recording_id: int
    user_id: UserId
    started_at: str


class MineView(Struct, frozen=True):
    """What the viewer has done that the rest does not say: votes by poll, questions upvoted, questions asked."""

    votes: dict[int, list[int]]
    upvoted: list[int]
    asked: list[int]


class StateView(Struct, frozen=True, kw_only=True):
    """A session as one viewer may see it. `cursor` is where a stream goes on; null in the lobby."""

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
    """The viewer's own place; added by `snapshot` with `mine`, so that all else can be shared."""
    mine: MineView | UnsetType = UNSET


def participant_view(state: s.State, place: s.Participant) -> ParticipantView:
    return ParticipantView(
        user_id=place.user_id,
        number=place.number,
        name=place.name,
        role=place.role,
        status=place.status,
        online=place.online,
        muted=place.muted,
        hand_raised_at=when(state.hands.get(place.user_id)),
        joined_at=when(place.joined_at),
        left_at=when(place.left_at),
        guest=place.guest,
        colour=place.colour,
        media=MediaView(place.video, place.audio, place.screen),
        permissions=sorted(effective(state, place)),
    )


def message_view(state: s.State, message: s.Message) -> MessageView:
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
    place, session = state.participants.get(user_id), state.session
    return place.name if place else session.owner_name if user_id == session.owner_id else None


def concerns(message: s.Message, viewer: UserId) -> bool:
    return message.to is None or viewer in (message.to, message.user_id)


def state_view(state: s.State, viewer: UserId, now: Millis) -> StateView:
    """Show a state to someone: others' direct messages never; the lobby, the departed, questions that wait for approval
    and who is behind an anonymous one to moderators only."""
    session, server_time = session_view(state.session), rfc3339(now)
    if waiting(state, viewer):
        return StateView(
            cursor=None, session=session, participants=[], hands=[], chat=[], sharer=None, playback=None, questions=[],
            polls=[], code=None, board=None, recording=None, server_time=server_time,
        )  # fmt: skip
    moderator = allowed(state, viewer, "moderate")
    shown = [m for m in state.messages.values() if concerns(m, viewer)][-CHAT_SHOWN:]
    return StateView(
        cursor=f"{state.epoch}-{state.seq}",
        session=structs.replace(session, counts=counts(state)),
        participants=[
            participant_view(state, place)
            for place in state.participants.values()
            if moderator or place.status == "joined"
        ],
        hands=[
            HandView(user_id, rfc3339(raised_at), max(0, now - raised_at) / 1000)
            for user_id, raised_at in state.hands.items()
        ],
        chat=[message_view(state, message) for message in shown],
        sharer=state.sharer,
        playback=None if state.playback is None else playback_view(state.playback, now),
        questions=[
            question_view(state, question, moderator)
            for question in state.questions.values()
            if question.status != "dismissed" and (moderator or question.shown or question.user_id == viewer)
        ],
        polls=[poll_view(poll) for poll in state.polls.values()],
        code=CodeView(state.code.version, state.code.language, state.code.text),
        board=board_view(state),
        recording=None if (running := recording.running(state)) is None else recording_view(running),
        server_time=server_time,
    )


def counts(state: s.State) -> Counts:
    """Count those who have joined. The lobby, which only moderators see, is left out, unlike in lists of sessions."""
    online = sum(one.online and one.status == "joined" for one in state.participants.values())
    return Counts(state.session.joined, online)


def playback_view(playing: s.Playback, now: Millis) -> PlaybackView:
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
    known = moderator or not question.anonymous
    return QuestionView(
        question_id=question.question_id,
        user_id=question.user_id if known else None,
        name=name_of(state, question.user_id) if known else None,
        text=question.text,
        at=rfc3339(question.at),
        status=question.status,
        anonymous=question.anonymous,
        answer=question.answer,
        answered_by=question.answered_by,
        upvotes=len(question.upvotes),
    )


def poll_view(poll: s.Poll) -> PollView:
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
        voters=None if poll.anonymous else poll.votes,
    )


def board_view(state: s.State) -> BoardView:
    return BoardView(state.board.version, list(state.board.strokes.values()), list(state.cleared.values()))


def recording_view(running: s.Recording) -> RecordingView:
    return RecordingView(running.recording_id, running.user_id, rfc3339(running.started_at))


def mine_view(state: s.State, viewer: UserId) -> MineView:
    questions = state.questions.values()
    return MineView(
        votes={poll.poll_id: poll.votes[viewer] for poll in state.polls.values() if viewer in poll.votes},
        upvoted=[question.question_id for question in questions if viewer in question.upvotes],
        asked=[question.question_id for question in questions if question.user_id == viewer],
    )


def snapshot(state: s.State, viewer: UserId, now: Millis, shared: dict[Hashable, bytes]) -> bytes:
    """Encode `state_view` with the viewer's own place. `shared` keeps, for one state, what is the same for many."""
    alone = (
        waiting(state, viewer)
        or any(m.to is not None and concerns(m, viewer) for m in state.messages.values())
        or any(q.user_id == viewer and not q.shown for q in state.questions.values())
    )
    key = viewer if alone else allowed(state, viewer, "moderate")
    body = shared.get(key)
    if body is None:
        body = shared[key] = encode(state_view(state, viewer, now))
    you = state.participants.get(viewer)
    own = b"null" if you is None else encode(participant_view(state, you))
    return b'%b,"you":%b,"mine":%b}' % (body[:-1], own, encode(mine_view(state, viewer)))
