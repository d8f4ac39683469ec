"""The audio library over HTTP: uploads of every kind and every fault, who may read what, and playback in a session."""

import asyncio
import contextlib
import hashlib
import io
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from actors.session.ids import Millis
from server.settings.sections import BadSetting
from server.settings.types import Secret
from server.usecases.audio.upload import sweep
from tests.conftest import Bucket
from tests.support import audio_files
from tests.support.client import PATIENCE_S, Client, Person, Reply, Seat
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAV = audio_files.wav(60)
KIB = 1 << 10


async def send(person: Person, content: Any, filename: str = "lesson.wav", **fields: str) -> Reply:
    form = aiohttp.FormData(fields, quote_fields=False)
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    form.add_field("file", file, filename=filename, content_type="application/octet-stream")
    return await person.call("POST", "/v1/audio", raw=form)


async def upload(person: Person, content: bytes = WAV, **fields: str) -> Any:
    """Give a piece that was taken."""
    return (await send(person, content, **fields)).ok(201)


async def read(client: Client, piece: Any, method: str = "GET", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.call(method, f"/v1/audio/{piece['id']}/content", headers=named)


def blobs(town: Town) -> list[Path]:
    """List what the store of uploads holds, parts of uploads too."""
    directory = Path(town.server.services.settings.data.dir) / "blobs"
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.fixture
def nothing_left(town: Town) -> Iterator[None]:
    """Whatever the test does, no blob comes of it, and none is on the list of those to delete."""
    before = blobs(town)
    yield
    assert blobs(town) == before
    assert town.query("select * from loose_blob") == []


# Uploading


@pytest.mark.parametrize("kind", audio_files.KINDS)
async def test_a_piece_of_each_kind(town: Town, kind: str) -> None:
    tess = await town.teacher()
    content = audio_files.KINDS[kind](2.0)
    piece = await upload(tess, content, title="A lesson")
    assert piece["duration"] == pytest.approx(2, abs=0.03)
    assert piece | {"tags": {}} == {
        "id": piece["id"],
        "number": piece["number"],
        "owner_id": tess.id,
        "session_id": None,
        "title": "A lesson",
        "content_type": kind,
        "size_bytes": len(content),
        "duration": piece["duration"],
        "tags": {},
        "sha256": hashlib.sha256(content).hexdigest(),
        "created_at": piece["created_at"],
    }
    assert (await tess.get(f"/v1/audio/{piece['id']}")).ok() == piece
    answer = await read(tess, piece)
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_title_is_found_where_none_is_given(town: Town) -> None:
    tess = await town.teacher()
    tagged = audio_files.tagged_mp3("From the tags")
    assert (await send(tess, tagged, "name.mp3", title="Given")).ok(201)["title"] == "Given"
    piece = (await send(tess, tagged, "name.mp3")).ok(201)
    assert (piece["title"], piece["tags"]["artist"]) == ("From the tags", "An artist")
    assert (await send(tess, WAV, r"C:\music\Chapter 1.wav")).ok(201)["title"] == "Chapter 1"
    assert (await send(tess, WAV, "..")).ok(201)["title"] == ".."
    assert (await send(tess, WAV, " ")).ok(201)["title"] == "Untitled"


async def test_the_fields_may_come_before_the_file_and_after_it(town: Town) -> None:
    tess = await town.teacher()
    form = aiohttp.FormData({"title": "Before"})
    form.add_field("file", WAV, filename="a.wav")
    assert (await tess.call("POST", "/v1/audio", raw=form)).ok(201)["title"] == "Before"
    form = aiohttp.FormData()
    form.add_field("file", WAV, filename="a.wav")
    form.add_field("title", "After")
    assert (await tess.call("POST", "/v1/audio", raw=form)).ok(201)["title"] == "After"


async def test_lists(town: Town) -> None:
    tess, other = await town.teacher(), await town.teacher()
    host = await tess.create()
    pieces = [
        await upload(tess, title=str(n), session_id=host.id) if n % 2 else await upload(tess, title=str(n))
        for n in range(5)
    ]
    await upload(other)
    newest = list(reversed(pieces))
    assert (await tess.get("/v1/audio")).ok() == {"items": newest, "next": None}
    page = (await tess.get("/v1/audio", limit="2")).ok()
    assert page["items"] == newest[:2]
    assert (await tess.get("/v1/audio", cursor=page["next"])).ok()["items"] == newest[2:]
    assert (await tess.get("/v1/audio", session_id=host.id)).ok()["items"] == [pieces[3], pieces[1]]
    (await tess.get("/v1/audio", limit="0")).refused(422, "invalid", "limit")
    (await tess.get("/v1/audio", session_id="1")).refused(422, "invalid", "session_id")


@pytest.mark.parametrize(
    ("content", "reason", "status", "field"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(9_000), "unsupported_type", 415, "file"),
        (b"<html>", "unsupported_type", 415, "file"),
        (b"", "unsupported_type", 415, "file"),
        (b"ID3\x04\0\0\0\0\0\0" + bytes(9_000), "unsupported_type", 415, "file"),
        (audio_files.m4a(handler=b"vide"), "unsupported_type", 415, "file"),
    ],
    ids=["png", "html", "empty", "no mp3", "a film"],
)
async def test_what_is_no_sound_is_refused(
    town: Town, nothing_left: None, content: bytes, reason: str, status: int, field: str
) -> None:
    tess = await town.teacher()
    form = aiohttp.FormData()
    form.add_field("file", content, filename="lesson.mp3", content_type="audio/mpeg")
    (await tess.call("POST", "/v1/audio", raw=form)).refused(status, reason, field)


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ([("title", "A"), ("title", "B")], 422, "title"),
        ([("title", " ")], 422, "title"),
        ([("title", "a" * 501)], 422, "title"),
        ([("title", "a" * 5_000)], 413, "title"),
        ([("title", "a\0b")], 422, "title"),
        ([("title", io.BytesIO(b"\xff\xfe"))], 422, "title"),
        ([("name", "A")], 422, "name"),
        ([("session_id", "K7Q2MD")], 422, "session_id"),
        ([("session_id", "01990000-0000-7000-8000-000000000001")], 404, "session_id"),
        ([("file", WAV), ("file", WAV)], 422, "file"),
    ],
)
async def test_fields_that_do_not_do(
    town: Town, nothing_left: None, fields: list[tuple[str, Any]], status: int, field: str
) -> None:
    """They come after the file, which has been stored by then."""
    tess = await town.teacher()
    form = aiohttp.FormData()
    if fields[0][0] != "file":
        form.add_field("file", WAV, filename="a.wav")
    for name, value in fields:
        form.add_field(name, value, content_type="text/plain", filename="a" if name == "file" else None)
    (await tess.call("POST", "/v1/audio", raw=form)).refused(status, field=field)


