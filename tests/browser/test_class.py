"""A class in the browser: a teacher and a student, each on their own page."""

import asyncio
import os
import re
from pathlib import Path

import aiohttp

from server.bootstrap.lifecycle import Running
from tests.support.chromium import Chromium, Page
from tests.support.client import PASSWORD, Person

SCREENSHOTS = "HOMEROOM_TEST_SCREENSHOTS"
"""A directory to leave pictures in."""


async def teach(page: Page, url: str, title: str) -> str:
    """Create a teacher and a class on the page; return the link of the class."""
    await page.open(f"{url}/")
    await page.fill("#teach [name=name]", "Ms Okafor")
    await page.fill("#teach [name=email]", "okafor@example.org")
    await page.fill("#teach [name=password]", "correct horse")
    await page.click("#teach button.primary")
    await page.until("!document.querySelector('#create').hidden")
    await page.fill("#create [name=title]", title)
    await page.click("#create button.primary")
    await page.sees("#connection", "Connected")
    await page.sees("#status", "live")
    code = await page.text("#code")
    assert re.fullmatch(r"[A-Z0-9]{6}", code)
    return f"{url}/?code={code}"


async def join(page: Page, link: str, name: str) -> None:
    await page.open(link)
    await page.fill("#join [name=name]", name)
    await page.click("#join button.primary")
    await page.sees("#connection", "Connected")


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.click("#write button")


async def test_a_class_runs_in_the_browser_from_the_first_page_to_its_end(browser: Chromium, server: Running) -> None:
    teacher, student = await browser.page(), await browser.page()
    link = await teach(teacher, server.url, "Physics <101>")
    await join(student, link, "Ana & <i>Co</i>")
    await teacher.sees("#roster", "Ana & <i>Co</i>")

    await say(teacher, "Good morning <script>document.title = 'no'</script>")
    await student.sees("#chat", "Good morning <script>")
    await say(student, "Hello!")
    await teacher.sees("#chat", "Hello!")

    await student.click("#hand")
    await teacher.sees("#hands", "Ana")
    await teacher.click("[data-command=call_next]")
    await student.sees("#banner", "It is your turn")

    await teacher.click("#roster .actions button")
    await student.sees("#voice", "Unmute me")
    await student.sees("#feed", "participant_muted")
    await picture(student, "student")
    await picture(teacher, "teacher")

    await teacher.run("window.confirm = () => true")
    await teacher.click("[data-command=end]")
    await student.sees("#banner", "This class has ended.")
    await student.sees("#connection", "Closed")
    assert student.complaints == teacher.complaints == []


async def test_the_stream_resumes_after_its_connection_breaks(browser: Chromium, hasty_server: Running) -> None:
    teacher, student = await browser.page(), await browser.page()
    link = await teach(teacher, hasty_server.url, "Physics 101")
    await join(student, link, "Ana")
    sent: list[str] = []
    while (await student.text("#feed")).count("bye") < 5:
        sent.append(f"message {len(sent):03}")
        await say(teacher, sent[-1])
        await student.sees("#chat", sent[-1])
    assert re.findall(r"message \d+", await student.text("#chat")) == sent
    feed = await student.text("#feed")
    assert feed.count("resumed") >= 4
    assert feed.count("snapshot") == 1, "resuming by cursor needs no second one"
    assert "reset" not in feed


async def test_a_reload_keeps_the_login_and_a_wrong_code_is_reported(browser: Chromium, server: Running) -> None:
    page = await browser.page()
    link = await teach(page, server.url, "Physics 101")
    await page.ask("Page.reload")
    await page.sees("#connection", "Connected")
    await page.sees("#me", "Ms Okafor")
    await page.open(f"{server.url}/")
    await page.sees("#mine-list", "Physics 101")

    stranger = await browser.page()
    await stranger.open(f"{server.url}/?code=ZZZZZZ")
    await stranger.fill("#join [name=name]", "Ben")
    await stranger.click("#join button.primary")
    await stranger.sees("#home-error", "There is no session 'ZZZZZZ'.")
    await stranger.fill("#join [name=code]", link[-6:].lower())
    await stranger.click("#join button.primary")
    await stranger.sees("#title", "Physics 101")


async def test_invitations_appear_on_and_disappear_from_the_front_page(browser: Chromium, server: Running) -> None:
    async with aiohttp.ClientSession() as http:
        student = await Person.register(http, server.url, "Ana <b>", "ana@example.org", "student")
        teacher = await Person.register(http, server.url, "Ms & Mr Okafor", "okafor@example.org", "teacher")
        physics, music = [await teacher.create(title=title) for title in ("Physics <101>", "Music")]
        await physics.join()
        await physics.do("invite", user_id=student.id)

        page = await browser.page()
        await page.open(f"{server.url}/")
        await page.click("#teach [value=login]")
        await page.fill("#teach [name=email]", "ana@example.org")
        await page.fill("#teach [name=password]", PASSWORD)
        await page.click("#teach button.primary")
        await page.sees("#invitation-list", "Physics <101>")
        await music.do("invite", user_id=student.id)
        await page.sees("#invitation-list", "Music Ms & Mr Okafor invites you.")
        await page.look(360, 740)
        assert await page.run("document.documentElement.scrollWidth") <= 360
        await picture(page, "invitations")
        await music.do("cancel")
        await page.until("!document.querySelector('#invitation-list').innerText.includes('Music')")
        await page.click("#invitation-list button")
        await page.sees("#title", "Physics <101>")
        await page.sees("#connection", "Connected")
        assert [one["name"] for one in (await physics.state())["participants"]] == ["Ms & Mr Okafor", "Ana <b>"]
        await page.open(f"{server.url}/")
        await page.sees("#me", "Ana <b>")
        assert await page.run("document.querySelector('#invitations').hidden")
        assert page.complaints == []


async def test_pages_fit_a_phone_in_light_and_dark_mode(browser: Chromium, server: Running) -> None:
    page = await browser.page()
    link = await teach(page, server.url, "Mathematics: how many handshakes?")
    for name, width, height, dark in (
        ("phone", 360, 740, False),
        ("dark", 1280, 800, True),
        ("tablet", 820, 1100, False),
    ):
        await page.look(width, height, dark=dark)
        await page.until(f"innerWidth === {width}")
        assert await page.run("document.documentElement.scrollWidth") <= width, name
        await picture(page, name)
    await page.look(360, 740)
    for path in ("/", "/docs", link.removeprefix(server.url)):
        await page.open(server.url + path)
        assert await page.run("document.documentElement.scrollWidth") <= 360, path
    assert page.complaints == []


async def test_the_docs_page_renders_the_openapi_description(browser: Chromium, server: Running) -> None:
    page = await browser.page()
    await page.look(1280, 900)
    await page.open(f"{server.url}/docs")
    await page.sees("#reference", "/v1/sessions/{ref}/commands")
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/openapi.json") as response:
        described = await response.json()
    routes = await page.run("[...document.querySelectorAll('.route code')].map(e => e.innerText)")
    assert set(routes) == set(described["paths"])
    broken = await page.run(
        "[...document.querySelectorAll('.docs a[href^=\"#\"]')].map(a => a.hash.slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert broken == []
    await page.sees("#shape-SendMessage", "reply_to")
    await picture(page, "docs")
    assert page.complaints == []


async def picture(page: Page, name: str) -> None:
    if directory := os.environ.get(SCREENSHOTS):
        await asyncio.to_thread(Path(directory).mkdir, parents=True, exist_ok=True)
        await page.screenshot(Path(directory) / f"{name}.png")
