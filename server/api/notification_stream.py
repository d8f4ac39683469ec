"""The stream of the caller's own notifications. A `StreamEndpoint` that a notification feed supplies with frames."""

from typing import cast

from aiohttp import web

from server.api.identity import USER
from server.api.routes import UserStreamRoute
from server.api.sse import StreamEndpoint, bound_connection, cursor_of
from server.streams.notification_feed import NotificationSubscriber
from storage.notifications import StoredNotification


class UserStreamEndpoint(StreamEndpoint):
    """Serves a `UserStreamRoute`."""

    _row: UserStreamRoute
    subscriber = NotificationSubscriber

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        ticket = request.query.get("ticket")
        if ticket is not None:
            self.admit_read(request, None)
            principal = services.tickets.redeem(ticket, None)
            services.tokens.require_open(principal.login)
            request[USER] = principal.user_id
        else:
            verified = await self.principal(request, request.query)
            assert verified is not None
            principal = verified
        principal.require_scope(None)
        with self.counted(principal, cursor_of(request)) as subscriber:
            reader = cast(NotificationSubscriber[StoredNotification], subscriber)
            first = await services.user_streams.attach(reader, encode_state=row.standing, encode=row.told)
            bound_connection(request, services)
            return await self._stream(request, principal, reader, first)