async def test_bodies_that_are_no_forms(town: Town, nothing_left: None) -> None:
    tess = await town.teacher()

    async def post(body: bytes, content_type: str) -> Reply:
        return await tess.call("POST", "/v1/audio", raw=body, headers={"Content-Type": content_type})

    form = "multipart/form-data; boundary=x"
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    (await post(b"{}", "application/json")).refused(415, "unsupported_type")
    (await post(WAV, "audio/wav")).refused(415, "unsupported_type")
    (await post(b"", "multipart/form-data")).refused(400, "malformed")
    (await post(b"no boundary", form)).refused(400, "malformed")
    (await post(head + WAV, form)).refused(400, "malformed")
    (await post(head.replace(b"\r\n\r\n", b"\r\nContent-Length: 99999999\r\n\r\n") + WAV, form)).refused(
        400, "malformed"
    )
    (await post(b"--x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", form)).refused(400, "malformed")
    (await post(b"--x--\r\n", form)).refused(422, "invalid", "file")
    (await town.anyone.call("POST", "/v1/audio", raw=aiohttp.FormData({"file": "a"}))).refused(401)


async def test_a_piece_is_filed_only_under_a_session_that_its_owner_has_a_part_in(
    town: Town, nothing_left: None
) -> None:
    host = await (await town.teacher()).create()
    (await send(await town.teacher(), WAV, session_id=host.id)).refused(403, "not_joined", "session_id")


