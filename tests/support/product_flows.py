"""The clients of the five products: each plays a session of its product.

**Law:** a flow checks every answer and every frame when it arrives. `shown` is the session's final view, and `log` its
expected log, so that tests can compare both later.
"""

import asyncio
import contextlib
import itertools
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import aiohttp
import jwt

from tests.support import audio_files
from tests.support.booking import hour
from tests.support.client import PASSWORD, Client, Reply, Stream

PATIENCE_S = 30.0
ISSUER = "https://login.example.org"
"""Makes the tokens of two of the products, which have their users elsewhere."""
SECRET = "a shared secret of thirty-two bytes or more"
WAV = audio_files.wav(20)
NAIVE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLIS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_numbers = itertools.count(1)


class Someone(Client):
    """A user with a token and their id in the product."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str, id_: Any, name: str) -> None:
        super().__init__(http, url, token)
        self.id = id_
        self.name = name


class Talk:
    """An open socket of `{type, data}` messages."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, kind: str, **data: Any) -> None:
        await self.ws.send_json({"type": kind, "data": data})

    async def hears(self, kind: str, **data: Any) -> Any:
        """Return the data of the next frame, which must be of this type and contain this."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, f"{kind} was to come: {message}"
        frame = message.json()
        assert frame.keys() == {"type", "data"}
        assert frame["type"] == kind, f"{kind} was to come: {frame}"
        assert frame["data"].items() >= data.items(), f"{data} was to come: {frame}"
        return frame["data"]

    async def closed(self, code: int) -> None:
        """Check that no frame follows and the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, code), message


class Flow:
    """A session of a product. Every second one `ends`."""

    product: ClassVar[str]
    kind: ClassVar[str]
    names: ClassVar = ["Anna", "Tess"]
    """Who has ever been in it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, number: int) -> None:
        self.http = http
        self.url = url
        self.number = number
        self.ends = number % 2 == 1
        self.anyone = Client(http, url)
        self.owner: Someone
        self.other: Someone
        self.ref = ""
        """What names it in `/v1`."""
        self.log: list[str] = []
        """The types of its log's rows, presence left out."""

        self.rows = 0
        """How long its log was at some time, and what it showed."""
        self.kept: Any = None

    @property
    def status(self) -> str:
        return "ended" if "session_ended" in self.log else "live"

    async def play(self) -> None:
        raise NotImplementedError

    async def shown(self) -> Any:
        """Return the product's view of the session, without the values that differ for each reader."""
        raise NotImplementedError

    async def listed(self) -> None:
        """Check the session's entry in the product's own list."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def talk(self, path: str, who: Client) -> AsyncIterator[Talk]:
        async with self.http.ws_connect(self.url + path, params={"token": who.token or ""}) as ws:
            yield Talk(ws)

    async def user(self, name: str, role: str) -> Someone:
        """Return a user with a token of the product's own login, who gets an account here."""
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": self.email(name), "iat": now, "exp": now + 3600, "name": name, "role": role}
        someone = Someone(self.http, self.url, jwt.encode(claims, SECRET, algorithm="HS256"), None, name)
        someone.id = (await someone.get("/v1/me")).ok()["id"]
        return someone

    def email(self, name: str) -> str:
        return f"{name}-{self.product}-{next(_numbers)}@example.org".lower()


def said(reply: Reply, status: int, body: Any) -> None:
    """Check that an answer is this one."""
    assert (reply.status, reply.json) == (status, body), f"{reply.status}: {reply.body!r}"


def has(answer: Mapping[str, Any], **fields: Any) -> Any:
    """Check that an answer contains this."""
    assert answer.items() >= fields.items(), f"{fields} was to be in {answer}"
    return answer


