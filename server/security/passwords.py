"""Passwords: Argon2id, off the loop, in a pool whose queue is bounded."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from server.http.problems import Problem
from server.settings.sections import Auth

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords; the same time passes for users that do not exist."""

    def __init__(self, settings: Auth) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
        )
        self._pool = ThreadPoolExecutor(settings.hash_workers, thread_name_prefix="passwords")
        self._waiting = 0
        self._most = settings.hash_workers + settings.hash_queue
        self._nobody = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Raises: Problem 503 when too many wait already."""
        return await self._run(self._hasher.hash, password)

    async def check(self, hashed: str | None, password: str) -> bool:
        """Compare; None as the hash takes as long, and never matches. Raises: Problem 503."""
        matches = await self._run(self._matches, hashed or self._nobody, password)
        return matches and hashed is not None

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= self._most:
            raise Problem(503, "unavailable", "Too many people are logging in at once; try again.", retry_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