async def endless(sent: list[int]) -> AsyncIterator[bytes]:
    yield audio_files.wav(0)
    while True:
        sent.append(64 * KIB)
        yield bytes(64 * KIB)


async def test_an_upload_stops_at_the_limit(dsn: str, data: Path) -> None:
    async with serving(dsn, data, audio={"max_bytes": 1_024 * KIB}) as town:
        tess = await town.teacher()
        fits = audio_files.wav(size=1_024 * KIB)
        piece = await upload(tess, fits)
        (await send(tess, fits + b"\0")).refused(413, "too_large", "file")
        # Its size named at the start: refused unread. Not named: at the first byte too many.
        (await send(tess, fits + bytes(100 * KIB))).refused(413, "too_large", "file")
        sent: list[int] = []
        (await send(tess, endless(sent))).refused(413, "too_large", "file")
        assert sum(sent) < 64 << 20
        assert [path.name for path in blobs(town)] == [piece["id"]]
        assert town.query("select * from loose_blob") == []


async def test_all_of_a_users_pieces_together_have_a_limit(dsn: str, data: Path) -> None:
    async with serving(dsn, data, audio={"quota_bytes": 1_000 * KIB, "uploads_per_user": 9}) as town:
        tess, other = await town.teacher(), await town.teacher()
        half = audio_files.wav(size=600 * KIB)
        # All at once: none knows of the others when it begins, and still only one fits.
        answers = await asyncio.gather(*(send(tess, half) for _ in range(4)))
        assert sorted(answer.status for answer in answers) == [201, 413, 413, 413]
        for answer in answers:
            if answer.status == 413:
                answer.refused(413, "quota", "file")
        assert len(blobs(town)) == 1
        (await send(tess, endless([]))).refused(413, "quota", "file")
        await upload(other, half)
        [piece] = (await tess.get("/v1/audio")).ok()["items"]
        (await tess.delete(f"/v1/audio/{piece['id']}")).ok(204)
        await upload(tess, half)


@contextlib.asynccontextmanager
async def beginning(town: Town, person: Person, content: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """Send the start of an upload and no more; the connection is cut when the block ends."""
    reader, writer = await town.open_socket()
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + content
    writer.write(
        b"POST /v1/audio HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n%b"
        % ((person.token or "").encode(), len(part) + 1_000, part)
    )
    try:
        yield reader
    finally:
        writer.transport.abort()


async def test_a_connection_cut_in_the_middle_leaves_nothing(town: Town, nothing_left: None) -> None:
    before = len(blobs(town))
    async with beginning(town, await town.teacher(), audio_files.wav(size=8 << 20)):
        await wait_for(lambda: len(blobs(town)) > before)
    await wait_for(lambda: len(blobs(town)) == before and town.query("select * from loose_blob") == [])


async def test_who_sends_too_slowly_is_cut_off(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"body_timeout_s": 0.3}, audio={"min_bytes_per_s": 1_000_000}) as town:
        async with (
            beginning(town, await town.teacher(), audio_files.wav(size=300 * KIB)) as answer,
            asyncio.timeout(PATIENCE_S),
        ):
            assert (await answer.readline()).split()[1] == b"408"
        assert blobs(town) == []


async def test_places_for_uploads(dsn: str, data: Path) -> None:
    async with serving(dsn, data, audio={"uploads_per_user": 1, "uploads": 2}) as town:
        tess, other, third = await town.teacher(), await town.teacher(), await town.teacher()
        async with beginning(town, tess, audio_files.wav(size=8 << 20)):
            await wait_for(lambda: len(blobs(town)) == 1)
            (await send(tess, WAV)).refused(429, "too_many_uploads")
            async with beginning(town, other, audio_files.wav(size=8 << 20)):
                await wait_for(lambda: len(blobs(town)) == 2)
                (await send(third, WAV)).refused(503, "unavailable")
        await wait_for(lambda: len(town.server.services.uploads) == 0)
        assert blobs(town) == []
        await upload(tess)


