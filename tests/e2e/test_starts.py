"""Starting: twice at once, where somebody else runs, and with what cannot be."""

import asyncio
import os
import sys
from pathlib import Path

from tests.e2e.process import ROOT, Homeroom


async def attempt(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Start a server that is expected not to stay; give its exit status and what it said on standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_two_that_start_at_once_on_one_database_both_come_up(empty_dsn: str, tmp_path: Path) -> None:
    servers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        servers.append(Homeroom(tmp_path / name, empty_dsn))
    try:
        await asyncio.gather(*(server.start() for server in servers))
    finally:
        assert await asyncio.gather(*(server.stop() for server in servers)) == [0, 0]


async def test_a_second_one_on_a_data_directory_in_use_is_refused(data: Path) -> None:
    async with Homeroom(data) as first:
        status, said = await attempt("serve", "--data", str(data), "--port", "0")
        assert status == 1
        assert f"in use by process {first.pid}" in said
        assert "Stop that one first" in said


async def test_a_bad_setting_stops_the_start_and_is_named(tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("[limits]\nbody_bytes = 12\n")
    status, said = await attempt("serve", "--config", str(config))
    assert status == 1
    assert "limits.body_bytes = 12" in said
    assert str(config) in said
    status, said = await attempt("serve", "--port", "a lot")
    assert status == 1
    assert "server.port" in said
    status, said = await attempt("check-config", env={"HOMEROOM_SERVER__PROT": "80"})
    assert status == 1
    assert "HOMEROOM_SERVER__PROT" in said


async def test_a_port_in_use_is_said(dsn: str, tmp_path: Path) -> None:
    async with Homeroom(tmp_path, dsn) as first:
        arguments = ("serve", "--port", str(first.port), "--data", str(tmp_path))
        status, said = await attempt(*arguments, env={"HOMEROOM_DATABASE__DSN": dsn})
        assert status == 1
        assert f"server.port = {first.port}" in said
