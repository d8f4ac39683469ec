"""Audio in `seeds`: the library by numbers, and playback that everybody hears at one place."""

import asyncio
import re
from typing import Any

import pytest

from tests.support import audio_files
from tests.support.client import PATIENCE_S, Client
from tests.support.dialects.school import BASE, WAV, Pupil, detail, invalid, lesson, pupil
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NOBODYS = 2_000_000_000


# The library


@pytest.mark.parametrize("kind", [kind for kind in audio_files.KINDS if kind != "audio/flac"])
async def test_a_piece_of_each_kind(town: Town, kind: str) -> None:
    tess = await pupil(town, "teacher", "Tess")
    content = audio_files.KINDS[kind](2.0)
    piece = (await tess.upload("/audio/upload", content, title="A song", user_id=str(tess.id), other="x")).ok()
    assert piece == {
        "audio_id": piece["audio_id"], "title": "A song", "duration": pytest.approx(2, abs=0.03), "content_type": kind,
        "size_bytes": len(content), "created_at": piece["created_at"],
        "stream_url": f"/audio/{piece['audio_id']}/stream",
    }  # fmt: skip
    assert isinstance(piece["audio_id"], int)
    assert MOMENT.fullmatch(piece["created_at"])
    path = f"{BASE}/audio/{piece['audio_id']}"
    whole = await tess.get(f"{path}/stream")
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["Accept-Ranges"] == "bytes"
    part = await tess.call("GET", f"{path}/stream", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    beyond = await tess.call("GET", f"{path}/stream", headers={"Range": f"bytes={len(content)}-"})
    assert detail(beyond, 416)
    assert beyond.headers["Content-Range"] == f"bytes */{len(content)}"
    played = await tess.call("GET", f"{path}/play", headers={"Range": "bytes=10-19"})
    assert (played.status, played.body) == (200, content)
    assert played.headers["Content-Disposition"] == "inline"
    assert played.headers["Content-Type"] == kind


async def test_the_list_is_ones_own_newest_first(town: Town) -> None:
    tess, other = await pupil(town, "teacher", "Tess"), await pupil(town, "teacher", "Theo")
    pieces = [await tess.piece(title) for title in ("One", "Two")]
    await other.piece("Not hers")
    assert (await tess.get(f"{BASE}/audio/list")).ok() == pieces[::-1]
    assert (await tess.get(f"{BASE}/audio/list", limit="1")).ok() == pieces[1:]


async def test_what_is_no_upload(town: Town) -> None:
    tess, anna = await pupil(town, "teacher", "Tess"), await pupil(town)
    assert detail(await anna.upload(title="x"), 403) == "Teacher permission required"
    assert invalid(await tess.upload()) == (["body", "title"], "missing")
    assert invalid(await tess.upload(title="x" * 501))[0] == ["body", "title"]
    assert detail(await tess.upload("/audio/upload", b"just text", title="x"), 415)
    assert detail(await tess.upload(title="x", user_id=str(anna.id)), 403)
    assert detail(await tess.upload(title="x", session_id="many"), 404) == "Session not found"
    assert (await tess.get(f"{BASE}/audio/list")).ok() == []


async def test_an_upload_for_a_session_stands_in_its_log(town: Town) -> None:
    room = await lesson(town)
    filed = await room.tess.piece("Filed", session_id=str(room.number))
    await room.tess.piece("Unfiled")
    assert room.rows()[2:] == [("audio_uploaded", room.tess.id, {"title": "Filed", "duration": filed["duration"]})]
    other = await pupil(town, "teacher", "Theo")
    for _ in range(2):
        assert detail(await other.upload(title="x", session_id=str(room.number)), 403)
        await room.join(other)
    assert (await other.get(f"{BASE}/audio/list")).ok() == []
    (await room.tess.delete(room.path)).ok()
    late = await room.tess.upload(title="Late", session_id=str(room.number))
    assert detail(late, 400) == "Session is not active"
    assert [one["title"] for one in (await room.tess.get(f"{BASE}/audio/list")).ok()] == ["Unfiled", "Filed"]
    # Nobody is told of it but those who lead: it has not been played to anybody.
    assert (await room.anna.get(f"{BASE}/audio/{filed['audio_id']}/stream")).status == 404


async def test_who_may_hear_what(town: Town) -> None:
    room = await lesson(town)
    stranger = await pupil(town, "teacher", "Theo")
    piece = await room.tess.piece()
    path = f"{BASE}/audio/{piece['audio_id']}/stream"
    assert detail(await room.anna.get(path), 404) == "Audio not found"
    (await room.tess.post(f"{room.path}/audio/select?audio_id={piece['audio_id']}")).ok()
    assert (await room.anna.get(path)).body == WAV
    assert (await Client(town.http, town.url).get(path, token=room.anna.token or "")).body == WAV
    assert detail(await stranger.get(path), 404) == "Audio not found"
    assert detail(await town.anyone.get(path), 401) == "Not authenticated"
    for name in ("0", str(NOBODYS), "x", "9" * 30):
        assert detail(await room.tess.get(f"{BASE}/audio/{name}/stream"), 404) == "Audio not found"


# Playback


async def state(person: Pupil, number: int) -> Any:
    found = (await person.get(f"{BASE}/sessions/{number}/audio/state")).ok()
    assert MOMENT.fullmatch(found.pop("server_time"))
    return found


async def test_selecting_playing_pausing(town: Town) -> None:
    room = await lesson(town)
    piece, other = await room.tess.piece("A song"), await room.tess.piece("Another")
    audio_id, path = piece["audio_id"], f"{room.path}/audio"
    nothing = {"audio_id": None, "title": None, "status": "stopped", "speed": 1.0, "position": 0.0, "duration": None}
    assert await state(room.anna, room.number) == nothing
    for what, body in (("play", None), ("pause", None), ("control", {"action": "seek", "position": 1})):
        assert detail(await room.tess.post(f"{path}/{what}", body), 400) == "No audio selected for this session"
    assert (await room.tess.post(f"{path}/select?audio_id={audio_id}")).ok() == {
        "ok": True, "audio_id": audio_id, "title": "A song",
    }  # fmt: skip
    on = {**nothing, "audio_id": audio_id, "title": "A song", "duration": 60.0}
    assert await state(room.anna, room.number) == on
    assert (await room.tess.get(f"{room.path}/state")).ok()["active_audio"] is None

    playing = (await room.tess.send(f"/sessions/{room.number}/audio/play", speed="0.5", position="10")).ok()
    assert playing.keys() == {"ok", "server_time", *on}
    assert {name: playing[name] for name in ("ok", "audio_id", "title", "status", "speed", "duration")} == {
        "ok": True, "audio_id": audio_id, "title": "A song", "status": "playing", "speed": 0.5, "duration": 60.0,
    }  # fmt: skip
    assert 10 <= playing["position"] < 12
    active = (await room.tess.get(f"{room.path}/state")).ok()["active_audio"]
    assert active.keys() == {"audio_id", "started_at"}
    assert active["audio_id"] == audio_id
    async with asyncio.timeout(PATIENCE_S):
        while (position := (await state(room.anna, room.number))["position"]) <= playing["position"]:
            pass
    assert position < 12, "it moves on"

    paused = (await room.tess.post(f"{path}/pause")).ok()
    assert paused["status"] == "paused"
    assert (await state(room.anna, room.number))["position"] == paused["position"]
    sought = (await room.tess.post(f"{path}/control", {"action": "seek", "position": 30})).ok()
    assert (sought["status"], sought["position"]) == ("paused", 30.0)
    (await room.tess.post(f"{path}/control", {"action": "speed", "speed": 2})).ok()
    again = (await room.tess.post(f"{path}/control", {"action": "play"})).ok()
    assert (again["status"], again["speed"]) == ("playing", 2.0)
    assert 30 <= again["position"] < 35
    swapped = (await room.tess.post(f"{path}/play?audio_id={other['audio_id']}", {})).ok()
    assert (swapped["title"], swapped["status"], swapped["speed"]) == ("Another", "playing", 1.0)

    position = paused["position"]
    assert [(kind, said) for kind, _, said in room.rows()[2:]] == [
        ("audio_selected", {"audio_id": audio_id, "audio_title": "A song"}),
        ("audio_play", {"audio_id": audio_id, "position": 10.0, "speed": 0.5}),
        ("audio_pause", {"position": pytest.approx(position, abs=0.001)}),
        ("audio_seek", {"audio_id": audio_id, "position": 30.0}),
        ("audio_play", {"audio_id": audio_id, "position": 30.0, "speed": 2.0}),
        ("audio_selected", {"audio_id": other["audio_id"], "audio_title": "Another"}),
        ("audio_play", {"audio_id": other["audio_id"], "position": 0.0, "speed": 1.0}),
    ]
    history = (await room.anna.get(f"{room.path}/playback")).ok()
    assert [line["event_type"] for line in history] == [kind for kind, _, _ in room.rows()[:1:-1]]
    assert history[0].keys() == {"log_id", "event_type", "user_id", "event_details", "created_at"}
    assert len((await room.anna.get(f"{room.path}/playback", limit="2")).ok()) == 2


async def test_another_speed_while_it_plays_is_played_so(town: Town) -> None:
    room = await lesson(town)
    piece = await room.tess.piece()
    (await room.tess.post(f"{room.path}/audio/play?audio_id={piece['audio_id']}")).ok()
    (await room.tess.post(f"{room.path}/audio/control?action=speed&speed=1.5")).ok()
    (await room.tess.post(f"/v1/sessions/{room.number}/commands", {"type": "stop"})).ok()
    *_, (faster, _, said), (stopped, _, at) = room.rows()
    assert (faster, said["audio_id"], said["speed"]) == ("audio_play", piece["audio_id"], 1.5)
    assert (stopped, at) == ("audio_pause", {"position": 0.0})


async def test_who_controls_and_with_what(town: Town) -> None:
    room = await lesson(town)
    theirs = await (await pupil(town, "teacher", "Theo")).piece()
    piece, path = await room.tess.piece(), f"{room.path}/audio"
    for audio_id in (theirs["audio_id"], NOBODYS):
        for what in ("select", "play"):
            reply = await room.tess.post(f"{path}/{what}?audio_id={audio_id}")
            assert detail(reply, 404) == "Audio not found"
    assert invalid(await room.tess.post(f"{path}/select")) == (["body", "audio_id"], "missing")
    (await room.tess.post(f"{path}/select?audio_id={piece['audio_id']}")).ok()
    for what, body in (
        (f"select?audio_id={piece['audio_id']}", None), ("play", None), ("pause", None),
        ("control", {"action": "play"}),
    ):  # fmt: skip
        assert detail(await room.anna.post(f"{path}/{what}", body), 403) == "Teacher permission required"
    for speed in ("0.4", "2.1", "fast"):
        assert invalid(await room.tess.post(f"{path}/play?speed={speed}"))[0] == ["body", "speed"]
    assert invalid(await room.tess.post(f"{path}/control", {"action": "rewind"}))[0] == ["body", "action"]
    assert invalid(await room.tess.post(f"{path}/control", {"action": "seek"})) == (["body", "position"], "missing")
    assert invalid(await room.tess.post(f"{path}/control", {"action": "speed"})) == (["body", "speed"], "missing")
    assert detail(await room.tess.post(f"{path}/play?position=61"), 400)
    (await room.tess.delete(room.path)).ok()
    assert detail(await room.tess.post(f"{path}/play"), 400) == "Session is not active"