class Tutorium(Flow):
    product, kind = "tutorium", "tutoring"
    base = "/tutorium/api/v1"
    RESPONSE: ClassVar = {
        "title", "description", "scheduled_start", "max_participants", "enable_recording", "enable_chat", "id",
        "teacher_id", "status", "daily_room_url", "room_code", "actual_start", "ended_at", "created_at", "updated_at",
    }  # fmt: skip

    async def account(self, name: str, role: str) -> Someone:
        body = {"name": name, "email": self.email(name), "password": PASSWORD, "role": role}
        user = (await self.anyone.post(f"{self.base}/auth/register", body)).ok(201)
        assert user == {"id": user["id"], "name": name, "email": body["email"], "role": role}
        login = {"email": body["email"], "password": PASSWORD}
        token = (await self.anyone.post(f"{self.base}/auth/login", login)).ok()
        assert token == {"access_token": token["access_token"], "token_type": "bearer"}
        return Someone(self.http, self.url, token["access_token"], user["id"], name)

    async def play(self) -> None:
        tess, anna = await self.account("Tess", "teacher"), await self.account("Anna", "student")
        made = (await tess.post(f"{self.base}/sessions", {"title": "Algebra", "extra": 1})).ok(201)
        assert made.keys() == self.RESPONSE | {"teacher_join_url", "participant_count"}
        has(made, status="scheduled", participant_count=0, max_participants=50, teacher_id=tess.id)
        assert NAIVE.fullmatch(made["created_at"])
        self.owner, self.other, self.ref = tess, anna, str(made["id"])
        self.path = path = f"{self.base}/sessions/{made['id']}"
        said(await anna.get(path), 403, {"detail": "Not a participant of this session"})
        code = {"room_code": made["room_code"].lower()}
        came = (await anna.post(f"{self.base}/sessions/join-by-code", code)).ok()
        assert came.keys() == {"session_id", "join_url", "room_name", "token"}
        assert came["join_url"] == f"{made['daily_room_url']}?t={came['token']}"
        assert (await tess.post(f"{path}/join", {})).ok().keys() == {"join_url", "room_name", "token"}
        has((await anna.get(path)).ok(), status="active", participant_count=2)
        changed = (await tess.patch(path, {"title": "Geometry"})).ok()
        assert has(changed, title="Geometry").keys() == self.RESPONSE
        said(await anna.post(f"{path}/leave", {}), 200, {"success": True})
        roles = [(one["role"], one["connection_status"]) for one in (await tess.get(f"{path}/participants")).ok()]
        assert roles == [("teacher", "joined"), ("student", "left")]
        self.log = [
            "session_created", "participant_invited", "participant_joined", "session_started", "participant_joined",
            "session_updated", "participant_left",
        ]  # fmt: skip
        if self.ends:
            assert has((await tess.patch(path, {"status": "ended"})).ok(), status="ended")["ended_at"]
            said(await anna.post(f"{path}/join", {}), 410, {"detail": "Session has ended"})
            self.log.append("session_ended")
        else:
            (await anna.post(f"{path}/join", {})).ok()
            self.log.append("participant_joined")

    async def shown(self) -> Any:
        detail = (await self.owner.get(self.path)).ok()
        detail.pop("teacher_join_url")
        return detail, (await self.owner.get(f"{self.path}/participants")).ok()

    async def listed(self) -> None:
        ours = (await self.owner.get(f"{self.base}/sessions", status="ended" if self.ends else "active")).ok()
        others = (await self.owner.get(f"{self.base}/sessions", status="active" if self.ends else "ended")).ok()
        assert ([one["id"] for one in ours["sessions"]], ours["total"]) == ([int(self.ref)], 1)
        assert others == {"sessions": [], "total": 0}


