"""A command that was sent to its session, and what becomes of it: the same for the fast lane and the socket."""

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
    """Waits for one outcome: the actor sets it as it would a future's result, and it is printed at once."""

    __slots__ = ("_endpoint", "_execute", "_ref", "_services", "request_id", "session_id")

    def __init__(self, endpoint: DirectCommandEndpoint, services: Services, ref: str, request_id: str) -> None:
        self._endpoint = endpoint
        self._services = services
        self._ref = ref
        self.request_id = request_id
        self.session_id: Any = None

    def answer(self, reply: Reply) -> None:
        """Tell the caller; a refusal is a reply too."""
        raise NotImplementedError

    def refuse(self, problem: Problem) -> None:
        self._services.requests.counts.refusals[problem.reason] += 1
        body = problem_body(problem)
        self.answer(Reply(problem.status, body, problem.headers, "application/problem+json"))

    def send(self, session_id: SessionId, execute: Execute) -> None:
        self.session_id = session_id
        self._execute = execute
        execute.reply = self
        directory = self._services.directory
        if session_id in directory:
            refusal = directory.tell(session_id, execute)
        else:
            # It has to be restored, and a failure to do so is logged.
            with working_for(self.request_id):
                refusal = directory.tell(session_id, execute)
        if refusal:
            self.set_result(refusal)

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome) -> None:
        # Else the two keep each other, and thousands of commands wait for a collection that holds the loop for 20 ms.
        self._execute.reply = None
        # Whatever went wrong here would go wrong in the actor that answers, and end it.
        try:
            reply = None if isinstance(outcome, Fenced) else self._endpoint.answered(outcome, self._ref)
        except Problem as problem:
            self.refuse(problem)
            return
        except Exception:
            # The actor that calls this works for many requests.
            with working_for(self.request_id):
                logger.exception("an answer of session %s cannot be printed", self.session_id)
            self.refuse(Problem(500, "internal", "Something went wrong here."))
            return
        if reply is None:
            self._services.directory.spawn(self._look_up(outcome))
        else:
            self.answer(reply)

    async def _look_up(self, outcome: Outcome) -> None:
        """Finish what takes more than printing: a repeated key, or a session that another server took."""
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
