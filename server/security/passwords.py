"""Passwords, hashed with Argon2id in a pool of threads whose queue is bounded."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from server.http.problems import Problem
from server.settings.sections import AuthSettings

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords. A check takes the same time for users that do not exist."""

    def __init__(self, settings: AuthSettings) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
        )
        self._pool = ThreadPoolExecutor(settings.hash_workers, thread_name_prefix="passwords")
        self._waiting = 0
        self._max_waiting = settings.hash_workers + settings.hash_queue
        self.checks: Counter[str] = Counter(accepted=0, rejected=0, overloaded=0)
        """Passwords that were checked, by result; `overloaded`: too many were waiting."""
        self._dummy_hash = self._hasher.hash("no user has this password")

    async def hash(self, password: str) -> str:
        """Return the hash of a password. Raise Problem 503 if too many are waiting."""
        return await self._run(self._hasher.hash, password)

    async def check(self, hashed: str | None, password: str) -> bool:
        """Return whether a password matches. A hash of None takes as long, and never matches. Raise Problem 503."""
        matches = await self._run(self._matches, hashed or self._dummy_hash, password)
        accepted = matches and hashed is not None
        self.checks["accepted" if accepted else "rejected"] += 1
        return accepted

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= self._max_waiting:
            self.checks["overloaded"] += 1
            raise Problem(503, "unavailable", "Try again: too many people are logging in at the same time.", retry_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop the threads; what waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
