"""A command that was sent to its session and awaits its outcome. The fast lane and the command socket share it."""

import logging
from typing import Any

from actors.messages import Execute, Fenced, Outcome
from actors.ports import LogUnavailable
from actors.session.ids import SessionId
from server.api.handlers import DirectCommandEndpoint
from server.api.services import Services
from server.http.problems import Problem, problem_body
from server.http.reply import Reply
from server.http.request_id import CURRENT, working_for

logger = logging.getLogger(__name__)


class Pending:
    """Receives one outcome. The actor sets it like the result of a future, and it is encoded at once."""

    __slots__ = ("_endpoint", "_execute", "_ref", "_services", "request_id", "session_id")

    def __init__(self, endpoint: DirectCommandEndpoint, services: Services, ref: str, request_id: str) -> None:
        self._endpoint = endpoint
        self._services = services
        self._ref = ref
        self.request_id = request_id
        self.session_id: Any = None

    def answer(self, reply: Reply) -> None:
        """Send the reply, which may be a refusal, to the caller."""
        raise NotImplementedError

    def refuse(self, problem: Problem) -> None:
        """Count a refusal and send it to the caller."""
        self._services.requests.counts.refusals[problem.reason] += 1
        body = problem_body(problem)
        self.answer(Reply(problem.status, body, problem.headers, "application/problem+json"))

    def send(self, session_id: SessionId, execute: Execute) -> None:
        """Send the command to its session. If the session cannot accept it, refuse it at once."""
        self.session_id = session_id
        self._execute = execute
        execute.reply = self
        directory = self._services.directory
        if session_id in directory:
            refusal = directory.tell(session_id, execute)
        else:
            # The session has to be restored. If that fails, the line in the log has the request id.
            with working_for(self.request_id):
                refusal = directory.tell(session_id, execute)
        if refusal:
            self.set_result(refusal)

    def done(self) -> bool:
        """Return False: a pending command is never cancelled."""
        return False

    def set_result(self, outcome: Outcome) -> None:
        """Encode the outcome and send it to the caller. Never raise: the session's actor calls this."""
        # Break the reference cycle: otherwise a collection of thousands of commands blocks the loop for 20 ms.
        self._execute.reply = None
        # An exception that escaped would stop the actor that calls this.
        try:
            reply = None if isinstance(outcome, Fenced) else self._endpoint.answered(outcome, self._ref)
        except Problem as problem:
            self.refuse(problem)
            return
        except Exception:
            # The actor that calls this serves many requests, so its context has another request id.
            with working_for(self.request_id):
                logger.exception("an answer of session %s cannot be printed", self.session_id)
            self.refuse(Problem(500, "internal", "Something went wrong here."))
            return
        if reply is None:
            self._services.directory.spawn(self._look_up(outcome))
        else:
            self.answer(reply)

    async def _look_up(self, outcome: Outcome) -> None:
        """Finish an outcome that requires waiting: a repeated key, or a session that another server has claimed."""
        CURRENT.set(self.request_id)
        try:
            if isinstance(outcome, Fenced):
                outcome = await self._services.directory.ask(self.session_id, self._execute)
            self.answer(await self._endpoint.reply(outcome, self._ref, self.session_id, self._execute.by.user_id))
        except Problem as problem:
            self.refuse(problem)
        except LogUnavailable:
            self.refuse(Problem(503, "unavailable", "Try again: the database is away.", retry_s=1))
        except Exception:
            logger.exception("a command in session %s failed", self.session_id)
            self.refuse(Problem(500, "internal", "Something went wrong here."))
