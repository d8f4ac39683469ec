"""Code over the real API: Yjs clients on sockets and somebody who edits plainly, and all have the same text."""

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Doc, Text

from tests.support.client import Seat
from tests.support.serving import Town, serving
from tests.support.talking import Editor, talk

pytestmark = pytest.mark.asyncio(loop_scope="session")

PIECES = ["x", "def f():\n", "é", "😀", "汉字", "e\u0301"]


async def edit(seat: Seat, text: str) -> int:
    """Write the whole text anew, over HTTP, however often others come in between; give the version."""
    while True:
        document = (await seat.person.get(f"{seat.path}/code")).ok()
        reply = await seat.command("edit_code", base_version=document["version"], text=text)
        if reply.status == 200:
            return int(reply.json["events"][0]["version"])
        assert (reply.status, reply.json["reason"]) == (409, "behind")


async def append(seat: Seat, text: str) -> None:
    """Add a line at the end, over HTTP, on top of whatever is there."""
    while True:
        document = (await seat.person.get(f"{seat.path}/code")).ok()
        change = {"at": len(document["text"]), "insert": text}
        reply = await seat.command("edit_code", base_version=document["version"], changes=[change])
        if reply.status == 200:
            return
        assert (reply.status, reply.json["reason"]) == (409, "behind")


class Keystroke(NamedTuple):
    """An edit at a share of the text's length. `deletes`: it also deletes a character; `hears`: updates are applied."""

    position: float
    insert: str
    deletes: bool
    hears: bool


keystrokes = st.lists(
    st.builds(Keystroke, st.floats(0, 1), st.sampled_from(PIECES), st.booleans(), st.booleans()), max_size=25
)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(annas=keystrokes, bens=keystrokes)
async def test_two_editors_and_a_plain_one_come_to_the_same(
    town: Town, annas: list[Keystroke], bens: list[Keystroke]
) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben", kind="interview")
    await append(host, "start\n")
    async with talk(anna) as one, talk(ben) as two:
        editors = [await Editor.attached(one, anna), await Editor.attached(two, ben)]
        assert [str(editor.text) for editor in editors] == ["start\n"] * 2

        async def types(editor: Editor, strokes: list[Keystroke]) -> None:
            for stroke in strokes:
                size = len(str(editor.text))
                at = int(stroke.position * size)
                editor.write(at, stroke.insert, min(stroke.deletes, size - at))
                await editor.send()
                if stroke.hears:
                    editor.hear()

        async def adds() -> None:
            for n in range(10):
                await append(host, f"{n}\n")

        await asyncio.gather(types(editors[0], annas), types(editors[1], bens), adds())
        final = (await host.person.get(f"{host.path}/code")).ok()
        assert [await editor.until(final["version"]) for editor in editors] == [final["text"]] * 2
    doc: Doc[Text] = Doc()
    for update in final["updates"]:
        doc.apply_update(base64.b64decode(update))
    assert str(doc.get("code", type=Text)) == final["text"]
    await town.passivate(host)
    assert (await host.person.get(f"{host.path}/code")).ok() == final
    log = await host.log(type="code_edited")
    text = ""
    for row in log:
        text = row["details"].get("text", text)
        for change in row["details"].get("changes", []):
            at, gone = change["at"], change.get("delete", 0)
            text = text[:at] + change.get("insert", "") + text[at + gone :]
    assert text == final["text"]
    authors = {host.user_id} | ({anna.user_id} if annas else set()) | ({ben.user_id} if bens else set())
    assert {row["actor"] for row in log} == authors