async def test_a_store_that_is_away_is_said_so_and_what_it_did_not_delete_is_not_forgotten(
    dsn: str, data: Path
) -> None:
    async with serving(dsn, data) as town:
        tess, services = await town.teacher(), town.server.services
        piece = await upload(tess)
        directory = data / "blobs" / "audio"
        directory.rename(data / "elsewhere")
        directory.write_text("in the way")
        (await read(tess, piece)).refused(503, "unavailable")
        (await send(tess, WAV)).refused(503, "unavailable")
        (await tess.delete(f"/v1/audio/{piece['id']}")).ok(204)
        (await tess.get(f"/v1/audio/{piece['id']}")).refused(404, "unknown_audio")
        assert (f"audio/{piece['id']}",) in town.query("select blob_key from loose_blob")
        directory.unlink()
        (data / "elsewhere").rename(directory)
        town.query("update loose_blob set due_at = now() - interval '2 minutes'")
        await sweep(services.audio, services.blobs)
        assert blobs(town) == []
        assert town.query("select * from loose_blob") == []


async def test_what_a_crash_left_of_an_upload_is_swept(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        services, directory = town.server.services, data / "blobs" / "audio"
        directory.mkdir()
        (directory / "lost#1").write_bytes(b"half")
        await services.audio.announce("audio/lost", -61)
        await services.audio.announce("audio/under-way", 60)
        await sweep(services.audio, services.blobs)
        assert blobs(town) == []
        assert town.query("select blob_key from loose_blob") == [("audio/under-way",)]


async def test_uploads_in_a_bucket(dsn: str, data: Path, bucket: Bucket) -> None:
    keys = {"s3_access_key": Secret("key"), "s3_secret_key": Secret("secret")}
    chosen = {"store": "s3", "s3_bucket": bucket.name, "s3_endpoint": bucket.endpoint, **keys}
    async with serving(dsn, data, blobs=chosen, audio={"max_bytes": 12 << 20}) as town:
        tess = await town.teacher()
        content = audio_files.wav(size=11 << 20)
        piece = await upload(tess, content)
        assert piece["duration"] == pytest.approx((len(content) - 44) / 16_000)
        assert bucket.keys() == [f"audio/{piece['id']}"]
        assert (await read(tess, piece)).body == content
        assert (await read(tess, piece, Range="bytes=6000000-6000009")).body == content[6_000_000:6_000_010]
        (await send(tess, endless([]))).refused(413, "too_large")
        async with beginning(town, tess, content):
            await wait_for(lambda: len(bucket.unfinished()) == 1)
        await wait_for(lambda: bucket.unfinished() == [])
        assert len(bucket.keys()) == 1
        (await tess.delete(f"/v1/audio/{piece['id']}")).ok(204)
        assert bucket.keys() == []


async def test_a_bucket_that_is_not_there_stops_the_start(dsn: str, data: Path, bucket: Bucket) -> None:
    for name, message in (("", 'blobs.s3_bucket = ""'), ("no-such-bucket", "blobs.s3_bucket = 'no-such-bucket'")):
        keys = {"s3_access_key": Secret("key"), "s3_secret_key": Secret("secret")}
        chosen = {"store": "s3", "s3_bucket": name, "s3_endpoint": bucket.endpoint, **keys}
        with pytest.raises(BadSetting, match=message):
            async with serving(dsn, data, blobs=chosen):
                pass


# Reading


async def test_ranges_and_conditions(town: Town) -> None:
    tess = await town.teacher()
    piece = await upload(tess)
    size, tag = len(WAV), f'"{piece["sha256"]}"'

    part = await read(tess, piece, Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, WAV[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{size}"
    assert part.headers["Accept-Ranges"] == "bytes"
    assert part.headers["ETag"] == tag
    assert (await read(tess, piece, Range="bytes=-44")).body == WAV[-44:]
    assert (await read(tess, piece, Range=f"bytes={size - 1}-")).body == WAV[-1:]
    past = await read(tess, piece, Range=f"bytes={size}-")
    past.refused(416, "bad_range")
    assert past.headers["Content-Range"] == f"bytes */{size}"
    assert (await read(tess, piece, Range="bytes=0-9", If_Range=tag)).status == 206
    assert (await read(tess, piece, Range="bytes=0-9", If_Range='"old"')).body == WAV
    known = await read(tess, piece, If_None_Match=tag)
    assert (known.status, known.body, known.headers["ETag"]) == (304, b"", tag)
    (await read(tess, piece, If_Match='"old"')).refused(412, "changed")

    head = await read(tess, piece, "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(size))
    head = await read(tess, piece, "HEAD", Range="bytes=0-9")
    assert (head.status, head.body, head.headers["Content-Length"]) == (206, b"", "10")


async def test_a_reader_who_stops_reading_is_waited_for_and_nobody_else_is(town: Town) -> None:
    tess = await town.teacher()
    content = audio_files.wav(size=16 << 20)
    piece = await upload(tess, content)
    reader, writer = await town.open_socket(receive_buffer=4_096)
    try:
        request = (
            f"GET /v1/audio/{piece['id']}/content HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tess.token}\r\n\r\n"
        )
        writer.write(request.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await read(tess, piece, Range="bytes=0-9")).status == 206
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(len(content)) == content
    finally:
        writer.transport.abort()


async def test_who_may_read_a_piece(town: Town) -> None:
    """One matrix: six people, before and after the piece is put on, and what becomes of it."""
    host, anna, ben, zoe = await town.classroom("Anna", "Ben", "Zoe")
    owner, stranger = host.person, await town.student("Eve")
    away = (await town.student("Away")).at(host)
    await away.join()
    await away.do("leave")
    invited = await town.student("Ivy")
    await host.do("invite", user_id=invited.id)
    piece = await upload(owner)
    people = {"owner": owner, "anna": anna.person, "away": away.person, "invited": invited, "stranger": stranger}

    async def readers() -> set[str]:
        able = set()
        for name, person in people.items():
            statuses = [
                (await person.get(f"/v1/audio/{piece['id']}{path}")).status for path in ("", "/content", "/url")
            ]
            assert statuses in ([200] * 3, [404] * 3), (name, statuses)
            if statuses[0] == 200:
                able.add(name)
        return able

    assert await readers() == {"owner"}
    await host.do("select_audio", audio_id=piece["id"])
    assert await readers() == {"owner", "anna", "away"}
    await host.do("kick", user_id=anna.user_id)
    await town.committed()
    assert await readers() == {"owner", "away"}
    (await anna.person.get(f"/v1/audio/{piece['id']}")).refused(404, "unknown_audio")
    (await town.anyone.get(f"/v1/audio/{piece['id']}/content")).refused(401)
    (await away.person.delete(f"/v1/audio/{piece['id']}")).refused(403, "not_permitted")
    (await stranger.delete(f"/v1/audio/{piece['id']}")).refused(404, "unknown_audio")
    for unknown in ("01990000-0000-7000-8000-000000000001", "1", "x" * 500):
        problem = (await owner.get(f"/v1/audio/{unknown}")).refused(404, "unknown_audio", "audio_id")
        assert unknown in problem["detail"]

    # A voice message to one alone: the two sides, and nobody else, until it is taken back.
    note = await upload(ben.person, audio_files.webm(2), title="Between us")
    sent = (await ben.do("send_voice", audio_id=note["id"], to=host.user_id))["events"][0]
    assert sent["voice"]["audio_id"] == note["id"]
    for person, status in ((ben.person, 200), (owner, 200), (zoe.person, 404), (away.person, 404)):
        assert (await read(person, note)).status == status
    (await zoe.command("send_voice", audio_id=note["id"])).refused(404, "unknown_audio", "audio_id")
    await ben.do("delete_message", message_id=sent["message_id"])
    assert (await read(owner, note)).status == 404
    assert (await read(ben.person, note)).status == 200

    # The session's end changes nothing; its deletion does.
    await host.do("end")
    assert await readers() == {"owner", "away"}
    (await owner.delete(host.path)).ok(204)
    assert await readers() == {"owner"}


async def test_where_a_piece_is_filed_is_its_owners_business(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    piece = await upload(host.person, session_id=host.id)
    await host.do("select_audio", audio_id=piece["id"])
    assert (await host.person.get(f"/v1/audio/{piece['id']}")).ok()["session_id"] == host.id
    assert (await anna.person.get(f"/v1/audio/{piece['id']}")).ok()["session_id"] is None


async def test_signed_urls(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        piece = await upload(host.person)
        await host.do("select_audio", audio_id=piece["id"])
        made = (await anna.person.get(f"/v1/audio/{piece['id']}/url")).ok()
        url = made["url"].removeprefix(town.url)
        assert url.startswith(f"/v1/audio/{piece['id']}/content?")
        assert made["expires_at"].endswith("Z")
        anyone = town.anyone
        assert (await anyone.get(url)).body == WAV
        assert (await anyone.call("GET", url, headers={"Range": "bytes=0-9"})).body == WAV[:10]
        other = await upload(host.person)
        for forged in (
            url.replace(piece["id"], other["id"]),
            url.replace(anna.user_id, host.user_id),
            url.replace("expires=1", "expires=2"),
            url[:-1] + ("0" if url[-1] != "0" else "1"),
            url.partition("&expires")[0],
            url.partition("&signature")[0],
        ):
            (await anyone.get(forged)).refused(403, "bad_signature", "signature")
        (await anyone.get(url + "&x=1")).refused(422, "invalid", "x")
        again = (await (await anna.person.log_in_again()).get(f"/v1/audio/{piece['id']}/url")).ok()["url"]
        again = again.removeprefix(town.url)
        (await anna.person.post("/v1/auth/logout")).ok(204)
        (await anyone.get(url)).refused(401, "revoked")
        assert (await anyone.get(again)).status == 200
        await host.do("kick", user_id=anna.user_id)
        (await anyone.get(again)).refused(404, "unknown_audio")


async def test_a_signed_url_expires(town: Town) -> None:
    tess = await town.teacher()
    piece = await upload(tess)
    url = (await tess.get(f"/v1/audio/{piece['id']}/url")).ok()["url"].removeprefix(town.url)
    urls = town.server.services.audio_urls
    over = urls.signed(url.partition("&expires=")[0], int(time.time()) - 1)
    (await town.anyone.get(over)).refused(403, "expired", "expires")
    assert (await town.anyone.get(urls.signed(url.partition("&expires=")[0], int(time.time()) + 60))).status == 200


async def test_a_url_of_a_login_that_is_over_stays_over_however_long_it_was_good_for(dsn: str, data: Path) -> None:
    month = {"url_ttl_s": 30 * 86_400}
    async with serving(dsn, data, audio=month) as town:
        tess = await town.teacher()
        piece = await upload(tess)
        url = (await tess.get(f"/v1/audio/{piece['id']}/url")).ok()["url"].removeprefix(town.url)
        (await tess.post("/v1/auth/logout")).ok(204)
        town.query("update logins set revoked_at = now() - interval '10 days' where revoked_at is not null")
    async with serving(dsn, data, audio=month) as town:
        (await town.anyone.get(url)).refused(401, "revoked")


# In a session


async def test_only_ones_own_and_what_the_session_has_shown_can_be_put_on(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await host.do("set_permissions", user_id=anna.user_id, grant=["control_audio"])
    mine, hers = await upload(host.person, title="Mine"), await upload(anna.person, title="Hers")
    for seat, piece in ((host, hers), (anna, mine)):
        problem = (await seat.command("select_audio", audio_id=piece["id"])).refused(404, "unknown_audio", "audio_id")
        assert piece["id"] in problem["detail"]
    (await host.command("select_audio", audio_id="1")).refused(422, "invalid", "audio_id")
    (await ben.command("select_audio", audio_id=hers["id"])).refused(403, "not_permitted")
    event = (await host.do("select_audio", audio_id=mine["id"]))["events"][0]
    assert (event["type"], event["title"], event["duration"]) == ("audio_selected", "Mine", 60.0)
    # Shown to everyone here: she may put it on again; elsewhere she may not.
    await anna.do("select_audio", audio_id=hers["id"])
    await anna.do("select_audio", audio_id=mine["id"])
    await host.do("select_audio", audio_id=hers["id"])
    elsewhere = (await town.classroom())[0]
    await elsewhere.do("invite", user_id=anna.user_id)
    moved = anna.person.at(elsewhere)
    await moved.do("join")
    await elsewhere.do("set_permissions", user_id=anna.user_id, grant=["control_audio"])
    (await moved.command("select_audio", audio_id=mine["id"])).refused(404, "unknown_audio")


async def test_a_piece_that_is_on_in_a_live_session_is_not_deleted(town: Town) -> None:
    host = (await town.classroom())[0]
    piece, other = await upload(host.person), await upload(host.person)
    await host.do("select_audio", audio_id=piece["id"])
    problem = (await host.person.delete(f"/v1/audio/{piece['id']}")).refused(409, "in_use")
    assert host.id in problem["detail"]
    await host.do("select_audio", audio_id=other["id"])
    (await host.person.delete(f"/v1/audio/{piece['id']}")).ok(204)
    (await host.person.delete(f"/v1/audio/{piece['id']}")).refused(404, "unknown_audio")
    await host.do("end")
    (await host.person.delete(f"/v1/audio/{other['id']}")).ok(204)
    assert town.query("select * from audio_use where session_id = %s", host.id) == []


async def test_a_voice_message_and_the_key_that_makes_it_one(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    note = await upload(anna.person, audio_files.webm(3), title="A question")
    first = (await anna.command("send_voice", audio_id=note["id"], idempotency_key="k")).ok()
    assert (await anna.command("send_voice", audio_id=note["id"], idempotency_key="k")).ok() == first
    [message] = (await host.state())["chat"]
    assert message["voice"] == {"audio_id": note["id"], "duration": note["duration"]}
    assert (await read(host.person, note)).body == audio_files.webm(3)


async def test_a_track_plays_to_its_end_and_the_history_says_so(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    piece = await upload(host.person, audio_files.wav(0.4))
    await host.do("select_audio", audio_id=piece["id"])
    async with anna.stream() as stream:
        started = (await host.do("play", speed=2.0))["events"][0]
        ended = (await stream.until("audio_ended")).data
    assert ended["actor"] is None
    assert 200 <= between(started, ended) < 400
    history = (await anna.person.get(f"{anna.path}/playback")).ok()
    assert [row["type"] for row in history["items"]] == ["audio_selected", "audio_play", "audio_ended"]
    page = (await anna.person.get(f"{anna.path}/playback", limit="1")).ok()
    assert (await anna.person.get(f"{anna.path}/playback", cursor=page["next"])).ok()["items"] == history["items"][1:]
    (await (await town.student()).get(f"{anna.path}/playback")).refused(403, "not_joined")
    waiting = (await town.student()).at(host)
    await host.do("update", features={"lobby": True})
    assert (await waiting.join())["status"] == "waiting"
    (await waiting.person.get(f"{anna.path}/playback")).refused(403, "not_joined")
    await waiting.do("leave")
    (await waiting.person.get(f"{anna.path}/playback")).refused(403, "not_joined")
    (await waiting.person.get(f"/v1/audio/{piece['id']}")).refused(404, "unknown_audio")
    await host.do("kick", user_id=anna.user_id)
    (await anna.person.get(f"{anna.path}/playback")).refused(403, "not_joined")


def between(first: Any, second: Any) -> float:
    """Give the milliseconds between two events."""
    return millis(second["at"]) - millis(first["at"])


def millis(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


async def test_a_late_joiner_gets_the_position_as_of_now(town: Town) -> None:
    host = (await town.classroom())[0]
    piece = await upload(host.person)
    await host.do("select_audio", audio_id=piece["id"])
    played = (await host.do("play", position=10.0, speed=1.5))["events"][0]
    late = (await town.student()).at(host)
    await late.join()
    async with late.stream() as stream:
        snapshot = (await stream.next()).data
    for state in (snapshot, await late.state()):
        playback = state["playback"]
        assert (playback["status"], playback["speed"], playback["track"]["audio_id"]) == ("playing", 1.5, piece["id"])
        since_s = (millis(playback["at"]) - millis(played["at"])) / 1000
        assert playback["position"] == pytest.approx(10 + 1.5 * since_s)
        assert playback["at"] == state["server_time"]


async def test_the_end_comes_in_time_though_the_session_has_left_memory(town: Town) -> None:
    host = (await town.classroom())[0]
    piece = await upload(host.person, audio_files.wav(2))
    await host.do("select_audio", audio_id=piece["id"])
    await host.do("play")
    await town.passivate(host)
    directory = town.server.services.directory
    # What the directory does every few seconds: it looks ahead, and the session's own timer does the rest.
    await directory.wake_due()
    await wait_for(lambda: playback_types(town, host)[-1] == "audio_ended")
    assert 2_000 <= played_ms(town, host) < 2_250


async def test_the_end_comes_in_time_over_a_restart(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host = (await town.classroom())[0]
        piece = await upload(host.person, audio_files.wav(3))
        await host.do("select_audio", audio_id=piece["id"])
        await host.do("play")
    async with serving(dsn, data) as town:
        await wait_for(lambda: playback_types(town, host)[-1] == "audio_ended")
        assert 3_000 <= played_ms(town, host) < 3_250
        assert (await read(Client(town.http, town.url, host.person.token), piece)).status == 200


def playback_types(town: Town, seat: Seat) -> list[str]:
    rows = town.query("select type from session_log where session_id = %s order by seq", seat.id)
    return [row[0] for row in rows if row[0].startswith("audio_")]


def played_ms(town: Town, seat: Seat) -> Millis:
    [row] = town.query(
        "select extract(epoch from max(at) filter (where type = 'audio_ended')"
        " - max(at) filter (where type = 'audio_play')) * 1000 from session_log where session_id = %s",
        seat.id,
    )
    return Millis(round(row[0]))


async def test_a_guest_hears_what_the_session_plays_and_has_no_library(town: Town) -> None:
    host = (await town.classroom(features={"guests": True}))[0]
    piece, other = await upload(host.person), await upload(host.person)
    made = (await town.anyone.post(f"/v1/sessions/{host.code}/guests", {"name": "Gus"})).ok(201)
    guest = Client(town.http, town.url, made["token"])
    (await guest.post(f"{host.path}/commands", {"type": "join"})).ok()
    await host.do("select_audio", audio_id=piece["id"])
    assert (await read(guest, piece, Range="bytes=0-9")).body == WAV[:10]
    url = (await guest.get(f"/v1/audio/{piece['id']}/url")).ok()["url"].removeprefix(town.url)
    assert (await town.anyone.get(url)).body == WAV
    (await town.anyone.get(url.replace(host.id, piece["id"]))).refused(403, "bad_signature")
    (await guest.get(f"/v1/audio/{other['id']}")).refused(404, "unknown_audio")
    (await guest.get("/v1/audio")).refused(403, "wrong_scope")
    form = aiohttp.FormData()
    form.add_field("file", WAV, filename="a.wav")
    (await guest.call("POST", "/v1/audio", raw=form)).refused(403, "wrong_scope")


async def test_a_token_for_one_session_reads_not_even_ones_own_elsewhere(town: Town) -> None:
    host = (await town.classroom())[0]
    shown, kept = await upload(host.person), await upload(host.person)
    await host.do("select_audio", audio_id=shown["id"])
    token = (await host.person.post(f"{host.path}/tokens", {})).ok(201)["token"]
    scoped = Client(town.http, town.url, token)
    assert (await read(scoped, shown)).status == 200
    assert (await read(scoped, kept)).status == 404
    body = {"type": "select_audio", "audio_id": kept["id"]}
    (await scoped.post(f"{host.path}/commands", body)).refused(404, "unknown_audio")
    (await scoped.delete(f"/v1/audio/{shown['id']}")).refused(403, "wrong_scope")
