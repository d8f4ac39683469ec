"""aiohttp's protocol, extended for `Connection`. The only module that uses aiohttp's private parts."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from server.api.middleware import head, logger, printed
from server.http.problems import Problem
from server.http.request_id import CURRENT
from server.http.uuids import new_id


class RequestProtocol(web.RequestHandler):
    """aiohttp's protocol for one connection.

    Refusals that precede a request are problem details too. They quote nothing from the client's bytes, which may
    contain a token."""

    __slots__ = ()

    @property
    def resting(self) -> bool:
        """Whether every request has been answered, so that only another request can follow."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages and not self._upgraded

    def touch(self) -> None:
        """Restart the keep-alive time: the fast lane has read or answered a request on this connection."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def break_off(self) -> None:
        """Raise an error in the handler that reads the current body, whose remaining bytes are invalid.

        aiohttp lets the handler wait for them."""
        request = self._current_request
        if request is not None and not request._payload.is_eof():
            request._payload.set_exception(BadHttpMessage("the body is invalid"))

    def dismiss(self) -> None:
        """Give up the connection without closing it. aiohttp treats the client as gone and cancels the handler."""
        self.transport = None  # aiohttp would close it
        asyncio.get_running_loop().call_soon(self.connection_lost, None)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write an answer. Turn a refused `Expect` header into a problem: no middleware has run when it is raised."""
        if isinstance(resp, web.HTTPException):
            resp = printed(Problem(resp.status, "expectation_failed", "Only `Expect: 100-continue` is supported."))
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to bytes that are not a request, or to a request that failed outside its handler.

        Raise ConnectionError if part of an answer has been sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("Part of an answer has been sent already.")
        if status >= 500:
            logger.error("a request failed outside its handler", exc_info=exc)
            problem = Problem(status, "internal", "Something went wrong here.")
        else:
            problem = Problem(status, "malformed", "Not a valid HTTP request, or one of its lines is too long.")
        response = printed(problem)
        head(response, CURRENT.get() or new_id())  # `on_prepare` is not called here
        response.force_close()
        return response


def protocol_factory(runner: web.AppRunner) -> Callable[[], RequestProtocol]:
    """Return a factory of protocols, one for each connection. The runner must have been set up."""
    server = runner.server
    assert server is not None

    def make() -> RequestProtocol:
        # As aiohttp's Server does; it has no setting for the class.
        return RequestProtocol(server, loop=asyncio.get_running_loop(), **server._kwargs)

    return make