class Seeds(Flow):
    product, kind = "seeds", "classroom"
    names: ClassVar = ["Anna"]
    base = "/seeds"

    async def account(self, name: str, role: str) -> Someone:
        phone = str(9_000_000_000 + next(_numbers))
        body = {"name": name, "phone_number": phone, "password": "secret", "role": role}
        user = (await self.anyone.post(f"{self.base}/auth/register", body)).ok()
        assert has(user, name=name, phone_number=phone, role=role).keys() == {
            "user_id", "name", "phone_number", "role", "created_at",
        }  # fmt: skip
        form = aiohttp.FormData({"username": phone, "password": "secret"})
        token = (await self.anyone.call("POST", f"{self.base}/auth/login", raw=form)).ok()
        has(token, token_type="bearer", user_id=user["user_id"], role=role, name=name)
        return Someone(self.http, self.url, token["access_token"], user["user_id"], name)

    async def play(self) -> None:
        tess, anna = await self.account("Tess", "teacher"), await self.account("Anna", "student")
        made = (await tess.post(f"{self.base}/sessions", {"title": "Birds"})).ok()
        has(made, title="Birds", is_active=True, created_by=tess.id, ended_at=None, participant_count=0)
        self.owner, self.other, self.ref = tess, anna, str(made["session_id"])
        self.path = path = f"{self.base}/sessions/{self.ref}"
        form = aiohttp.FormData({"title": "Wren"})
        form.add_field("file", WAV, filename="wren.wav", content_type="audio/wav")
        piece = (await tess.call("POST", f"{self.base}/audio/upload", raw=form)).ok()["audio_id"]
        has((await anna.post(f"{path}/join")).ok(), participant_id=1, session_id=made["session_id"], user_id=anna.id)
        self.stream = f"{self.base}/sse/sessions/{self.ref}"
        async with anna.stream(self.stream) as stream:
            await self.told(stream, tess, anna, piece)
        self.log = [
            "session_created", "session_started", "participant_joined", "participant_muted", "hand_raised",
            "chat_message", "chat_message", "participant_unmuted", "hand_lowered",
            "audio_selected", "audio_play", "audio_pause",
        ] + ["session_ended"] * self.ends  # fmt: skip
        logs = (await tess.get(f"{path}/logs")).ok()
        # The product has no event for the start.
        assert [row["event_type"] for row in logs["logs"]][::-1] == [self.log[0], *self.log[2:]]
        summary = (await tess.get(f"{path}/logs/summary")).ok()
        has(summary, total_events=len(self.log) - 1, unique_participants_joined=1, participants_left=0)

    async def told(self, stream: Stream, tess: Someone, anna: Someone, piece: int) -> None:
        """Play the lesson; every frame arrives once, in order."""
        path = self.path

        async def hears(event: str, **data: Any) -> None:
            frame = await stream.next()
            assert frame.event == event, f"{event} was to come: {frame}"
            has(frame.data, **data)

        async def act(who: Someone, type: str, **fields: Any) -> None:
            has((await who.post(f"{path}/action", {"type": type, **fields})).ok(), ok=True)

        await hears("connected", participant_id=1, user_id=anna.id)
        await hears("session_state", participant_id=1)
        said(await tess.post(f"{path}/participants/1/mute?mute=true"), 200, {"ok": True, "muted": True})
        await act(anna, "raise_hand")
        await act(anna, "chat", text="A question")
        wrote = (await tess.post(f"{path}/chat", {"message": "Ask"})).ok()
        has(wrote, message="Ask", is_system_message=False)
        await act(tess, "unmute_participant", target_participant_id=1)
        await act(anna, "lower_hand")
        has((await tess.post(f"{path}/audio/select?audio_id={piece}")).ok(), ok=True, audio_id=piece, title="Wren")
        form = aiohttp.FormData({"speed": "0.5", "position": "2"})
        has((await tess.call("POST", f"{path}/audio/play", raw=form)).ok(), ok=True, status="playing", speed=0.5)
        has((await tess.post(f"{path}/audio/pause")).ok(), ok=True, status="paused")
        await hears("participant_muted", participant_id=1, is_muted=True)
        await hears("hand_raised", participant_id=1)
        await hears("chat", sender_name="Anna", text="A question")
        await hears("chat", sender_name="Tess", text="Ask")
        await hears("participant_muted", participant_id=1, is_muted=False)
        await hears("hand_lowered", participant_id=1)
        await hears("audio_selected", audio_id=piece, title="Wren")
        await hears("audio_play", audio_id=piece, speed=0.5, position=2.0)
        await hears("audio_pause")
        places = [tuple(map(int, frame.id.split("-"))) for frame in stream.seen if frame.id]
        assert places == sorted(set(places))
        if self.ends:
            has((await tess.delete(path)).ok(), ok=True)
            await hears("session_ended", session_id=int(self.ref))
            assert await stream.rest() == []
            said(await tess.delete(path), 400, {"detail": "Session already ended"})

    async def shown(self) -> Any:
        state = (await self.owner.get(f"{self.path}/audio/state")).ok()
        state.pop("server_time")
        paths = ("/state", "/chat", "/logs", "/logs/summary", "/playback")
        return state, [(await self.owner.get(self.path + path)).ok() for path in paths]

    async def listed(self) -> None:
        mine = (await self.owner.get(f"{self.base}/sessions/active", mine="true")).ok()
        assert [str(one["session_id"]) for one in mine] == [self.ref] * (not self.ends)


