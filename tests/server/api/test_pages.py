"""The pages: complete, with content types, and without anything that their policy would have to except."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp import AiohttpClient
from yarl import URL

from actors.session.events import AnyEvent, Relayed
from server.api import pages
from server.v1.table import API

PAGES = ("/", "/docs")
OF_FILE = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = sorted(path for path in pages.STATIC.iterdir() if path.suffix in OF_FILE)

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    pages.add(app, (API,))
    return await aiohttp_client(app)


class Tags(HTMLParser):
    """Collects the links of a page, and its inline scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"<{tag} {name}>")

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("path", PAGES)
async def test_the_content_security_policy_allows_only_this_server(client: Client, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    allowed = {source for name, source in policy.items() if name.endswith("-src")}
    assert allowed == {"'none'", "'self'"}


@pytest.mark.parametrize("path", PAGES)
async def test_pages_have_nothing_inline_and_every_link_has_a_target(client: Client, path: str) -> None:
    async with client.get(path) as response:
        tags = Tags(await response.text())
    assert not tags.inline
    own = {link for link in tags.links if not link.endswith("openapi.json")}
    for link in own:
        assert not re.match(r"[a-z]+:|//", link), "pages use relative links: they may be served below a path"
        async with client.get(f"/{link.removeprefix('./')}") as response:
            assert response.status == 200, link


@pytest.mark.parametrize("name", [path.name for path in FILES])
async def test_static_files_have_a_content_type_and_the_policy(client: Client, name: str) -> None:
    async with client.get(f"/static/{name}") as response:
        assert response.status == 200
        assert response.content_type == OF_FILE[f".{name.rpartition('.')[2]}"]
        assert "Content-Security-Policy" in response.headers
        etag = response.headers["ETag"]
    async with client.get(f"/static/{name}", headers={"If-None-Match": etag}) as response:
        assert response.status == 304


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".js"], ids=lambda path: path.name)
def test_scripts_never_parse_html(path: Path) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text())


async def test_scripts_import_only_each_other(client: Client) -> None:
    for path in FILES:
        if path.suffix == ".js":
            for name in re.findall(r'from "(.+?)"', path.read_text()):
                assert (path.parent / name).is_file(), (path.name, name)


@pytest.mark.parametrize("path", ["/static/", "/static/../pages.py", "/static/%2e%2e/pages.py", "/static/nothing.js"])
async def test_other_paths_below_static_get_404(client: Client, path: str) -> None:
    async with client.get(URL(path, encoded=True)) as response:
        assert response.status == 404


async def test_the_docs_page_lists_every_api(client: Client) -> None:
    async with client.get("/docs") as response:
        text = await response.text()
    assert pages.APIS not in text
    assert '<a href="openapi.json" data-api="v1">Homeroom</a> <code>/v1</code>' in text


def test_the_stream_page_handles_every_event() -> None:
    listed = set(re.findall(r'"(\w+)"', (pages.STATIC / "stream.js").read_text().split("TYPES = [")[1].split("];")[0]))
    # Messages between clients of a dialect are not sent in /v1.
    tags = {event.__struct_config__.tag for event in get_args(AnyEvent) if event is not Relayed}
    assert tags | {"snapshot", "resumed", "reset", "bye"} == listed
