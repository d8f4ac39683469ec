"""The access policy: who may read what of a session.

**Law:** every read of a session passes `check` with an `Ask`. Anything that no rule allows is refused.
"""

from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from actors.session.errors import Reason, Rejected
from actors.session.ids import UserId
from actors.session.state import Presence, Role, State, Status

CLOSED: frozenset[Status] = frozenset({"ended", "cancelled"})
"""The statuses of a session that is over: nobody is in it any more, and its participants may read its history."""


class Ask(Enum):
    """A part of a session that a caller wants to read."""

    CARD = "card"
    """Its title, times and counts. Invited participants and those in the lobby may read them too."""
    STATE = "state"
    """Its state and its stream. A participant in the lobby receives only their own part of it."""
    HISTORY = "history"
    """Everything that was visible to its participants: chat, questions, code, recordings, replays."""
    MODERATION = "moderation"
    """Everything that hosts and cohosts see: the log, statistics, exports."""
    OWNERSHIP = "ownership"
    """Everything that only its owner may read or do."""


class Membership(Struct, frozen=True):
    """A user's relation to a session. `status` and `role` are None for a user who is not in the roster.

    `ever_joined`: the user has been in the session at some time."""

    owner: bool
    status: Presence | None
    role: Role | None
    ever_joined: bool
    session: Status

    @property
    def moderates(self) -> bool:
        """Whether the user is the owner, a host or a cohost."""
        return self.owner or self.role in ("host", "cohost")

    @property
    def over(self) -> bool:
        """Whether the session has ended or was cancelled."""
        return self.session in CLOSED


def membership(state: State, user_id: UserId) -> Membership:
    """Return a user's membership of a session."""
    owner, session = user_id == state.session.owner_id, state.session.status
    participant = state.participants.get(user_id)
    if participant is None:
        return Membership(owner, None, None, False, session)
    return Membership(owner, participant.status, participant.role, participant.joined_at is not None, session)


def may(ask: Ask, who: Membership) -> bool:
    """Return whether a user may read what they ask for."""
    # The owner reads everything, and reads it before they join, too.
    return who.owner or ALLOWED[ask](who)


def check(ask: Ask, who: Membership) -> None:
    """Raise Rejected if a user may not read what they ask for."""
    if not may(ask, who):
        raise refusal(ask, who)


def refusal(ask: Ask, who: Membership) -> Rejected:
    """Return why a user may not read what they ask for."""
    if not _in_roster(who):
        return Rejected(Reason.NOT_JOINED, "Join the session first.")
    if ask is Ask.OWNERSHIP:
        return Rejected(Reason.NOT_OWNER, "Only the session's owner may do this.")
    if ask is Ask.MODERATION:
        return Rejected(Reason.NOT_PERMITTED, "Only hosts and cohosts may see this.")
    return Rejected(Reason.NOT_JOINED, "Join the session first.")


def _in_roster(who: Membership) -> bool:
    return who.status in ("invited", "waiting", "joined", "left")


def _was_there(who: Membership) -> bool:
    """Return whether the user is in the session or, once it is over, has been in it without being removed."""
    return who.status == "joined" or (who.over and who.ever_joined and _in_roster(who))


ALLOWED: dict[Ask, Callable[[Membership], bool]] = {
    Ask.CARD: _in_roster,
    Ask.STATE: lambda who: who.status == "waiting" or _was_there(who),
    Ask.HISTORY: _was_there,
    Ask.MODERATION: lambda who: _in_roster(who) and who.role in ("host", "cohost"),
    Ask.OWNERSHIP: lambda who: False,
}
"""The rule for each `Ask` (tested). The owner needs none."""
