"""A session with the real channel in front of it and clients that keep their views by `fold`; no server, no database.

After each turn `check` compares the view of every client whose stream is open with a fresh snapshot for them.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
from msgspec import structs

from actors.commit import outgoing
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import chat, lifecycle
from actors.session.errors import Rejected
from actors.session.event_rules import audience, new_view
from actors.session.ids import Millis, UserId
from actors.session.state import Room, State
from actors.session.visibility import Published, published_event
from server.settings.sections import StreamsSettings
from server.streams.channel import Channel
from server.streams.encoding import encode_missed
from server.streams.format import Cursor
from server.streams.subscriber import Subscriber
from server.streams.wire import payload
from server.v1.frames import FRAMES
from server.v1.state_views import snapshot
from tests.support.fold import CHAT_KEPT, View, fold, in_lobby
from tests.support.script import SERVER, SESSION, START, TEACHER, creation

ROOM = Room("daily", "physics-101", "https://school.daily.example/physics-101")
"""A room at a provider that records, so that recordings get updates."""
BARE = structs.replace(FRAMES, frame=payload)
"""The frames of `/v1` without the chunks of HTTP around them."""


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pytest.fail("nobody here reads slowly")


class Client:
    """One user's stream, and the view that they keep of the session."""

    def __init__(self, user_id: UserId) -> None:
        self.user_id = user_id
        self.view: View | None = None
        self.last: View | None = None
        """The view at the end of the session, until it has been checked."""
        self.cursor: str | None = None
        self.subscriber: Subscriber | None = None
        self.wire = Wire()
        self.received: Counter[str] = Counter()
        self.journal: list[tuple[str, dict[str, Any]]] = []

    @property
    def open(self) -> bool:
        return self.subscriber is not None

    def read(self) -> None:
        """Fold what has been written since the last time."""
        written, self.wire.written = self.wire.written, b""
        for frame in written.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":"))
            self.cursor = fields.get("id", self.cursor)
            self.take(fields["event"], json.loads(fields["data"]))

    def take(self, kind: str, body: dict[str, Any]) -> None:
        assert self.open, f"{kind} after the end of the stream"
        self.received[kind] += 1
        self.journal.append((kind, body))
        match kind:
            case "resumed":
                pass
            case "reset":
                self.view = self.cursor = None
            case "bye":
                if body["reason"] == "ended":
                    self.last = self.view
                self.subscriber = None
                if body["reason"] != "expired":
                    self.view = self.cursor = None
            case _:
                if kind != "snapshot":
                    assert self.view is not None, f"{kind} before a snapshot"
                self.view = fold(self.view or {}, kind, body, self.user_id)


class Hub:
    """The hub, as the channel sees it."""

    def __init__(self, remembered: int, clock: Callable[[], Millis]) -> None:
        self.settings = StreamsSettings(replay_events=remembered)
        self.clock = clock
        self.published = self.delivered = 0
        self.gone: list[UserId] = []


