"""Where dialects are served: under other prefixes, at the root, not at all; never two at one path."""

import asyncio
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from yarl import URL

from server.api import mounting
from server.api.dialect import Dialect
from server.api.routes import CreateRoute
from server.dialects import tables
from server.settings.sections import BadSetting, DialectsSettings, Settings
from server.v1.table import API
from tests.support.client import Person
from tests.support.dialects.rows import DIALECTS, body_of, path_of
from tests.support.serving import Town, serving

COLLIDING = {frozenset(("seeds", "live")), frozenset(("tutorium", "interview"))}
"""Two of these at one prefix claim `/sessions`."""
PAIRS = list(itertools.combinations(DIALECTS, 2))


def moved(prefixes: Mapping[str, str], **off: bool) -> DialectsSettings:
    """Give the settings of dialects that are elsewhere, or with `name=False` nowhere."""
    dialects = DialectsSettings()
    changed = {name: structs.replace(getattr(dialects, name), prefix=prefix) for name, prefix in prefixes.items()}
    changed |= {name: structs.replace(getattr(dialects, name), enabled=on) for name, on in off.items()}
    return structs.replace(dialects, **changed)


def mounted(dialects: DialectsSettings) -> dict[str, Dialect]:
    return {dialect.name: dialect for dialect in tables(Settings(dialects=dialects))}


def served(dsn: str, data: Path, dialects: DialectsSettings) -> Any:
    return serving(dsn, data, dialects=structs.asdict(dialects))


async def there(town: Town, teacher: Person, dialect: Dialect) -> None:
    """See that a dialect is served: each row, a session made, its description and its page."""
    for row in dialect.rows:
        if not row.public and row.status != 101:
            reply = await town.anyone.call(row.method, path_of(dialect, row, "x"))
            assert reply.status == 401, f"{row.path}: {reply.status}"
            assert not reply.headers["Content-Type"].startswith("application/problem+json")
    for row in dialect.rows:
        if isinstance(row, CreateRoute):
            body = body_of(row)
            if "creator" in body:
                body["creator"] |= {"id": teacher.id, "color": "teal"}
            (await teacher.post(dialect.prefix + row.path, body)).ok(row.status)
    described = (await town.anyone.get(dialect.description_path)).ok()
    assert described["info"]["title"] == dialect.title
    assert all(path.startswith(dialect.prefix) for path in described["paths"])
    for page in dialect.docs_paths:
        reply = await town.anyone.get(page)
        assert reply.status == 303
        to = URL(town.url + page).join(URL(reply.headers["Location"]))
        assert str(to) == f"{town.url}/docs?api={dialect.name}"


async def listed(town: Town) -> set[str]:
    page = (await town.anyone.get("/docs")).body.decode()
    names = (*DIALECTS, "v1")
    assert all(page.count(f'data-api="{name}"') <= 1 for name in names)
    return {name for name in names if f'data-api="{name}"' in page}


async def test_elsewhere(dsn: str, data: Path) -> None:
    prefixes = dict(zip(DIALECTS, ("/a", "/a/b", "/products/x-1/y", "/c", "/v2"), strict=False))
    dialects = moved(prefixes)
    async with served(dsn, data, dialects) as town:
        teacher = await town.teacher()
        for name, dialect in mounted(dialects).items():
            assert dialect.prefix == prefixes[name]
            await there(town, teacher, dialect)
            # Where it was there is nothing of it left, not even its words.
            for row in DIALECTS[name].rows:
                (await teacher.call(row.method, path_of(DIALECTS[name], row, "x"))).refused(404)
        assert await listed(town) == {*DIALECTS, "v1"}


@pytest.mark.parametrize("name", DIALECTS)
async def test_at_the_root(dsn: str, data: Path, name: str) -> None:
    dialects = moved({name: ""})
    async with served(dsn, data, dialects) as town:
        teacher = await town.teacher()
        for dialect in mounted(dialects).values():
            await there(town, teacher, dialect)
        assert await listed(town) == {*DIALECTS, "v1"}
        # What is Homeroom's own is not hidden by it.
        for path in ("/", "/docs", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/me"):
            assert (await teacher.get(path)).status == 200
        (await teacher.get("/v1/nowhere")).refused(404)
        reply = await teacher.get("/nowhere")
        assert reply.status == 404


async def test_nowhere(dsn: str, data: Path) -> None:
    for name in DIALECTS:
        assert mounted(moved({}, **{name: False})).keys() == DIALECTS.keys() - {name}
    off = next(iter(DIALECTS))
    async with served(dsn, data, moved({}, **{off: False})) as town:
        teacher = await town.teacher()
        assert await listed(town) == {*DIALECTS, "v1"} - {off}
        for path in (DIALECTS[off].description_path, *DIALECTS[off].docs_paths):
            (await teacher.get(path)).refused(404)
        for row in DIALECTS[off].rows:
            (await teacher.call(row.method, path_of(DIALECTS[off], row, "x"))).refused(404)
        for dialect in mounted(moved({}, **{off: False})).values():
            await there(town, teacher, dialect)
    none = moved({}, **dict.fromkeys(DIALECTS, False))
    assert mounted(none) == {}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("prefix", ["", "/one"])
def test_two_at_one_prefix(pair: tuple[str, str], prefix: str) -> None:
    apis = (API, *mounted(moved(dict.fromkeys(pair, prefix))).values())
    if frozenset(pair) not in COLLIDING and not prefix:
        mounting.check(apis, [])
        return
    with pytest.raises(BadSetting) as caught:
        mounting.check(apis, [])
    for name in pair:
        assert name in str(caught.value)
    # Where no session is claimed by both, the descriptions are.
    assert ("sessions" if frozenset(pair) in COLLIDING else "/one/openapi.json") in str(caught.value)
    assert f"prefix = {prefix!r}" in str(caught.value)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_description_is_nobody_else_s(name: str) -> None:
    """At the root a dialect's description is where another's prefix might be."""
    other = next(each for each in DIALECTS if frozenset((name, each)) not in COLLIDING and each != name)
    with pytest.raises(BadSetting, match=f"GET /{name}/openapi.json is claimed"):
        mounting.check((API, *mounted(moved({name: "", other: f"/{name}"})).values()), [])


@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_a_collision_is_said_at_the_start(dsn: str, tmp_path: Path, command: str) -> None:
    one, other = next(pair for pair in PAIRS if frozenset(pair) in COLLIDING)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[database]\ndsn = "{dsn}"\n[dialects.{one}]\nprefix = "/one"\n[dialects.{other}]\nprefix = "/one"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", command, "--config", str(config), "--data", str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    [line] = said.decode().splitlines()
    assert line.startswith("homeroom: dialects.")
    assert one in line
    assert other in line