class Lesson(Flow):
    product, kind = "lesson", "lesson"
    base = "/lesson/api/v1"

    async def play(self) -> None:
        tess, anna = await self.user("Tess", "teacher"), await self.user("Anna", "student")
        body = {"tutor_id": tess.id, "student_id": anna.id, "title": "Fractions", **hour()}
        booking = (await tess.post(f"{self.base}/bookings/", body)).ok(201)
        has(booking, tutor_id=tess.id, student_id=anna.id, classroom=None)
        self.owner, self.other, self.booking = tess, anna, f"{self.base}/bookings/{booking['id']}/"
        rooms = await asyncio.gather(*(who.post(f"{self.booking}classroom/") for who in (tess, anna, tess)))
        [self.ref] = {room.ok()["session_id"] for room in rooms}
        has(rooms[0].json, can_join=True, join_url=f"/classroom/{self.ref}")
        self.path = path = f"{self.base}/classroom/sessions/{self.ref}"
        scoped = []
        for who in (tess, anna):
            token = (await who.post(f"{path}/jwt/")).ok()
            assert token.keys() == {"token", "expires_at", "permissions", "session"}
            assert SECONDS.fullmatch(token["expires_at"])
            scoped.append(Client(self.http, self.url, token["token"]))
        self.socket = f"/lesson/ws/classroom/{self.ref}/"
        async with self.talk(self.socket, scoped[0]) as tutor:
            has((await tutor.hears("session_state"))["session"], id=self.ref, status="live")
            async with self.talk(self.socket, scoped[1]) as student:
                assert len((await student.hears("session_state"))["participants"]) == 2
                await tutor.hears("participant_online", user_id=anna.id)
                await self.told(tutor, student, tess, anna)
        self.log = [
            "session_created", "session_started", "participant_invited", "participant_joined", "participant_joined",
            "media_changed", "media_changed", "event_logged", "event_logged", "permissions_changed",
        ] + ["session_ended"] * self.ends  # fmt: skip

    async def told(self, tutor: Talk, student: Talk, tess: Someone, anna: Someone) -> None:
        """Play the lesson; both receive the frames for both, once, in order."""
        path = self.path
        camera = {"video_enabled": True, "audio_enabled": False, "screen_sharing": False}
        await student.send("media_state", **camera)
        for one in (tutor, student):
            await one.hears("media_state_update", user_id=anna.id, **camera)
        screen = {"video_enabled": True, "audio_enabled": True, "screen_sharing": True}
        said(await tess.post(f"{path}/media-state/", screen), 200, {"success": True})
        for one in (tutor, student):
            await one.hears("media_state_update", user_id=tess.id, **screen)
        reply = await anna.post(f"{path}/media-state/", {**camera, "screen_sharing": True})
        assert (reply.status, reply.json.keys()) == (409, {"detail"})
        said(await anna.post(f"{path}/event/", {"event_type": "error", "data": {"a": 1}}), 200, {"success": True})
        await student.send("tool_select", tool="pen")
        await tutor.hears("event_logged", user_id=anna.id, event_type="error", data={"a": 1})
        await tutor.hears("event_logged", user_id=anna.id, event_type="tool_select", data={"tool": "pen"})
        await student.send("kick", user_id=tess.id)
        await student.hears("error", type="kick")
        said(await tess.get(f"{path}/events/stats/"), 200, {"error": 1, "tool_select": 1})
        changed = (await tess.patch(f"{path}/permissions/{anna.id}/", {"can_draw": False})).ok()
        has(changed, user_id=anna.id, role="student")
        for one in (tutor, student):
            assert (await one.hears("permissions_changed", user_id=anna.id))["permissions"]["can_draw"] is False
            await one.hears("media_state_update", user_id=anna.id, **camera)
        if self.ends:
            said(await tess.post(f"{path}/terminate/"), 200, {"success": True})
            for one in (tutor, student):
                await one.hears("session_ended", reason="host")
                await one.closed(4410)

    async def shown(self) -> Any:
        paths = ("/permissions/", "/media-state/", "/events/", "/events/stats/", "/events/errors/")
        return [(await self.owner.get(self.path + path)).ok() for path in paths]

    async def listed(self) -> None:
        room = (await self.owner.get(self.booking)).ok()["classroom"]
        status = "ended" if self.ends else "live"
        has(room, session_id=self.ref, status=status, can_join=not self.ends)


