"""What handlers work with: everything the composition root has put together, in one place."""

from collections import OrderedDict

from msgspec import Struct
from prometheus_client import CollectorRegistry

from actors.directory import Directory
from actors.session.commands import Person
from actors.session.ids import SessionId, UserId
from actors.session.state import Kind
from server.auth import Principal, Tickets, Tokens
from server.config import Settings
from server.errors import Problem, unknown_session
from server.forms import Places
from server.hub import Hub
from server.limits import Rate
from server.logs import RequestLog
from server.notifications import UserStreams
from server.outbox import Dispatcher
from server.passwords import Passwords
from server.push.invitations import Invitations
from server.rooms.inbox import Ears
from server.rooms.keeper import Keeper
from server.signing import SignedUrls
from server.webhooks import Hooks
from storage.audio import Library
from storage.blobs import Blobs
from storage.bookings import Bookings
from storage.creations import Creations
from storage.devices import Devices
from storage.event_log import PostgresEventLog
from storage.logs import Logs
from storage.records import Records
from storage.rooms import RoomLedger
from storage.sessions import Found, Naming, Sessions
from storage.users import Users

REFS_KEPT = 100_000


class Refs:
    """Finds sessions by id, number, name or code; remembers what never changes."""

    def __init__(self, sessions: Sessions, *, kept: int = REFS_KEPT) -> None:
        self._sessions = sessions
        self._kept = kept
        self._known: OrderedDict[str, tuple[SessionId, bool]] = OrderedDict()
        self._places: dict[SessionId, list[str]] = {}
        """By what each session is known: to forget one must not take a look at all of them."""

    async def resolve(self, ref: str) -> tuple[SessionId, bool]:
        """Give a session's id, and whether `ref` is its code. Raises: Problem 404."""
        known = self._known.get(ref)
        if known is None:
            # What cannot be printed, NUL and half a surrogate among it, is no name; PostgreSQL takes neither.
            known = await self._sessions.resolve(ref) if ref.isprintable() else None
            if known is None:
                raise unknown_session(ref)
            self._keep(ref, known)
        return known

    def _keep(self, place: str, known: tuple[SessionId, bool]) -> tuple[SessionId, bool]:
        if place not in self._known:
            self._known[place] = known
            self._places.setdefault(known[0], []).append(place)
            if len(self._known) > self._kept:
                oldest, (session_id, _) = self._known.popitem(last=False)
                self._places[session_id].remove(oldest)
                if not self._places[session_id]:
                    del self._places[session_id]
        return known

    async def within(self, kind: Kind, dialect: str | None, named: Naming, ref: str) -> SessionId:
        """Give the id of a session of a kind, with `dialect` of one that was made through it. Raises: Problem 404."""
        place = f"{kind} {dialect} {named} {ref}"
        known = self._known.get(place)
        if known is None:
            found = await self._sessions.within(kind, dialect, named, ref) if ref.isprintable() else None
            if found is None:
                raise unknown_session(ref)
            known = self._keep(place, (found, named == "code"))
        return known[0]

    def known(self, ref: str) -> tuple[SessionId, bool] | None:
        """Give what `resolve` would, if that needs no looking up."""
        return self._known.get(ref)

    def forget(self, session_id: SessionId) -> None:
        """A session has been deleted: it is not found any more."""
        for place in self._places.pop(session_id, ()):
            del self._known[place]


class Services(Struct, frozen=True):
    settings: Settings
    requests: RequestLog
    directory: Directory
    hub: Hub
    log: PostgresEventLog
    sessions: Sessions
    bookings: Bookings
    creations: Creations
    records: Records
    logs: Logs
    """Classrooms' logs, by numbers."""
    users: Users
    refs: Refs
    tokens: Tokens
    tickets: Tickets
    urls: SignedUrls
    """To recordings."""
    passwords: Passwords
    registry: CollectorRegistry
    commands: Rate
    """Per user."""
    reads: Rate
    """Per user."""
    address_reads: Rate
    """Per address, of who has no credential."""
    attempts: Rate
    """At logging in: per account."""
    addresses: Rate
    """At logging in and registering: per address, behind which a whole school may be."""
    joins: Rate
    """With a code that leads nowhere: per user, and per address of who has no account."""
    guests: Rate
    """Per address."""
    audio: Library
    blobs: Blobs
    uploads: Places
    audio_urls: SignedUrls
    """To pieces of audio."""
    dispatcher: Dispatcher
    hooks: Hooks
    devices: Devices
    invitations: Invitations
    user_streams: UserStreams
    rooms: Keeper
    ears: Ears
    """What providers of rooms say."""
    ledger: RoomLedger

    async def visible(self, session_id: SessionId, principal: Principal, ref: str) -> Found:
        """Find a session for someone who owns it or has a place in it. Raises: Problem 404, 403."""
        found = await self.sessions.find(session_id, principal.user_id)
        if found is None:
            raise unknown_session(ref)
        if found.session.owner_id != principal.user_id and found.place in (None, "kicked", "denied"):
            raise Problem(403, "not_joined", "You have no place in this session; join it first.")
        return found

    async def moderated(self, session_id: SessionId, principal: Principal, ref: str) -> Found:
        """Find a session for its owner, hosts and cohosts. Raises: Problem 404, 403."""
        found = await self.visible(session_id, principal, ref)
        if found.session.owner_id != principal.user_id and found.role not in ("host", "cohost"):
            raise Problem(403, "not_permitted", "Only hosts and cohosts may see this.")
        return found


def known_people(people: dict[UserId, Person], user_id: UserId) -> dict[UserId, Person]:
    """Raises: Problem 404 when the user was not found."""
    if user_id not in people:
        raise Problem(404, "unknown_user", f"There is no user {user_id!r}.", field="user_id")
    return people
