"""The socket of `/v1` on which clients send commands.

**Law:** a command takes the steps of `DirectCommandEndpoint` in the same order. Commands are decided in the order in
which they arrive. Each is answered once, after its commit, under the id that the client chose.
"""

import logging
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from actors.ports import LogUnavailable
from actors.session.ids import SessionId
from server.api.handlers import DirectCommandEndpoint
from server.api.pending_command import Pending
from server.api.routes import Api, CommandSocketRoute
from server.api.services import Services
from server.api.websocket import Listener, SocketEndpoint
from server.http.json_body import Decoder
from server.http.problems import Problem
from server.http.reply import Reply
from server.http.request_id import CURRENT
from server.http.uuids import new_id
from server.security.principal import Principal
from server.streams.subscriber import Subscriber
from server.usecases.command_inputs import load_inputs

logger = logging.getLogger(__name__)

SAFE_INT = (1 << 53) - 1


class Named(Struct, frozen=True):
    """The id, which every message of a client has."""

    id: Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(ge=-SAFE_INT, le=SAFE_INT)]


class Keyed(Struct, frozen=True):
    """The Idempotency-Key, which a message may have. All other fields belong to the command."""

    key: (
        Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[ -~]+$(?!\n)", description="ASCII characters")]
        | None
    ) = None


ENVELOPE = {field.name for struct in (Named, Keyed) for field in msgspec.structs.fields(struct)}
"""Fields of the message. No command may have a field with one of these names."""


class CommandSocketEndpoint(SocketEndpoint):
    """Serve a `CommandSocketRoute`."""

    _row: CommandSocketRoute

    def __init__(self, api: Api, row: CommandSocketRoute, services: Services) -> None:
        super().__init__(api, row, services)
        settings = services.settings
        self.commands = DirectCommandEndpoint(api, row.commands, services)
        self.named = Decoder(Named, max_depth=settings.limits.json_depth)
        self.keyed = Decoder(Keyed, max_depth=settings.limits.json_depth)

    async def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "CommandListener":
        """Return the listener for the client's commands. Raise Problem 404 if the session no longer exists."""
        ref = request.match_info["ref"]
        session_id, by_code = await self._services.session_lookup.resolve(ref)
        return CommandListener(self, self._services, principal, subscriber, session_id, by_code, ref)

    def printed(self, re: bytes, reply: Reply) -> bytes:
        """Return the frame of a reply. `re` is the id of its message as JSON."""
        return self._row.answered(re, reply)


class CommandListener(Listener):
    """Reads the commands of one client from its socket."""

    def __init__(
        self,
        socket: CommandSocketEndpoint,
        services: Services,
        principal: Principal,
        subscriber: Subscriber,
        session_id: SessionId,
        by_code: bool,
        ref: str,
    ) -> None:
        super().__init__()
        self.socket = socket
        self.services = services
        self.principal = principal
        self.subscriber = subscriber
        self.session_id = session_id
        self.by_code = by_code
        self.ref = ref

    async def take(self, raw: bytes) -> None:
        """Carry out a message, or tell the client why it is refused."""
        asked = SocketCommand(self)
        try:
            await self._take(raw, asked)
        except Problem as problem:
            asked.refuse(problem)
            if problem.status == 401:
                self.subscriber.close("expired")
        except LogUnavailable:
            asked.refuse(Problem(503, "unavailable", "Try again: the database is away.", retry_s=1))
        except Exception:
            logger.exception("a message in session %s failed", self.session_id)
            asked.refuse(Problem(500, "internal", "Something went wrong here."))

    async def _take(self, raw: bytes, asked: "SocketCommand") -> None:
        services, principal, commands = self.services, self.principal, self.socket.commands
        self.socket.named(raw)
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
        asked.re = bytes(fields["id"])
        key = self.socket.keyed(raw).key
        services.tokens.check(principal)
        command = commands.decoded(msgspec.json.encode({name: fields[name] for name in fields if name not in ENVELOPE}))
        commands.admit(principal)
        inputs = await load_inputs(services, self.session_id, principal, command)
        asked.send(self.session_id, commands.execute(principal, self.by_code, command, key, inputs))


class SocketCommand(Pending):
    """A command that arrived on a socket."""

    __slots__ = ("_listener", "re")

    def __init__(self, listener: CommandListener) -> None:
        request_id = CURRENT.get() or new_id()
        super().__init__(listener.socket.commands, listener.services, listener.ref, request_id)
        self._listener = listener
        self.re = b"null"

    def answer(self, reply: Reply) -> None:
        """Send the reply to the client and release the message's slot."""
        frame = self._listener.socket.printed(self.re, reply)
        self._listener.subscriber.write(frame, frame)
        self._listener.slots.release()