class Live(Flow):
    product, kind = "live", "course"
    base = "/live/sessions"
    FIELDS: ClassVar = {
        "_id", "courseId", "roomName", "status", "startsAt", "endsAt", "createdBy", "recordingEnabled",
        "maxParticipants", "createdAt", "updatedAt",
    }  # fmt: skip

    async def play(self) -> None:
        tess, anna = await self.user("Tess", "teacher"), await self.user("Anna", "student")
        said(
            await tess.post(self.base, {}),
            400,
            dict.fromkeys(("error", "message"), "courseId and startsAt are required"),
        )
        body = {"courseId": "birds", "startsAt": "2030-05-01T10:00:00.000Z", "recordingEnabled": True}
        made = (await tess.post(self.base, body)).ok(201)
        assert has(made, status="scheduled", createdBy=tess.id, endsAt=None, **body).keys() == self.FIELDS
        assert MILLIS.fullmatch(made["createdAt"])
        self.owner, self.other, self.ref = tess, anna, made["roomName"]
        self.path = path = f"{self.base}/{self.ref}"
        assert (await self.anyone.get(path)).ok() == made
        for who, is_owner in ((tess, True), (anna, False)):
            token = (await who.post(f"{path}/token")).ok()["token"]
            has(jwt.decode(token, options={"verify_signature": False}), is_owner=is_owner, room=self.ref)
        for who, role in ((anna, "student"), (tess, "instructor")):
            has((await who.post(f"{path}/join")).ok(), userId=who.id, role=role, leftAt=None)
        started = (await tess.post(f"{path}/start-recording")).ok()
        assert started.keys() == {"recordingId", "startedAt"}
        text = "Recording already in progress"
        said(await tess.post(f"{path}/start-recording"), 409, {"error": text, "message": text})
        text = f"Not authorized to stop recording session:{self.ref}"
        said(await anna.post(f"{path}/stop-recording"), 403, {"error": text, "message": text})
        quiet = (await tess.patch(f"{path}/participants/{anna.id}", {"micAllowed": False})).ok()
        has(quiet, micAllowed=False, cameraAllowed=True)
        self.log = [
            "session_created", "participant_joined", "session_started", "participant_joined", "recording_started",
            "permissions_changed",
        ]  # fmt: skip
        if self.ends:
            stopped = (await tess.post(f"{path}/stop-recording")).ok()
            has(stopped, recordingId=started["recordingId"])
            has((await self.anyone.get(path)).ok(), status="ended", endsAt=stopped["stoppedAt"])
            recording = (await anna.get(f"{path}/recording")).ok()
            has(recording, status="finished", recordingId=started["recordingId"], duration=stopped["duration"])
            lines = (await self.anyone.get(recording["downloadLink"].removeprefix(self.url))).body.splitlines()
            assert made["_id"].encode() in lines[0]
            self.log += ["recording_stopped", "session_ended"]

    async def shown(self) -> Any:
        recording = (await self.owner.get(f"{self.path}/recording")).ok()
        links = recording.pop("downloadLink"), recording.pop("accessLink")
        assert all(links) is self.ends
        return (
            (await self.anyone.get(self.path)).ok(),
            (await self.owner.get(f"{self.path}/participants")).ok(),
            recording,
        )

    async def listed(self) -> None:
        found = (await self.anyone.get(f"{self.base}/instructor/{self.owner.id}")).ok()
        assert found == [(await self.anyone.get(self.path)).ok()]


