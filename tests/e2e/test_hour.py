"""An hour of class, played fast over the public API alone; afterwards every report about it agrees, event for event."""

import asyncio
import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.support.audio_files import wav
from tests.support.client import PATIENCE_S, Client, Frame, Person, Reply, Seat, Stream, StreamOver
from tests.support.processes import Server, directory, homeroom
from tests.support.talking import Closed, Talk, talk

STUDENTS = 30
TRACK_S = 20.0
DELETED = "nobody is to read this again"
SECRET = "between the two of us"
UNAPPROVED = "may I ask what nobody approved"
Row = dict[str, Any]


class Attendee(Seat):
    """A participant who watches the class on SSE or on the socket and keeps all frames and answers."""

    def __init__(self, person: Person, session: Any, *, by_socket: bool = False) -> None:
        super().__init__(person, session)
        self.by_socket = by_socket
        self.views: list[Stream | Talk] = []
        self.told: list[Row] = []
        """What answers to one's commands said had happened."""
        self._news = asyncio.Condition()
        self._open = contextlib.AsyncExitStack()
        self._reader = asyncio.create_task(asyncio.sleep(0))

    async def watch(self) -> None:
        """Open a stream; after a lost one, resume from its cursor."""
        lost = self.views[-1] if self.views and self.views[-1].seen[-1].event != "bye" else None
        cursor = lost.cursor if lost else None
        if self.by_socket:
            opened = talk(self, cursor=cursor) if cursor else talk(self)
            view: Stream | Talk = await self._open.enter_async_context(opened)
        else:
            view = await self._open.enter_async_context(self.stream(last_event_id=cursor))
        self.views.append(view)
        self._reader = asyncio.create_task(self._read(view))
        await self.until(lambda: bool(view.seen))
        assert view.seen[0].event == ("resumed" if lost else "snapshot")

    async def _read(self, view: Stream | Talk) -> None:
        with contextlib.suppress(StreamOver, Closed):
            while True:
                await view.next()
                async with self._news:
                    self._news.notify_all()

    async def lose_connection(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._open.aclose()

    async def bye(self, reason: str) -> None:
        """Read to the end of the stream, which must end for this reason."""
        async with asyncio.timeout(PATIENCE_S):
            await self._reader
        await self._open.aclose()
        last = self.views[-1].seen[-1]
        assert (last.event, last.data["reason"]) == ("bye", reason), (self.person.name, last)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(holds)

    async def sees(self, event: str, **fields: Any) -> Row:
        """Wait for this event; return it."""
        found: list[Row] = []

        def shown() -> bool:
            frames = (frame for view in self.views for frame in view.seen)
            found.extend(f.data for f in frames if f.event == event and fields.items() <= f.data.items())
            return bool(found)

        await self.until(shown)
        return found[0]

    async def command(self, type: str, *, idempotency_key: str | None = None, **fields: Any) -> Reply:
        if self.by_socket and self.views and isinstance(view := self.views[-1], Talk) and not view.ws.closed:
            id_ = await view.send(type, **fields)
            await self.until(lambda: id_ in view.answers)
            answer = view.answers.pop(id_)
            kind = {"answer": "application/json", "refused": "application/problem+json"}[answer["event"]]
            reply = Reply(answer["status"], {"Content-Type": kind}, json.dumps(answer["data"]).encode())
        else:
            reply = await super().command(type, idempotency_key=idempotency_key, **fields)
        if reply.status == 200:
            self.told += reply.json["events"]
        return reply

    @property
    def visits(self) -> list[list[Frame]]:
        """The frames after each snapshot; resumed connections are joined."""
        visits: list[list[Frame]] = []
        for view in self.views:
            first, *rest = view.seen
            if first.event == "snapshot":
                visits.append([first])
            else:
                before = [frame.id for frame in visits[-1] if frame.id][-1]
                assert first.data["from"] == before, "it goes on exactly where it was"
            visits[-1] += rest
        return visits


class Room(NamedTuple):
    http: aiohttp.ClientSession
    teacher: Attendee
    students: list[Attendee]
    stranger: Attendee
    """Is turned away in the lobby."""

    @property
    def inside(self) -> list[Attendee]:
        return [self.teacher, *self.students]


# The hour


async def the_doors_open(room: Room) -> None:
    teacher, students = room.teacher, room.students
    await teacher.do("start")
    await teacher.join()
    await teacher.watch()
    early = students[:-1]
    assert {answer["status"] for answer in await asyncio.gather(*(s.join() for s in early))} == {"joined"}
    await asyncio.gather(*(student.watch() for student in early))


async def two_come_late(room: Room) -> None:
    """One is refused by a locked session, then both wait in the lobby: one is admitted, the other denied."""
    teacher, late, stranger = room.teacher, room.students[-1], room.stranger
    by_code = {"code": stranger.code}
    await teacher.do("lock")
    (await stranger.person.post("/v1/sessions/join", by_code)).refused(409, "locked")
    await teacher.do("unlock")
    await teacher.do("update", features={"lobby": True})
    for waiting in (late, stranger):
        assert (await waiting.join())["status"] == "waiting"
        await teacher.sees("participant_waiting", user_id=waiting.user_id)
        await waiting.watch()
    await room.students[0].say("Not for the lobby")
    (await stranger.command("send_message", text="Let me in")).refused(403, "waiting")
    await teacher.do("admit", user_id=late.user_id)
    await late.bye("admitted")
    await late.watch()
    await teacher.do("deny", user_id=stranger.user_id)
    await stranger.bye("kicked")
    await teacher.do("update", features={"lobby": False})


async def upload(person: Person, content: bytes, title: str) -> Any:
    form = aiohttp.FormData({"title": title}, quote_fields=False)
    form.add_field("file", content, filename="sound.wav", content_type="application/octet-stream")
    return (await person.call("POST", "/v1/audio", raw=form)).ok(201)


async def a_track_is_played(room: Room) -> None:
    teacher, (ann, ben, *_) = room.teacher, room.students
    sound = wav(TRACK_S)
    track = await upload(teacher.person, sound, "A dialogue")
    assert (track["duration"], track["size_bytes"]) == (TRACK_S, len(sound))
    (await ann.command("play")).refused(403, "not_permitted")
    (await teacher.command("play")).refused(409, "no_audio")
    await teacher.do("select_audio", audio_id=track["id"])
    heard = await ben.person.get(f"/v1/audio/{track['id']}/content")
    assert (heard.status, heard.body) == (200, sound)
    (await room.stranger.person.get(f"/v1/audio/{track['id']}/content")).refused(404)
    await teacher.do("play", position=0)
    await teacher.do("seek", position=1)
    await teacher.do("set_speed", speed=0.5)
    await teacher.do("pause")
    await teacher.do("play", position=TRACK_S - 0.02, speed=1)
    ended = await ann.sees("audio_ended", audio_id=track["id"])
    assert ended["actor"] is None
    playback = (await ben.state())["playback"]
    assert (playback["status"], playback["position"]) == ("stopped", 0)


async def people_chat(room: Room) -> None:
    teacher, (ann, ben, cleo, dan, *_) = room.teacher, room.students
    hello = await ann.say("Hello")
    await ben.say("Hello yourself", reply_to=hello["message_id"])
    for someone in (cleo, dan, teacher):
        await someone.do("react", message_id=hello["message_id"], emoji="👍")
    await dan.do("react", message_id=hello["message_id"], emoji="👍", remove=True)
    private = await ann.say(SECRET, to=ben.user_id)
    await ben.do("react", message_id=private["message_id"], emoji="🤫")
    (await cleo.command("react", message_id=private["message_id"], emoji="👀")).refused(404, "unknown_message")
    await dan.say("I am ill", to=teacher.user_id)
    oops = await cleo.say(DELETED)
    await room.students[-1].sees("chat_message", text=DELETED)
    (await ann.command("delete_message", message_id=oops["message_id"])).refused(403, "not_permitted")
    await teacher.do("delete_message", message_id=oops["message_id"])
    note = await upload(ann.person, wav(0.5), "A note")
    await ann.do("send_voice", audio_id=note["id"], reply_to=hello["message_id"])
    assert (await cleo.person.get(f"/v1/audio/{note['id']}")).ok()["duration"] == 0.5
    whisper = await upload(ann.person, wav(0.25), "For Ben")
    await ann.do("send_voice", audio_id=whisper["id"], to=ben.user_id)
    assert (await ben.person.get(f"/v1/audio/{whisper['id']}")).ok()["duration"] == 0.25
    (await cleo.person.get(f"/v1/audio/{whisper['id']}")).refused(404)


async def hands_go_up(room: Room) -> None:
    teacher, (ann, ben, cleo, *_) = room.teacher, room.students
    for someone in (ann, ben, cleo):
        await someone.do("raise_hand")
    await cleo.do("lower_hand")
    called = [(await teacher.do("call_next"))["events"][0]["user_id"] for _ in range(2)]
    assert called == [ann.user_id, ben.user_id]
    (await teacher.command("call_next")).refused(409, "queue_empty")


async def questions_are_asked(room: Room) -> None:
    """Question 1 is anonymous and answered, 2 is answered aloud, 3 is dismissed, 4 is dismissed before its approval."""
    teacher, (ann, ben, cleo, dan, eve, *_) = room.teacher, room.students
    await teacher.do("update", features={"question_approval": True})
    await ann.do("ask_question", text="Is this in the exam?", anonymous=True)
    await ben.do("ask_question", text="Why?")
    await cleo.do("ask_question", text="What is for lunch?")
    await dan.do("ask_question", text=UNAPPROVED)
    (await eve.command("upvote_question", question_id=1)).refused(404, "unknown_question")
    for number in (1, 2, 3):
        await teacher.do("approve_question", question_id=number)
    for someone in (ben, cleo, dan):
        await someone.do("upvote_question", question_id=1)
    await dan.do("upvote_question", question_id=1, remove=True)
    await teacher.do("answer_question", question_id=1, text="Yes")
    await teacher.do("answer_question", question_id=2)
    await teacher.do("dismiss_question", question_id=3)
    await teacher.do("dismiss_question", question_id=4)
    (await ben.command("upvote_question", question_id=2)).refused(422, "not_allowed", "question_id")


async def polls_are_held(room: Room) -> None:
    teacher, students = room.teacher, room.students
    await teacher.do("open_poll", question="Which?", options=["A", "B", "C"])
    votes = (student.do("vote", poll_id=1, options=[n % 3]) for n, student in enumerate(students))
    await asyncio.gather(*votes)
    for someone in students[:2]:
        (await someone.command("vote", poll_id=1, options=[2])).refused(409, "already_voted", "poll_id")
    closed = await teacher.do("close_poll", poll_id=1)
    assert closed["events"][0]["results"] == [STUDENTS // 3] * 3
    (await teacher.command("vote", poll_id=1, options=[0])).refused(409, "poll_closed")
    await teacher.do("open_poll", question="Too fast?", options=["Yes", "No"], anonymous=True)
    for someone in students[:3]:
        await someone.do("vote", poll_id=2, options=[0])
    await teacher.do("close_poll", poll_id=2)


async def code_is_written(room: Room) -> None:
    teacher, (ann, ben, *_) = room.teacher, room.students
    await teacher.do("set_permissions", user_id=ann.user_id, grant=["edit_code", "draw", "screen"])
    await teacher.do("edit_code", base_version=0, text="print(1)\n")
    (await ben.command("edit_code", base_version=1, text="")).refused(403, "not_permitted")
    change = {"at": 6, "delete": 1, "insert": "2"}
    behind = (await ann.command("edit_code", base_version=0, changes=[change])).refused(409, "behind", "base_version")
    assert behind["current"]["text"] == "print(1)\n"
    await ann.do("edit_code", base_version=behind["current"]["version"], changes=[change])
    await teacher.do("set_language", language="python")
    await teacher.do("restore_code", version=1)
    code = (await ben.state())["code"]
    assert code == {"version": 3, "language": "python", "text": "print(1)\n"}


async def the_board_is_used(room: Room) -> None:
    teacher, (ann, *_) = room.teacher, room.students
    await teacher.do("draw", points=[0, 0, 1, 1])
    await ann.do("draw", points=[0, 1, 1, 0], color="#ff0000")
    await ann.do("draw", tool="text", points=[0.5, 0.5], text="Here")
    (await ann.command("erase", stroke_ids=[1])).refused(403, "not_permitted", "stroke_ids")
    await ann.do("erase", stroke_ids=[2])
    (await ann.command("clear_board")).refused(403, "not_permitted")
    await teacher.do("clear_board")
    assert (await ann.state())["board"]["strokes"] == []
    await teacher.do("restore_board")
    assert [stroke["stroke_id"] for stroke in (await ann.state())["board"]["strokes"]] == [1, 3]


async def screens_are_shared(room: Room) -> None:
    teacher, (ann, ben, cleo, *_) = room.teacher, room.students
    await teacher.do("set_permissions", user_id=ben.user_id, grant=["screen"])
    await ann.do("set_media", audio=True, screen=True)
    (await cleo.command("set_media", screen=True)).refused(403, "not_permitted")
    (await ben.command("set_media", screen=True)).refused(409, "screen_taken", "screen")
    taken = await teacher.do("set_media", screen=True)
    assert [(e["user_id"], e["screen"]) for e in taken["events"]] == [(ann.user_id, False), (teacher.user_id, True)]
    assert (await ben.state())["sharer"] == teacher.user_id


async def quiet_is_asked_for(room: Room) -> None:
    teacher, (ann, _, cleo, dan, eve, *_) = room.teacher, room.students
    muted = (await teacher.do("mute_all", **{"except": [cleo.user_id]}))["events"][0]["user_ids"]
    assert set(muted) == {student.user_id for student in room.students} - {cleo.user_id}
    (await ann.command("set_media", audio=True)).refused(403, "not_permitted")  # muting revoked it
    await dan.do("unmute")
    await teacher.do("request_unmute", user_id=eve.user_id)
    await eve.sees("unmute_requested", user_id=eve.user_id)
    await eve.do("unmute")


async def people_come_and_go(room: Room) -> None:
    """Two lose their connections and return in time, one leaves and returns, one leaves, one is removed."""
    teacher, (ann, _, _, _, eve, fay, gus, hal, ian, *_) = room.teacher, room.students
    for someone in (eve, fay):
        await someone.lose_connection()
        await teacher.sees("participant_offline", user_id=someone.user_id)
    await ann.say("Said while two were away")
    for someone in (eve, fay):
        await someone.watch()
        await someone.sees("chat_message", text="Said while two were away")
    for someone in (gus, hal):
        await someone.do("leave")
        await someone.bye("left")
    (await hal.command("send_message", text="Still here?")).refused(403, "not_joined")
    await ann.say("Said while one was out")
    await gus.join()
    await gus.watch()
    await teacher.do("kick", user_id=ian.user_id, ban=True, reason="Noise")
    await ian.bye("kicked")
    (await ian.person.post("/v1/sessions/join", {"code": ian.code})).refused(403, "kicked")


async def the_class_is_over(room: Room) -> None:
    teacher, hal, ian = room.teacher, room.students[7], room.students[8]
    await teacher.do("end")
    await asyncio.gather(*(one.bye("ended") for one in room.inside if one not in (hal, ian)))
    (await teacher.command("send_message", text="Too late")).refused(410, "ended")


# Reports about the hour


class Record(NamedTuple):
    """The log, and the audience of each row, derived here from the rows alone. None: everyone in the session."""

    rows: list[Row]
    concerns: list[frozenset[str] | None]
    room: Room

    def shown_to(self, viewer: str | None, after: int = 0, upto: int = 1 << 31) -> list[Row]:
        """Return the events of a stretch that a viewer receives. None: the events for everyone."""
        pairs = zip(self.rows, self.concerns, strict=True)
        seen = (row for row, who in pairs if who is None or viewer in who)
        return [self._unnamed(row, viewer) for row in seen if after < row["seq"] <= upto]

    def _unnamed(self, row: Row, viewer: str | None) -> Row:
        """Remove the actor of an anonymous event, except for the actor and, if it is a question, the teacher."""
        anonymous = (
            row["type"] in ("question_asked", "question_dismissed", "poll_voted") and "anonymous" in row["details"]
        )
        confidants = {row["actor"], self.room.teacher.user_id if row["type"] == "question_asked" else row["actor"]}
        return row | {"actor": None} if anonymous and viewer not in confidants else row

    def of(self, *types: str) -> list[Row]:
        return [row for row in self.rows if row["type"] in types]

    def plain(self, frames: Iterable[Row]) -> list[Row]:
        """Return frames as rows of the log, without deleted texts and without direct messages between others."""
        deleted = {row["details"]["message_id"] for row in self.of("message_deleted")}
        return [self._plain(dict(frame), deleted) for frame in frames]

    def _plain(self, frame: Row, deleted: set[int]) -> Row:
        envelope = {name: frame.pop(name) for name in ("seq", "type", "actor", "at")}
        frame.pop("server_time", None)
        if envelope["type"] == "chat_message":
            if frame["message_id"] in deleted:
                frame |= {"text": "", "deleted": True}
            elif frame.get("to") and self.room.teacher.user_id not in (frame["to"], envelope["actor"]):
                frame["text"] = ""
                frame.pop("voice", None)
        return envelope | {"details": frame}


def concerns(rows: list[Row], teacher: str) -> list[frozenset[str] | None]:
    unapproved: dict[int, str] = {}
    lobby: set[str] = set()

    def concerned(row: Row) -> frozenset[str] | None:
        said, actor = row["details"], row["actor"]
        match row["type"]:
            case "chat_message" if "to" in said:
                return frozenset({actor, said["to"]})
            case "message_reacted" if "to" in said:
                return frozenset(said["to"])
            case "question_asked" if said.get("hidden"):
                unapproved[said["question_id"]] = actor
                return frozenset({teacher, actor})
            case "question_approved":
                del unapproved[said["question_id"]]
            case "question_dismissed" if said["question_id"] in unapproved:
                return frozenset({teacher, unapproved[said["question_id"]]})
            case "participant_waiting":
                lobby.add(said["user_id"])
                return frozenset({teacher, said["user_id"]})
            case "participant_joined":
                lobby.discard(said["user_id"])
            case "unmute_requested" | "participant_denied":
                return frozenset({teacher, said["user_id"]})
            case "participant_online" | "participant_offline" if said["user_id"] in lobby:
                return frozenset({teacher, said["user_id"]})
        return None

    return [concerned(row) for row in rows]


def ndjson(reply: Reply) -> tuple[Row, list[Row]]:
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/x-ndjson"), reply.body
    head, *rows = map(json.loads, reply.body.splitlines())
    return head, rows


async def exported(room: Room) -> Record:
    """The export is the log, numbered without gaps, and contains every event that any subscriber received."""
    teacher = room.teacher
    head, rows = ndjson(await teacher.person.get(f"{teacher.path}/export"))
    assert (head["session"]["id"], head["session"]["status"], head["last_seq"]) == (teacher.id, "ended", len(rows))
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert await teacher.log(limit="100") == rows
    assert (await teacher.log(order="desc")) == rows[::-1]
    record = Record(rows, concerns(rows, teacher.user_id), room)
    for one in room.inside:
        told = record.plain(one.told)
        assert told == [rows[row["seq"] - 1] for row in told]
    (await room.students[0].person.get(f"{teacher.path}/export")).refused(403)
    return record


def check_frames(record: Record) -> int:
    """Check that each attendee received every event for them, once and in order; return the number of frames."""
    count = 0
    for one in (*record.room.inside, record.room.stranger):
        for visit in one.visits:
            first, frames = visit[0], [frame for frame in visit[1:] if frame.event != "bye"]
            count += len(frames)
            shown = record.plain(frame.data for frame in frames)
            assert [frame.event for frame in frames] == [row["type"] for row in shown]
            if first.id is None:
                assert (first.data["cursor"], first.data["you"]["online"]) == (None, True)
                assert shown == in_lobby(record, one.user_id)
                continue
            assert first.id == first.data["cursor"]
            begin = seq_of(first)
            assert [seq_of(frame) for frame in frames] == [row["seq"] for row in shown]
            expected = record.shown_to(one.user_id, begin, visit_end(record, one.user_id, begin))
            assert shown == expected, one.person.name
    return count


def seq_of(frame: Frame) -> int:
    assert frame.id is not None
    return int(frame.id.partition("-")[2])


def in_lobby(record: Record, user_id: str) -> list[Row]:
    """Return the events that a waiting participant receives: those that name them, until admission or denial."""
    named = [row for row in record.rows if row["details"].get("user_id") == user_id]
    types = [row["type"] for row in named]
    begin = types.index("participant_online") + 1
    end = next(n for n, kind in enumerate(types) if kind in ("participant_joined", "participant_denied"))
    return named[begin : end + (types[end] == "participant_denied")]


def visit_end(record: Record, user_id: str, begin: int) -> int:
    for row in record.rows[begin:]:
        leaves = row["type"] in ("participant_left", "participant_kicked") and row["details"]["user_id"] == user_id
        if leaves or row["type"] == "session_ended":
            return int(row["seq"])
    raise AssertionError("the class has no end")


async def played(client: Client, path: str, **params: str) -> tuple[Frame, list[Row], Frame]:
    """Read a replay to its end; return its snapshot, its events and its last frame."""
    async with client.stream(path, params={"speed": "100", **params}) as stream:
        end = await stream.until("replay_end")
    first, *frames, _ = stream.seen
    assert first.event == "snapshot"
    assert all(frame.data.get("server_time", frame.data["at"]) == frame.data["at"] for frame in frames)
    return first, [frame.data for frame in frames], end


async def check_replays(record: Record) -> None:
    """Each participant may replay the events for them; a removed or denied participant may not."""
    room = record.room
    ian = room.students[8]
    for one in (ian, room.stranger):
        assert (await one.person.get(f"{one.path}/replay")).status in (403, 404)
    for one in room.inside:
        if one is not ian:
            _, frames, end = await played(one.person, f"{one.path}/replay")
            assert record.plain(frames) == record.shown_to(one.user_id, after=1)
            assert end.data["cursor"].endswith(f"-{len(record.rows)}")


async def check_recording(record: Record) -> None:
    """Archive and replay of the recording contain the events for everyone while it ran."""
    teacher, ann = record.room.teacher, record.room.students[0]
    (listed,) = (await ann.person.get(f"{ann.path}/recordings")).ok()["items"]
    (started,), (stopped,) = record.of("recording_started"), record.of("recording_stopped")
    marks = (listed["first_seq"], listed["last_seq"], listed["started_at"], listed["stopped_at"])
    assert marks == (started["seq"], stopped["seq"], started["at"], stopped["at"])
    assert round(listed["duration"] * 1000) == stopped["details"]["duration_ms"] == millis(started["at"], stopped["at"])
    links = (await ann.person.get(f"{ann.path}/recordings/1")).ok()
    anyone = Client(record.room.http, "")
    head, rows = ndjson(await anyone.get(links["download_url"]))
    assert rows == record.shown_to(None, started["seq"] - 1, stopped["seq"])
    voices = [row["details"]["voice"]["audio_id"] for row in record.of("chat_message") if "voice" in row["details"]]
    assert head["audio"] == [record.of("audio_selected")[0]["details"]["audio_id"], *voices]
    assert {place["user_id"] for place in head["state"]["participants"]} == {one.user_id for one in record.room.inside}
    _, frames, _ = await played(anyone, links["replay_url"])
    assert record.plain(frames) == rows
    _, frames, _ = await played(teacher.person, f"{teacher.path}/replay", recording="1")
    assert record.plain(frames) == record.shown_to(teacher.user_id, started["seq"] - 1, stopped["seq"])


def millis(since: str, until: str) -> int:
    return round((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() * 1000)


async def check_attendance(record: Record) -> None:
    """Each participant attended from joining until they left for good or were removed, or the class ended."""
    room, teacher = record.room, record.room.teacher
    (began,), (ended,) = record.of("session_started"), record.of("session_ended")
    end: str = ended["at"]
    came: dict[str, str] = {}
    went: dict[str, str] = {}
    for row in record.of("participant_joined", "participant_left", "participant_kicked"):
        user_id = row["details"]["user_id"]
        if row["type"] == "participant_joined":
            came.setdefault(user_id, row["at"])
            went.pop(user_id, None)
        else:
            went[user_id] = row["at"]
    sheet = (await teacher.person.get(f"{teacher.path}/attendance")).ok()
    assert (sheet["started_at"], sheet["until"]) == (began["at"], end)
    lines = {line["user_id"]: line for line in sheet["items"]}
    assert lines.keys() == came.keys() | {room.stranger.user_id}
    for one in room.inside:
        line = lines[one.user_id]
        since, until = came[one.user_id], went.get(one.user_id, end)
        present, whole = millis(since, until), millis(began["at"], end)
        assert line["intervals"] == [{"from": since, "to": until}], "back within the grace time counts as there"
        assert (line["first_joined_at"], line["last_left_at"]) == (since, until)
        assert line["minutes"] == pytest.approx(present / 60_000, abs=0.0051)
        assert line["share"] == pytest.approx(present / whole, abs=0.00006)
        assert (line["kicked"], line["late"], line["left_early"]) == (one is room.students[8], False, False)
        assert line["role"] == ("host" if one is teacher else "member")
    turned_away = lines[room.stranger.user_id]
    assert (turned_away["status"], turned_away["intervals"], turned_away["minutes"]) == ("denied", [], 0)
    assert (await room.students[3].person.get(f"{teacher.path}/attendance")).ok()["items"] == [
        lines[room.students[3].user_id]
    ]
    strict = (await teacher.person.get(f"{teacher.path}/attendance", late_after_s="0")).ok()["items"]
    assert {line["user_id"] for line in strict if line["left_early"]} == went.keys()
    printed = (await teacher.person.get(f"{teacher.path}/attendance", format="csv")).body.decode("utf-8-sig")
    table = {line["user_id"]: line for line in csv.DictReader(io.StringIO(printed, newline=""))}
    assert {user_id: float(line["minutes"]) for user_id, line in table.items()} == {
        user_id: line["minutes"] for user_id, line in lines.items()
    }


async def check_sums(record: Record) -> None:
    """Summary and statistics are sums of the log."""
    teacher = record.room.teacher
    types = Counter(row["type"] for row in record.rows)
    inside = len(record.room.inside)
    assert (await teacher.person.get(f"{teacher.path}/log/summary")).ok() == {
        "total": len(record.rows),
        "by_type": types,
        "joined": inside,
        "left": types["participant_left"],
        "first_at": record.rows[0]["at"],
        "last_at": record.rows[-1]["at"],
    }
    found = (await teacher.person.get(f"{teacher.path}/log/statistics")).ok()
    did: dict[str, Counter[str]] = {}
    for row in record.rows:
        if row["actor"] is not None:
            did.setdefault(row["actor"], Counter())[row["type"]] += 1
    assert {one["user_id"]: one["by_type"] for one in found["participants"]} == did
    assert {one["user_id"]: one["total"] for one in found["participants"]} == {u: n.total() for u, n in did.items()}
    assert found["joined"] == inside
    assert found["hands"] == {"raised": types["hand_raised"], "called": types["hand_called"]}
    assert found["questions"] == {"asked": 4, "answered": 2, "dismissed": 2, "upvotes": 2, "answered_share": 0.5}
    assert sum(minute["messages"] for minute in found["messages_per_minute"]) == types["chat_message"]
    assert [(poll["voters"], poll["turnout"]) for poll in found["polls"]] == [
        (STUDENTS, round(STUDENTS / inside, 4)),
        (3, round(3 / inside, 4)),
    ]


async def check_results(record: Record) -> None:
    """The state and the lists of questions, chat, code and playback agree with the events."""
    teacher, (ann, ben, cleo, *_) = record.room.teacher, record.room.students
    state = await ann.state()
    assert state["cursor"].endswith(f"-{len(record.rows)}")
    assert [poll["poll_id"] for poll in state["polls"]] == [1, 2]
    for poll in state["polls"]:
        about = [row for row in record.of("poll_voted", "poll_closed") if row["details"]["poll_id"] == poll["poll_id"]]
        *votes, closed = (row["details"] for row in about)
        chosen = Counter(option for vote in votes for option in vote["options"])
        assert poll["counts"] == closed["results"] == [chosen[n] for n in range(len(poll["options"]))]
        assert (poll["open"], poll["voted"]) == (False, len(votes))
        voters = {row["actor"]: row["details"]["options"] for row in about[:-1]}
        assert poll["voters"] == (None if poll["anonymous"] else voters)
    assert state["mine"]["votes"] == {"1": [0], "2": [0]}
    hers = (await ann.person.get(f"{ann.path}/questions")).ok()["items"]
    assert [(q["question_id"], q["user_id"], q["status"], q["answer"], q["upvotes"]) for q in hers] == [
        (1, None, "answered", "Yes", 2),
        (2, ben.user_id, "answered", None, 0),
        (3, cleo.user_id, "dismissed", None, 0),
    ]
    all_of_them = (await teacher.person.get(f"{ann.path}/questions")).ok()["items"]
    assert [q["user_id"] for q in all_of_them][:1] == [ann.user_id]
    assert [(q["text"], q["status"]) for q in all_of_them][3:] == [(UNAPPROVED, "dismissed")]
    for viewer in (teacher, ann, ben, cleo):
        messages = (await viewer.person.get(f"{ann.path}/chat", limit="500")).ok()["items"]
        seen = [row for row in record.shown_to(viewer.user_id) if row["type"] == "chat_message"]
        assert [message["seq"] for message in messages] == [row["seq"] for row in seen][::-1]
        assert (SECRET in {message["text"] for message in messages}) == (viewer in (ann, ben))
        (hello,) = [message for message in messages if message["text"] == "Hello"]
        assert hello["reactions"] == {"👍": [cleo.user_id, teacher.user_id]}
    history = (await ann.person.get(f"{ann.path}/code/history")).ok()["items"]
    assert [(edit["version"], edit["author"]) for edit in history] == [
        (row["details"]["version"], row["actor"]) for row in record.of("code_edited")[::-1]
    ]
    for version, text in enumerate(("print(1)\n", "print(2)\n", "print(1)\n"), 1):
        (edit,) = (await ann.person.get(f"{ann.path}/code/history", version=str(version))).ok()["items"]
        assert edit["text"] == text
    assert state["code"]["text"] == text
    assert [stroke["stroke_id"] for stroke in state["board"]["strokes"]] == [1, 3]
    assert (state["hands"], state["participants"], state["sharer"], state["recording"]) == ([], [], None, None)


async def check_playback(record: Record) -> None:
    """Each position follows from the one before, the speed then, and the time between them."""
    ann = record.room.students[0]
    kinds = [f"audio_{name}" for name in ("selected", "play", "pause", "seek", "speed", "stop", "ended")]
    rows = record.of(*kinds)
    assert [row["type"].removeprefix("audio_") for row in rows] == [
        "selected", "play", "seek", "speed", "pause", "play", "ended",
    ]  # fmt: skip
    assert (await ann.person.get(f"{ann.path}/playback")).ok()["items"] == rows
    _, first, seek, speed, pause, again, ended = rows
    for before, after, rate in ((seek, speed, 1.0), (speed, pause, 0.5)):
        moved = rate * millis(before["at"], after["at"]) / 1000
        assert after["details"]["position"] == pytest.approx(min(TRACK_S, before["details"]["position"] + moved))
    assert (first["details"]["position"], seek["details"]["position"]) == (0, 1)
    assert millis(again["at"], ended["at"]) >= 20, "not before its end"


async def check_secrets(record: Record) -> None:
    """A deleted text is nowhere. A direct message or an unapproved question is only where its readers may read it."""
    teacher, students = record.room.teacher, record.room.students
    ann, ben, cleo, dan = students[:4]
    paths = ("state", "chat", "questions", "log?limit=1000", "export", "log/statistics", "code/history", "recordings")
    for viewer, hidden in (
        (teacher, {DELETED, SECRET}),
        (ann, {DELETED, UNAPPROVED}),
        (ben, {DELETED, UNAPPROVED}),
        (cleo, {DELETED, SECRET, UNAPPROVED}),
        (dan, {DELETED, SECRET}),
    ):
        bodies = [(await viewer.person.get(f"{viewer.path}/{path}")).body.decode() for path in paths]
        first, frames, _ = await played(viewer.person, f"{viewer.path}/replay")
        everything = " ".join([*bodies, json.dumps(first.data), json.dumps(frames)])
        assert {text for text in (DELETED, SECRET, UNAPPROVED) if text not in everything} == hidden, viewer.person.name
    links = (await ann.person.get(f"{ann.path}/recordings/1")).ok()
    archive = (await Client(record.room.http, "").get(links["download_url"])).body.decode()
    assert not [text for text in (DELETED, SECRET, UNAPPROVED, ann.code) if text in archive]


# The script


@contextlib.asynccontextmanager
async def classroom(url: str) -> AsyncIterator[Room]:
    """A teacher with a session, and registered users who have not joined it yet."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        tess = await Person.register(http, url, "Tess", "tess@example.org", "teacher")
        session = (await tess.create(title="Physics 101")).session
        emails = [f"student-{n}@example.org" for n in range(STUDENTS + 1)]
        people = await asyncio.gather(
            *(Person.register(http, url, f"Student {n}", email, "student") for n, email in enumerate(emails))
        )
        *students, stranger = [Attendee(one, session, by_socket=n % 2 == 1) for n, one in enumerate(people)]
        yield Room(http, Attendee(tess, session), students, stranger)


async def test_an_hour_of_class_loses_and_doubles_nothing(scratch: str | None) -> None:
    with directory(scratch) as data:
        server = Server(data)
        async with homeroom(server), classroom(server.url) as room:
            await the_doors_open(room)
            await two_come_late(room)
            await room.teacher.do("start_recording")
            await a_track_is_played(room)
            await people_chat(room)
            await hands_go_up(room)
            await questions_are_asked(room)
            await polls_are_held(room)
            await room.teacher.do("stop_recording")
            await code_is_written(room)
            await the_board_is_used(room)
            await screens_are_shared(room)
            await quiet_is_asked_for(room)
            await people_come_and_go(room)
            await the_class_is_over(room)

            record = await exported(room)
            frames = check_frames(record)
            await check_replays(record)
            await check_recording(record)
            await check_attendance(record)
            await check_sums(record)
            await check_results(record)
            await check_playback(record)
            await check_secrets(record)
            assert server.complaints() == ""
            print(f"\n{len(record.rows)} events, {frames} frames to {len(room.inside)} people")
