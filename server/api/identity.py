"""The identity of a route's caller.

**Law:** a verified token decides who the caller is. A user number that the client sends besides must agree with it. The
number alone counts only in an API that the settings declare trusting.
"""

from collections.abc import Mapping

from aiohttp import web

from server.api.routes import Api, Row, StreamRoute
from server.api.services import Services
from server.http.problems import Problem, unauthenticated
from server.security.principal import Principal

USER = web.RequestKey("user", str)


class Identity:
    """Identifies the callers of one route."""

    def __init__(self, api: Api, row: Row, services: Services) -> None:
        self._api = api
        self._row = row
        self._services = services

    async def of(self, request: web.Request, fields: Mapping[str, str]) -> Principal | None:
        """Return the caller, or None for an anonymous one on a public row. `fields` are those of the query and of a
        form.

        Raise Problem 401, 403, 422, 503."""
        row, user_field = self._row, self._api.user_field
        header = request.headers.get("Authorization")
        if header is None and row.query_token and (token := request.query.get("token")):
            header = f"Bearer {token}"
        named = fields.get(user_field) if user_field else None
        if header is None:
            principal = await self._unverified(named)
        else:
            principal = await self._verified(header)
            if principal is not None and named is not None and named != str(principal.number):
                raise Problem(
                    403, "somebody_else", f"`{user_field}` is not who the token says you are.", field=user_field
                )
        if principal is not None:
            request[USER] = principal.user_id
            if row.teachers and principal.role != "teacher":
                raise Problem(403, "not_a_teacher", "Only teachers may do this.")
        return principal

    async def _verified(self, header: str) -> Principal | None:
        try:
            return await self._services.tokens.verify(bearer_token(header))
        except Problem as problem:
            # A client that logs in again may still send its expired token.
            if self._row.public and not isinstance(self._row, StreamRoute) and problem.status == 401:
                return None
            raise

    async def _unverified(self, named: str | None) -> Principal | None:
        if named is not None and self._api.trusting:
            if not (named.isascii() and named.isdigit() and len(named) < 10):
                field = self._api.user_field
                raise Problem(422, "invalid", f"`{field}` must be a user's number.", field=field, location="query")
            user = await self._services.users.find_number(int(named))
            if user is not None and user.role != "guest":
                # This caller has no login that could be closed, and no token that could expire.
                return Principal(user.user_id, user.number, user.name, user.role, "", float("inf"))
        if self._row.public:
            return None
        raise unauthenticated("Send `Authorization: Bearer <access token>`.")


def bearer_token(header: str) -> str:
    """Return the token in an `Authorization` header. Raise Problem 401."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("Send `Authorization: Bearer <access token>`.")
    return token.strip()
