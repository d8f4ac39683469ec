"""Who sees what: which events are for some only, and whose streams an event cuts off."""

from msgspec import UnsetType

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.permissions import allowed
from actors.session.state import State


def audience(state: State, event: e.Event, actor_id: UserId | None) -> frozenset[UserId] | None:
    """Name those whom an event concerns. Decided once per event, in the state after it.

    None: everyone but those in the lobby (`waiting`), who get only what names them."""
    match event:
        case e.ChatMessage(to=str(to)) | e.MessageDeleted(to=str(to)):
            sender = message.user_id if (message := state.messages.get(event.message_id)) else actor_id
            return frozenset({to} if sender is None else {to, sender})
        case e.MessageReacted(to=list(sides)):
            return frozenset(sides)
        case e.Signal(to=to):
            return frozenset({to})
        case e.UnmuteRequested(user_id=user_id):
            return moderators(state) | {user_id}
        case e.ParticipantWaiting(user_id=user_id) | e.ParticipantDenied(user_id=user_id):
            return moderators(state) | {user_id}
        case e.QuestionAsked(hidden=True):
            return moderators(state) | ({actor_id} if actor_id else frozenset())
        case e.QuestionDismissed(question_id=question_id):
            question = state.questions.get(question_id)
            return None if question is None or question.shown else moderators(state) | {question.user_id}
        case e.ParticipantInvited() | e.EventLogged() | e.AudioUploaded():
            return moderators(state)
        case (
            e.ParticipantOnline(user_id=user_id)
            | e.ParticipantOffline(user_id=user_id)
            | e.ParticipantLeft(user_id=user_id)
            | e.ParticipantKicked(user_id=user_id)
            | e.RoleChanged(user_id=user_id)
            | e.PermissionsChanged(user_id=user_id)
        ):
            return None if known_to_all(state, user_id) else moderators(state) | {user_id}
        case _:
            return None


def anonymous(event: e.Event) -> bool:
    """Say whether streams leave out who did it. The log knows."""
    return isinstance(event, e.QuestionAsked | e.QuestionDismissed | e.PollVoted) and event.anonymous


def known_to_all(state: State, user_id: UserId) -> bool:
    """Say whether everyone may hear of a participant, or only moderators: not of the lobby and the invited."""
    place = state.participants.get(user_id)
    return place is not None and place.joined_at is not None and place.status not in ("waiting", "invited")


def moderators(state: State) -> frozenset[UserId]:
    """Name who may moderate now: the owner, joined or not, and every participant with the permission."""
    # Looks closer only at those whom a role or a grant may have made one: there can be 10,000 others.
    candidates = (p.user_id for p in state.participants.values() if p.granted or p.role in ("host", "cohost"))
    able = {user_id for user_id in candidates if allowed(state, user_id, "moderate")}
    return frozenset(able | {state.session.owner_id})


def cut(event: e.Event) -> tuple[UserId, str] | None:
    """Name whose streams end with this event, and why."""
    match event:
        case e.ParticipantKicked(user_id=user_id) | e.ParticipantDenied(user_id=user_id):
            return user_id, "kicked"
        case e.ParticipantLeft(user_id=user_id):
            return user_id, "left"
        case _:
            return None


def shuts_out(event: e.Event) -> bool:
    """Say whether those who only look on have to go with this event: the session is not open to everybody any more."""
    if not isinstance(event, e.SessionUpdated) or isinstance(event.features, UnsetType):
        return False
    return event.features.lobby or not event.features.guests


def closes(event: e.Event) -> bool:
    """Say whether every stream of the session ends with this event."""
    return isinstance(event, e.SessionEnded | e.SessionCancelled | e.SessionDeleted)