class Interview(Flow):
    product, kind = "interview", "interview"
    names: ClassVar = ["Carl", "Ivy"]
    base = "/interview/api/v1"
    FIELDS: ClassVar = {
        "id", "created_at", "updated_at", "expires_at", "code", "language", "participants", "creator_id",
    }  # fmt: skip

    async def guest(self, name: str, path: str, key: str, status: int) -> Someone:
        """Join without an account, with an id that the client chose."""
        user = {"id": str(uuid.uuid4()), "name": name, "color": "#12ab9f"}
        answer = (await self.anyone.post(self.base + path, {key: user})).ok(status)
        assert answer.keys() == {"success", "data"}
        assert answer["data"].keys() == self.FIELDS | {"token"}
        self.ref = answer["data"]["id"]
        return Someone(self.http, self.url, answer["data"]["token"], user["id"], name)

    async def play(self) -> None:
        ivy = await self.guest("Ivy", "/sessions", "creator", 201)
        assert re.fullmatch("[0-9a-f]{8}", self.ref)
        self.owner, self.path = ivy, f"{self.base}/sessions/{self.ref}"
        self.other = carl = await self.guest("Carl", f"/sessions/{self.ref}/join", "user", 200)
        self.socket = f"/interview/ws/sessions/{self.ref}"
        async with self.talk(self.socket, ivy) as one:
            async with self.talk(self.socket, carl) as other:
                await self.told(one, other, ivy, carl)
            if self.ends:
                (await carl.delete(f"{self.path}/participants/{carl.id}")).ok(204)
                await one.hears("user_leave", userId=carl.id)
        self.log = [
            "session_created", "session_started", "participant_joined", "participant_joined", "code_edited",
            "language_changed", "code_edited",
        ] + ["participant_left"] * self.ends  # fmt: skip

    async def told(self, one: Talk, other: Talk, ivy: Someone, carl: Someone) -> None:
        """Edit code together; both receive every frame, the sender too, once, in order."""

        async def both(kind: str, **data: Any) -> None:
            for talk in (one, other):
                assert isinstance((await talk.hears(kind, **data))["timestamp"], int)

        await other.send("code_change", code="print(1)", userId=carl.id)
        await both("code_change", code="print(1)", userId=carl.id)
        # The sender is the owner of the socket, whatever the frame says.
        await one.send("cursor_position", position={"lineNumber": 1, "column": 2}, userId=carl.id)
        await both("cursor_position", position={"lineNumber": 1, "column": 2}, userId=ivy.id)
        await other.send("language_change", language="python", userId=carl.id)
        await both("language_change", language="python", userId=carl.id)
        await one.send("wave", hand="left")
        await both("wave", hand="left")
        put = {"code": "print(2)", "language": "python", "base_version": 1}
        has((await ivy.call("PUT", f"{self.path}/code", put)).ok()["data"], code="print(2)", language="python")
        await both("code_change", code="print(2)", userId=ivy.id)
        assert (await ivy.call("PUT", f"{self.path}/code", put)).json["code"] == "CONFLICT"

    async def shown(self) -> Any:
        paths = ("", "/participants", "/code/snapshots")
        return [(await self.anyone.get(self.path + path)).ok() for path in paths]

    async def listed(self) -> None:
        # The link is the only credential.
        assert (await self.anyone.get(self.path)).status == 200


FLOWS: tuple[type[Flow], ...] = (Tutorium, Seeds, Lesson, Live, Interview)
