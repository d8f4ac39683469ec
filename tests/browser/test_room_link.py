"""The link of a built-in room, as a product's own page gives it."""

import os
from pathlib import Path

import aiohttp

from server.bootstrap.lifecycle import Running
from tests.support.chromium import Chromium
from tests.support.client import Person

TUTORIUM = "/tutorium/api/v1"


async def test_the_join_url_of_a_product_opens_its_session(browser: Chromium, server: Running) -> None:
    page = await browser.page()
    async with aiohttp.ClientSession() as http:
        teacher = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
        student = await Person.register(http, server.url, "Anna", "anna@example.org", "student")
        session = (await teacher.post(f"{TUTORIUM}/sessions", {"title": "Algebra"})).ok(201)
        await page.follow(session["teacher_join_url"])
        await page.sees("#connection", "Connected")
        await page.sees("#title", "Algebra")
        await page.sees("#status", "live")

        other = await browser.page()
        code = {"room_code": session["room_code"]}
        joined = (await student.post(f"{TUTORIUM}/sessions/join-by-code", code)).ok()
        await other.follow(joined["join_url"])
        await other.sees("#roster", "Anna")
        await page.sees("#roster", "Anna")
        assert "t=" not in await other.run("location.href")
    if folder := os.environ.get("HOMEROOM_TEST_SCREENSHOTS"):
        await page.screenshot(Path(folder) / "room-link.png")
