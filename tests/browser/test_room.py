"""The link of a built-in room opens its session without an account, as the participant that its token names."""

import aiohttp

from server.bootstrap.lifecycle import Running
from tests.support.chromium import Chromium
from tests.support.client import Client, Person


async def test_a_room_link_opens_the_session_without_an_account(browser: Chromium, server: Running) -> None:
    async with aiohttp.ClientSession() as http:
        teacher = await Person.register(http, server.url, "Ms Okafor", "okafor@example.org", "teacher")
        ana = await Person.register(http, server.url, "Ana & <i>Co</i>", "ana@example.org", "student")
        host = await teacher.create(room=True, title="Physics 101")
        await host.join()
        seat = ana.at(host)
        await seat.join()
        link = (await ana.post(f"{seat.path}/tokens")).ok(201)["meeting"]["join_url"]
        assert link.startswith(f"{server.url}/rooms/{host.session['room']['name']}?t=")

        page = await browser.page()
        await page.ask("Page.navigate", url=link)
        await page.sees("#connection", "Connected")
        await page.sees("#title", "Physics 101")
        await page.sees("#me", "Ana & <i>Co</i>")
        assert "t=" not in str(await page.run("location.href")), "the token stays in no history and no bookmark"
        await page.fill("#text", "Good morning")
        await page.click("#write button")
        await page.sees("#chat", "Good morning")
        await page.ask("Page.reload")
        await page.sees("#chat", "Good morning")
        assert page.complaints == []

        await host.do("kick", user_id=ana.id, ban=True)
        again = await browser.page()
        await again.ask("Page.navigate", url=link)
        await again.sees("#home-error", "You were removed from this session")
        token = link.partition("?t=")[2]
        (await Client(http, server.url, token).post(f"{seat.path}/commands", {"type": "join"})).refused(403)
