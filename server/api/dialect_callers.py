"""Who calls a dialect's row, which session its path names, and whether the row is for the caller.

**Law:** identity is a verified token's; a name that a client puts beside it has to be its own. It counts by itself
only in a dialect that the settings have declared trusting.
"""

import re
from collections.abc import Mapping

from aiohttp import web

from actors.session.access import Ask
from actors.session.ids import SessionId
from server.api.dialect import Dialect, DialectRow, WatchRoute, Whose
from server.api.endpoint import USER, Endpoint
from server.http.problems import Problem, unauthenticated, unknown_session
from server.security.principal import Principal
from server.usecases.call import Call
from server.usecases.services import Services


async def named_session(
    dialect: Dialect, services: Services, request: web.Request, principal: Principal | None, endpoint: Endpoint
) -> SessionId:
    """Find the session that a path names. Raises: Problem 404, 429."""
    ref = request.match_info["ref"]
    try:
        if dialect.reference and not re.fullmatch(dialect.reference, ref):
            raise unknown_session(ref)
        return await services.session_lookup.within(dialect.kind, dialect.made, dialect.named, ref)
    except Problem:
        if dialect.inviting:
            endpoint.guessed(request, principal)
        raise


ASKS: Mapping[Whose, Ask] = {"participant": Ask.CARD, "moderator": Ask.MODERATION, "owner": Ask.OWNERSHIP}


class Identity:
    """Finds out who calls."""

    def __init__(self, dialect: Dialect, row: DialectRow, services: Services, endpoint: Endpoint) -> None:
        self._dialect = dialect
        self._row = row
        self._services = services
        self._endpoint = endpoint

    async def of(self, request: web.Request, fields: Mapping[str, str]) -> Principal | None:
        """Give the caller; None: nobody in particular, where the row is public. Raises: Problem 401, 403."""
        header = request.headers.get("Authorization")
        if header is None and self._row.query_token and (token := request.query.get("token")):
            header = f"Bearer {token}"
        named = fields.get(self._dialect.user_field) if self._dialect.user_field else None
        if header is None:
            principal = await self._unverified(named)
        else:
            principal = await self._verified(header)
            if principal is not None and named is not None and named != str(principal.number):
                field = self._dialect.user_field
                raise Problem(403, "somebody_else", f"`{field}` is not who the token says you are.", field=field)
        if principal is not None:
            request[USER] = principal.user_id
            if self._row.teachers and principal.role != "teacher":
                raise Problem(403, "not_a_teacher", "Only teachers may do this.")
        self._endpoint.admit_read(request, principal)
        return principal

    async def _verified(self, header: str) -> Principal | None:
        try:
            return await self._endpoint.bearer(header)
        except Problem as problem:
            # A client that logs in again may still send the token that has expired.
            if self._row.public and not isinstance(self._row, WatchRoute) and problem.status == 401:
                return None
            raise

    async def _unverified(self, named: str | None) -> Principal | None:
        if named is not None and self._dialect.trusting:
            if not (named.isascii() and named.isdigit() and len(named) < 10):
                field = self._dialect.user_field
                raise Problem(422, "invalid", f"`{field}` must be a user's number.", field=field, location="query")
            user = await self._services.users.find_number(int(named))
            if user is not None and user.role != "guest":
                # They come by no login, and have none that could end.
                return Principal(user.user_id, user.number, user.name, user.role, "", float("inf"))
        if self._row.public:
            return None
        raise unauthenticated("Send `Authorization: Bearer <access token>`.")


async def entitled(services: Services, call: Call, row: DialectRow) -> None:
    """See that the caller is whom the row is for. Raises: Problem 403, 404."""
    if row.whose != "anyone":
        await services.readable(ASKS[row.whose], call.session_id, call.principal, call.params["ref"])