async def test_they_go_on_after_the_server_was_started_anew(dsn: str, data: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with contextlib.AsyncExitStack() as server:
            town = await server.enter_async_context(serving(dsn, data))
            host, anna, ben = await town.classroom("Anna", "Ben", kind="interview")
            for seat in (host, anna, ben):
                seat.person.http = http
            async with talk(anna) as one:
                editor = await Editor.attached(one, anna)
                editor.write(0, "before 😀\n")
                await editor.send()
                cursor = one.cursor
                editor.write(0, "meanwhile\n")
        async with serving(dsn, data) as town:
            for seat in (host, anna, ben):
                seat.person.url = town.url
            await append(host, "plainly\n")
            assert cursor is not None
            async with talk(anna, cursor=cursor) as one, talk(ben) as two:
                editor.reconnect(one)
                await editor.send()
                late = await Editor.attached(two, ben)
                final = (await host.person.get(f"{host.path}/code")).ok()
                assert final["text"] == "meanwhile\nbefore 😀\nplainly\n"
                assert await editor.until(final["version"]) == final["text"] == str(late.text)


async def test_an_earlier_version_is_brought_back_for_everyone(town: Town) -> None:
    host, anna = await town.classroom("Anna", kind="interview")
    first = await edit(host, "the first\n")
    await edit(host, "the second\n")
    async with talk(anna) as one:
        editor = await Editor.attached(one, anna)
        for seat in (host, anna):
            await edit(seat, "something else\n")
            brought = (await seat.do("restore_code", version=first))["events"]
            assert [event["type"] for event in brought] == ["code_edited", "code_merged"]
            assert await editor.until(brought[0]["version"]) == "the first\n"
        brought = await one.do("restore_code", version=0)
        assert (await host.person.get(f"{host.path}/code")).ok()["text"] == ""
        await one.refused(404, "unknown_version", type="restore_code", version=999)
    stranger = (await town.student("Mallory")).at(host)
    (await stranger.command("restore_code", version=1)).refused(403, "not_joined")
    (await stranger.person.get(f"{host.path}/code")).refused(403, "not_joined")


async def test_who_may_only_look_follows_without_merging(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(host) as one, talk(anna) as two:
        editor = await Editor.attached(one, host)
        await two.until("snapshot")
        await two.refused(403, "not_permitted", type="merge_code", update="AAA=")
        editor.write(0, "look\n")
        await editor.send()
        follower = Editor(two)
        assert await follower.until(1) == "look\n"


async def test_what_is_no_update_is_refused_and_changes_nothing(town: Town) -> None:
    host, *_ = await town.classroom()
    async with talk(host) as one:
        editor = await Editor.attached(one, host)
        for update in ("?", "AQID"):
            problem = await one.refused(422, "not_allowed", type="merge_code", update=update)
            assert problem["field"] == "update"
        editor.write(0, "lost")
        editor.known = editor.doc.get_state()
        editor.write(4, " and found")
        update = base64.b64encode(editor.doc.get_update(editor.known)).decode()
        await one.refused(409, "behind", type="merge_code", update=update)
        editor.known = b"\0"
        await editor.send()
        assert (await host.state())["code"]["text"] == "lost and found"


async def test_the_lobby_sees_no_code(town: Town) -> None:
    host, *_ = await town.classroom(features={"lobby": True})
    await edit(host, "secret")
    anna = (await town.student()).at(host)
    await anna.join()
    (await anna.person.get(f"{anna.path}/code")).refused(403, "waiting")


async def test_a_document_of_any_size_reaches_a_late_joiner(town: Town) -> None:
    """A megabyte in parts: a single body holds no more than 64 KiB."""
    host, anna = await town.classroom("Anna", kind="interview")
    async with talk(host) as one:
        editor = await Editor.attached(one, host)
        for n in range(26):
            editor.write(0, f"{n:02}" + "x" * 39_998)
            await editor.send()
        editor.write(0, "y" * 8_576)
        await editor.send()
        editor.write(0, "z")
        await one.refused(413, "too_large", type="merge_code", update=_news(editor))
    async with talk(anna) as two:
        late = await Editor.attached(two, anna)
        assert len(str(late.text)) == 1 << 20
        late.write(0, "", 1)
        await late.send()
    assert len((await host.person.get(f"{host.path}/code")).ok()["text"]) == (1 << 20) - 1


def _news(editor: Editor) -> str:
    return base64.b64encode(editor.doc.get_update(editor.known)).decode()
