"""aiohttp's protocol, with what a connection needs of it besides. The only user of aiohttp's private parts."""

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from server.api.middleware import head, logger, printed
from server.http.problems import Problem
from server.http.request_id import CURRENT
from server.http.uuids import new_id


class Protocol(web.RequestHandler):
    """aiohttp's protocol. What it refuses before there is a request is a problem too, and quotes nothing of what came,
    which may hold a token."""

    __slots__ = ()

    @property
    def resting(self) -> bool:
        """Whether all it was given has been answered, and nothing but another request can come."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages and not self._upgraded

    def touch(self) -> None:
        """Count its patience with an idle connection from now on: somebody else has answered a request there."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def break_off(self) -> None:
        """Let nobody wait for the rest of a body: what has come instead is none. aiohttp alone would not say so."""
        request = self._current_request
        if request is not None and not request._payload.is_eof():
            request._payload.set_exception(BadHttpMessage("it breaks off"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            # Raised where there is no handler yet, and so nothing that makes problems of refusals: `Expect`.
            resp = printed(Problem(resp.status, "expectation_failed", "`Expect` may be 100-continue and nothing else."))
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer has been sent already")
        if status >= 500:
            logger.error("a request failed outside its handler", exc_info=exc)
            problem = Problem(status, "internal", "Something went wrong here.")
        else:
            problem = Problem(status, "malformed", "This is no HTTP request, or one with too long a line.")
        response = printed(problem)
        head(response, CURRENT.get() or new_id())  # `on_prepare` is not called here
        response.force_close()
        return response