class Watched:
    """A session, its log, its channel and its clients. It plays the actor's part: turns, and what follows them."""

    def __init__(self, people: Sequence[c.Caller], *, remembered: int = 256, **new: Any) -> None:
        self.now = START
        self.hub = Hub(remembered, lambda: self.now)
        self.people = {one.user_id: one for one in people}
        self.clients = {user_id: Client(user_id) for user_id in self.people}
        created = lifecycle.create(structs.replace(creation(**new), room=ROOM), TEACHER, self.now)
        self.log = machine.record(SESSION, 1, 0, self.now, TEACHER.user_id, created)
        self.state: State = machine.replay(self.log)
        self.channel = Channel(SESSION, self.hub, self.hub.gone.append)
        self.channel.restored(self.state)
        self.turn: list[Published] = []

    # The actor

    def decide(self, by: c.Caller, command: c.Command) -> bool:
        """Decide a command, and record its events in this turn. False: it is refused."""
        try:
            events = machine.decide(self.state, command, by, self.now)
        except Rejected:
            return False
        for event in events:
            self.record(event, by.user_id or None)
        return True

    def record(self, event: e.Event, actor_id: UserId | None) -> None:
        state = self.state
        if type(event) in e.EPHEMERAL:
            assert actor_id is not None
            self.channel.relay(event, actor_id, self.now, audience(state, event, actor_id), state)
            return
        if isinstance(event, e.MessageDeleted) and (redacted := chat.redaction(state, event)):
            seq, left = redacted
            self.log[seq - 1] = structs.replace(self.log[seq - 1], event=left)
        [recorded] = machine.record(SESSION, 1, state.seq, self.now, actor_id, [event])
        machine.apply(state, recorded)
        self.log.append(recorded)
        self.turn.append(published_event(recorded, msgspec.json.encode(event), state))

    def flush(self) -> None:
        """End the turn: publish its events, then what follows them, until all is quiet."""
        while True:
            turn, self.turn = self.turn, []
            owner_id = self.state.session.owner_id
            viewers = {viewer for out in turn if (viewer := new_view(out.recorded.event, owner_id))}
            refresh = self.channel.refresh(viewers, [], self.state) if viewers else None
            if turn:
                self.channel.publish(turn)
            if refresh is not None:
                refresh()
            for client in self.clients.values():
                client.read()
            gone = self.hub.gone[:]
            self.hub.gone.clear()
            if not gone:
                return
            for user_id in gone:
                if user_id not in self.channel.users():
                    self.decide(self.people[user_id], c.Disconnect())

    def ask(self, by: c.Caller, command: c.Command) -> bool:
        """Decide a command in a turn of its own."""
        done = self.decide(by, command)
        self.flush()
        return done

    def wait(self, ms: int) -> None:
        end = self.now + ms
        while (due := machine.deadline(self.state)) is not None and due <= end:
            self.now = max(self.now, due)
            self.ask(SERVER, c.Tick())
        self.now = Millis(end)

    # The clients

    def open(self, by: c.Caller, *, join: bool = False) -> bool:
        """Open a client's stream, from its cursor if it has one. False: it is refused."""
        client = self.clients[by.user_id]
        if client.open:
            return True
        self.flush()
        if not self.decide(by, c.Connect(join=join)):
            self.flush()
            return False
        cursor = None if client.cursor is None else Cursor.parse(client.cursor)
        self.attach(client, cursor)
        return True

    def attach(self, client: Client, cursor: Cursor | None) -> None:
        client.wire = Wire()
        subscriber = Subscriber(client.user_id, "", BARE, cursor=cursor, expires_at=0, limit=1 << 30)
        attach = self.channel.admit([subscriber], self.state)
        turn, self.turn = self.turn, []
        if turn:
            self.channel.publish(turn)
        attach()
        missed: bytes | None = b""
        if (upto := subscriber.missing) is not None:
            assert cursor is not None
            rows = [outgoing(row, self.state) for row in self.log[cursor.seq : upto.seq]]
            missed = encode_missed(subscriber, cursor, rows)
        if missed is None:
            self.channel.remove(subscriber)
            self.hub.gone.clear()
            self.attach(client, Cursor(0, 0))
            return
        client.subscriber = subscriber
        subscriber.open(cast(Any, client.wire), missed)
        self.flush()

    def close(self, by: c.Caller) -> None:
        """Close a client's stream, as a lost connection does: the client keeps its view and its cursor."""
        client = self.clients[by.user_id]
        if (subscriber := client.subscriber) is not None:
            self.flush()
            client.subscriber = None
            self.channel.remove(subscriber)
            self.flush()

    def restart(self) -> None:
        """Lose every stream and everything that is remembered, as a new process does."""
        self.flush()
        for client in self.clients.values():
            client.subscriber = None
        self.state = machine.restored(machine.snapshot(self.state))
        self.channel = Channel(SESSION, self.hub, self.hub.gone.append)
        self.channel.restored(self.state)
        self.hub.gone.clear()
        online = [one.user_id for one in self.state.participants.values() if one.online]
        self.ask(SERVER, c.LoseConnections(online))

    # The law

    def check(self) -> None:
        assert not self.turn, "the turn is over"
        for client in self.clients.values():
            view = client.view if client.open else client.last
            client.last = None
            # Deleting a live session ends it first, and with it the streams, so that they do not carry the rest.
            if view is not None and not self.state.session.deleted:
                fresh = json.loads(snapshot(self.state, client.user_id, self.now, {}))
                kept, wanted = comparable(view, fresh), comparable(fresh, fresh)
                if view["cursor"] is None and not in_lobby(view):
                    # A participant who was waiting when the session ended may not see it, then or later.
                    kept, wanted = ({name: one[name] for name in ("session", "you")} for one in (kept, wanted))
                assert kept == wanted, difference(client, kept, wanted)


def comparable(view: View, fresh: View) -> View:
    """Return what has to be equal of a view and a fresh snapshot. Left out, as it is not kept or is computed, is only:

    - `server_time` and `cursor`: the snapshot's own;
    - a hand's `waiting_s`: `raised_at` until now;
    - of the playback `at` and `server_time`; its `position` is compared as of the fresh snapshot's time;
    - in the lobby the `counts` of the session, which are those of the first snapshot: the lobby hears of nobody inside.
    """
    kept = {name: value for name, value in view.items() if name not in ("server_time", "cursor")}
    kept["chat"] = kept["chat"][-CHAT_KEPT:]
    kept["hands"] = [{name: value for name, value in hand.items() if name != "waiting_s"} for hand in kept["hands"]]
    if (playing := kept["playback"]) is not None:
        position = position_at(playing, fresh["server_time"])
        kept["playback"] = {name: playing[name] for name in ("track", "status", "speed")} | {"position": position}
    if in_lobby(fresh):
        kept["session"] = kept["session"] | {"counts": None}
    return kept


def position_at(playing: View, at: str) -> Any:
    position: float = playing["position"]
    if playing["status"] == "playing":
        position += max(0, millis(at) - millis(playing["at"])) / 1000 * playing["speed"]
    duration = playing["track"]["duration"]
    return pytest.approx(position if duration is None else min(position, duration), abs=1e-6)


def millis(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def difference(client: Client, kept: View, wanted: View) -> str:
    unequal = [name for name in wanted if kept[name] != wanted[name]]
    parts = [f"{name}:\n  kept  {kept[name]}\n  fresh {wanted[name]}" for name in unequal]
    last = "\n".join(f"  {kind} {body}" for kind, body in client.journal[-6:] if kind != "snapshot")
    return f"{client.user_id} has another view\n" + "\n".join(parts) + f"\nafter\n{last}"
