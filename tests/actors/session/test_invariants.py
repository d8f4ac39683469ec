"""The laws, whatever anyone does in whatever order: Hypothesis plays a few people, a clock and a server that restarts.

`HYPOTHESIS_PROFILE=long` looks for longer, and each time elsewhere.
"""

import os
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine, permissions
from actors.session.access import CLOSED
from actors.session.aspects import board, chat, code, lifecycle, playback, polls, recording
from actors.session.errors import Rejected
from actors.session.event_rules import anonymous, audience
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import role_of
from actors.session.state import Kind, State
from tests.support.deeds import (
    CHAT,
    COMING,
    DOING,
    ENDS,
    OWNER,
    PEOPLE,
    ROSTER,
    SETTINGS,
    TAKING_PART,
    callers,
    flags,
    soon,
)
from tests.support.script import GRACE, SECOND, SERVER, SESSION, START, TEACHER, creation

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
pytestmark = pytest.mark.timeout(1_800 if LONG else 400)  # Hypothesis may shrink a failure for five minutes


class Sessions(RuleBasedStateMachine):
    """One session, its log as it was written, and its log as it is stored: with deleted messages redacted."""

    now: Millis
    state: State
    log: list[e.Recorded]
    stored: list[e.Recorded]

    @initialize(
        kind=st.sampled_from(get_args(Kind)),
        features=st.builds(c.NewFeatures, lobby=flags, question_approval=flags, guests=flags),
        capacity=st.integers(1, 6),
        starts_at=soon,
        empty_after=st.none() | st.integers(1, 120),
        host_gone_after=st.none() | st.integers(1, 120),
        mute_on_join=flags,
        ttl=st.none() | st.integers(60, 600),
        live=st.integers(0, 9),
        come=st.lists(st.sampled_from(PEOPLE)),
    )
    def create(self, live: int, come: list[c.Caller], **new: Any) -> None:
        new["auto_start"] = new["starts_at"] is not None and live == 0
        new["early"] = 60 if new["auto_start"] else None
        self.now = START
        self.hidden: dict[int, str] = {}
        self.texts = {0: ""}
        self.emptied_at: Millis | None = None
        self.hostless_at: Millis | None = None
        self.secrets: set[str] = set()
        self.deleted: set[str] = set()
        created = lifecycle.create(creation(**new), TEACHER, self.now)
        self.log = machine.record(SESSION, 1, 0, self.now, OWNER, created)
        self.stored = list(self.log)
        self.state = machine.replay(self.log)
        if live:
            self.ask(PEOPLE[0], c.Connect(join=True))
        for one in come:
            self.ask(structs.replace(one, has_invitation=True), c.Connect(join=True))
            self.ask(PEOPLE[0], c.Admit(one.user_id))

    # What happens

    @rule(deeds=st.lists(st.tuples(callers, st.integers(0, 3), COMING | COMING | ROSTER), min_size=1, max_size=8))
    def come_and_go(self, deeds: list[tuple[int, int, c.Command]]) -> None:
        for by, has_invitation, command in deeds:
            self.ask(structs.replace(self.caller(by), has_invitation=bool(has_invitation)), command)

    @rule(after=st.integers(0, SECOND), deeds=st.lists(st.tuples(callers, TAKING_PART), min_size=1, max_size=8))
    def take_part(self, after: int, deeds: list[tuple[int, c.Command]]) -> None:
        for by, command in deeds:
            self.now = Millis(self.now + after)
            self.ask(self.caller(by), command)

    @rule(deeds=st.lists(st.tuples(callers, CHAT), min_size=1, max_size=8))
    def chat(self, deeds: list[tuple[int, c.Command]]) -> None:
        """Send a new message; reply to, react to and delete messages that exist, or nearly."""
        for by, command in deeds:
            said: c.Command = command
            newest = self.state.last_message_id + 1
            if isinstance(command, c.SendMessage):
                reply_to = command.reply_to and MessageId(command.reply_to % newest)
                said = structs.replace(command, text=f"text {len(self.log)}.", reply_to=reply_to)
            elif isinstance(command, c.DeleteMessage | c.React):
                said = structs.replace(command, message_id=MessageId(command.message_id % (newest + 1)))
            self.ask(self.caller(by), said)

    @rule(after=st.integers(0, 10 * SECOND), deeds=st.lists(st.tuples(callers, DOING), min_size=1, max_size=12))
    def work(self, after: int, deeds: list[tuple[int, c.Command]]) -> None:
        """Use every command, mostly as the teacher, who may."""
        for by, command in deeds:
            self.now = Millis(self.now + after)
            done = command
            if isinstance(command, c.AskQuestion):
                done = structs.replace(command, text=f"question {len(self.log)}?")
            elif isinstance(command, c.EditCode) and (command.base_version or 0) > 1:
                done = structs.replace(command, base_version=self.state.code.version)
            self.ask(structs.replace(self.caller(by) if by % 2 else PEOPLE[0], texts=self.texts), done)

    @rule(by=callers, command=SETTINGS)
    def set_up(self, by: int, command: c.Command) -> None:
        self.ask(self.caller(by), command)

    @rule(by=callers, command=ENDS, really=st.integers(0, 30))
    def end(self, by: int, command: c.Command, really: int) -> None:
        if really == 17 or isinstance(command, c.Start):
            self.ask(self.caller(by), command)

    @rule(ms=st.integers(0, 2 * GRACE))
    def let_time_pass(self, ms: int) -> None:
        end = self.now + ms
        while (due := machine.deadline(self.state)) is not None and due <= end:
            self.now = max(self.now, due)
            self.ask(SERVER, c.Tick())
        self.now = Millis(end)

    @rule()
    def restart(self) -> None:
        self.state = machine.restored(machine.snapshot(self.state))
        online = [one.user_id for one in self.state.participants.values() if one.online]
        self.ask(SERVER, c.LoseConnections(online))

    def caller(self, number: int) -> c.Caller:
        inside = [one for one in PEOPLE if role_of(self.state, one.user_id)]
        candidates = [*inside, *inside, *inside, *PEOPLE]
        return candidates[number % len(candidates)]

    def ask(self, by: c.Caller, command: c.Command) -> None:
        before = machine.snapshot(self.state)
        try:
            events = machine.decide(self.state, command, by, self.now)
        except Rejected:
            events = []
        else:
            assert machine.decide(self.state, command, by, self.now) == events
        assert machine.snapshot(self.state) == before, "decide changes nothing"
        if by.issued_at is not None and (place := self.state.participants.get(by.user_id)) and place.kicked_at:
            assert not events, "a removed guest's token is good for nothing"
        for event in events:
            self.take(event, by.user_id or None)

    def take(self, event: e.Event, actor_id: UserId | None) -> None:
        """Handle an event as the actor does: redact, record, apply, and determine its audience."""
        text = msgspec.json.encode(event)
        assert msgspec.json.decode(text, type=e.AnyEvent) == event
        if isinstance(event, e.MessageDeleted):
            self.redact(event)
        for recorded in machine.record(SESSION, 1, self.state.seq, self.now, actor_id, [event]):
            assert msgspec.json.decode(msgspec.json.encode(recorded), type=e.Recorded) == recorded
            machine.apply(self.state, recorded)
            self.log.append(recorded)
            self.stored.append(recorded)
        self.watch(event)
        heard_by = audience(self.state, event, actor_id)
        self.check_audience(event, actor_id, heard_by)
        if isinstance(event, e.ChatMessage) and event.to is not None and event.text:
            self.secrets.add(event.text)
        else:
            assert not any(secret in text.decode() for secret in self.secrets)
        if heard_by is None:
            assert not any(hidden in text.decode() for hidden in self.hidden.values())

    def watch(self, event: e.Event) -> None:
        """Maintain the facts that the invariants compare with the state, in another form."""
        match event:
            case e.QuestionAsked(hidden=True):
                self.hidden[event.question_id] = event.text
            case e.QuestionApproved():
                assert self.hidden.pop(event.question_id) == event.text
                assert (event.user_id is None) == self.state.questions[event.question_id].anonymous
            case e.CodeEdited(text=str(text)):
                self.texts[event.version] = text
            case e.CodeEdited(changes=list(changes)):
                characters = list(self.texts[event.version - 1])
                for change in changes:
                    characters[change.at : change.at + change.delete] = change.insert
                self.texts[event.version] = "".join(characters)
            case _:
                pass
        state = self.state
        inside = [place.role for place in state.participants.values() if place.status == "joined"]
        live = state.session.status == "live"
        self.emptied_at = None if inside or not live else self.emptied_at or self.now
        led = any(role in ("host", "cohost") for role in inside)
        self.hostless_at = None if led or not live else self.hostless_at or self.now

    def redact(self, event: e.MessageDeleted) -> None:
        redacted = chat.redaction(self.state, event)
        assert redacted is not None
        seq, left = redacted
        row = self.stored[seq - 1]
        assert isinstance(row.event, e.ChatMessage)
        assert left.voice is None
        if row.event.text:
            self.deleted.add(row.event.text)
        self.stored[seq - 1] = structs.replace(row, event=left)

    def check_audience(self, event: e.Event, actor_id: UserId | None, heard_by: frozenset[UserId] | None) -> None:
        match event:
            case e.ChatMessage(to=str(to)):
                assert actor_id is not None
                assert heard_by == frozenset({to, actor_id})
            case e.MessageDeleted(to=str()) | e.MessageReacted(to=list()):
                told = self.state.messages[event.message_id]
                assert told.to is not None
                assert heard_by == frozenset({told.user_id, told.to})
            case e.SignalSent(to=to):
                assert heard_by == frozenset({to})
            case e.QuestionAsked() | e.QuestionDismissed():
                question = self.state.questions[event.question_id]
                assert (heard_by is None) == question.visible
                own = actor_id == question.user_id
                assert anonymous(event) == (question.anonymous and own)
            case e.PollVoted():
                assert anonymous(event) == self.state.polls[event.poll_id].anonymous
            case _ if heard_by is not None:
                concerned = getattr(event, "user_ids", [getattr(event, "user_id", None)])
                assert OWNER in heard_by
                assert all(role_of(self.state, one) for one in heard_by.difference(concerned))
            case e.ParticipantWaiting() | e.ParticipantDenied() | e.ParticipantInvited():
                pytest.fail(f"{event} is not for everyone")
            case e.EventLogged() | e.AudioUploaded():
                pytest.fail(f"{event} is not for everyone")
            case _:
                pass

    # What always holds

    @invariant()
    def the_log_is_the_state(self) -> None:
        seqs = [recorded.seq for recorded in self.log]
        assert seqs == list(range(1, self.state.seq + 1))
        same(machine.replay(self.log), self.state)
        same(machine.restored(machine.snapshot(self.state)), self.state)
        cut = 1 + self.state.seq * 7_919 % len(self.log)
        then = machine.restored(machine.snapshot(machine.replay(self.log[:cut])))
        same(machine.replay(self.log[cut:], then), self.state)

    @invariant()
    def what_was_taken_back_is_nowhere(self) -> None:
        same(machine.replay(self.stored), self.state)
        if self.deleted:
            kept = msgspec.json.encode(self.stored).decode() + machine.snapshot(self.state).decode(errors="replace")
            assert not any(text in kept for text in self.deleted)

    @invariant()
    def counts_are_recounts(self) -> None:
        session, places = self.state.session, self.state.participants.values()
        assert session.joined == sum(place.status == "joined" for place in places)
        assert session.online == sum(place.online for place in places)
        assert [place.number for place in places] == list(range(1, len(places) + 1))
        others = sum(place.status == "joined" for place in places if place.user_id != OWNER)
        assert others <= session.capacity
        assert self.state.hosts == sum(
            place.status == "joined" and place.role in ("host", "cohost") for place in places
        )
        assert (self.state.emptied_at, self.state.hostless_at) == (self.emptied_at, self.hostless_at)

    @invariant()
    def everyone_is_where_they_may_be(self) -> None:
        state = self.state
        for user_id, place in state.participants.items():
            assert user_id == place.user_id
            assert not (place.banned and place.status != "kicked")
            assert not place.online or place.status in ("joined", "waiting")
            assert place.joined_at is not None or place.status != "joined"
            assert not place.granted & place.revoked
        if OWNER in state.participants:
            owner = state.participants[OWNER]
            assert (owner.role, owner.banned, owner.granted, owner.revoked) == ("host", False, frozenset(), frozenset())
            assert owner.status in ("joined", "left")
        if state.session.status in CLOSED:
            assert not any(place.status in ("joined", "waiting") for place in state.participants.values())
            assert not state.hands
            assert not state.away

    @invariant()
    def queues_are_in_order(self) -> None:
        state = self.state
        assert all(state.participants[user_id].status == "joined" for user_id in state.hands)
        assert sorted(state.hands.values()) == list(state.hands.values())
        assert not any(state.participants[user_id].online for user_id in state.away)
        assert all(state.participants[user_id].status in ("joined", "waiting") for user_id in state.away)
        assert sorted(state.away.values()) == list(state.away.values())
        assert sorted(state.messages) == list(state.messages)
        assert state.last_message_id == max(state.messages, default=0)

    @invariant()
    def media_is_sent_by_who_may(self) -> None:
        state = self.state
        sharing = [place.user_id for place in state.participants.values() if place.screen]
        assert sharing == ([] if state.sharer is None else [state.sharer])
        for place in state.participants.values():
            may = permissions.effective(state, place)
            assert place.status == "joined" or not (place.video or place.audio or place.screen)
            assert not place.video or "video" in may
            assert not place.screen or "screen" in may
            assert not place.audio or ("speak" in may and not place.muted)

    @invariant()
    def positions_add_up(self) -> None:
        playing = self.state.playback
        if playing is None:
            return
        duration = playing.track.duration_s
        here = playback.position_at(playing, self.now)
        ahead = [playback.position_at(playing, Millis(self.now + ms)) for ms in (0, 1, 500, 10_000, 100_000)]
        assert sorted(ahead) == ahead, "time does not run backwards"
        assert here >= 0
        assert duration is None or ahead[-1] <= duration, "never past the end"
        assert playing.status == "playing" or set(ahead) == {here}
        end = playback.track_end(self.state)
        assert (end is not None) == (playing.status == "playing" and duration is not None)
        if end is not None and duration is not None:
            assert playback.position_at(playing, end) == pytest.approx(duration)
            assert end == playing.at or playback.position_at(playing, Millis(end - 1)) < duration
        assert playing.status == "stopped" or self.state.session.status != "ended"
        if playing.status == "playing" and self.state.session.status == "live" and here != duration:
            later = machine.restored(machine.snapshot(self.state))
            for command in (c.Pause(), c.Play()):
                events = machine.decide(later, command, PEOPLE[0], self.now)
                machine.replay(machine.record(SESSION, 1, later.seq, self.now, OWNER, events), later)
            assert later.playback is not None
            assert playback.position_at(later.playback, self.now) == pytest.approx(here), "there and back again"

    @invariant()
    def votes_add_up(self) -> None:
        cast = [(row.event, row.actor_id) for row in self.log if isinstance(row.event, e.PollVoted)]
        for poll in self.state.polls.values():
            ballots = [(who, event.options) for event, who in cast if event.poll_id == poll.poll_id]
            assert dict(ballots) == poll.votes
            assert len(ballots) == len(poll.votes), "nobody votes twice"
            counted = [sum(option in options for _, options in ballots) for option in range(len(poll.options))]
            assert polls.results(poll) == counted
            assert poll.multiple or all(len(options) == 1 for _, options in ballots)
        for row in self.log:
            if isinstance(row.event, e.PollClosed):
                poll = self.state.polls[row.event.poll_id]
                assert not poll.open
                assert row.event.results == polls.results(poll)

    @invariant()
    def questions_are_in_order(self) -> None:
        state = self.state
        assert list(state.questions) == list(range(1, state.last_question_id + 1))
        for question in state.questions.values():
            assert len(set(question.upvotes)) == len(question.upvotes)
            assert question.visible == (question.question_id not in self.hidden)
            assert question.status != "hidden" or not question.visible
            assert question.status not in ("open", "answered") or question.visible

    @invariant()
    def the_code_is_what_its_edits_make(self) -> None:
        document = self.state.code
        assert len(self.texts) == document.version + 1
        assert document.text == self.texts[document.version]
        assert len(document.text.encode()) <= code.LIMIT_BYTES

    @invariant()
    def the_board_is_counted(self) -> None:
        drawing = self.state.board
        assert drawing.points == sum(len(stroke.points) for stroke in drawing.strokes.values()) <= board.MAX_NUMBERS
        assert sorted(drawing.strokes) == list(drawing.strokes)
        assert drawing.last_stroke_id >= max([*drawing.strokes, *self.state.cleared], default=0)
        kinds = (e.BoardDrawn, e.BoardErased, e.BoardCleared, e.BoardRestored)
        assert drawing.version == sum(isinstance(row.event, kinds) for row in self.log)

    @invariant()
    def one_recording_runs_at_most(self) -> None:
        state = self.state
        assert [one.recording_id for one in state.recordings] == list(range(1, len(state.recordings) + 1))
        running = [one for one in state.recordings if one.stopped_at is None]
        assert running == [one for one in [recording.running(state)] if one is not None]
        assert not (running and state.session.status in CLOSED)
        for one in state.recordings:
            assert isinstance(self.log[one.first_seq - 1].event, e.RecordingStarted)
            if one.last_seq is not None:
                stopped = self.log[one.last_seq - 1].event
                assert isinstance(stopped, e.RecordingStopped)
                assert stopped.duration_ms == (one.stopped_at or 0) - one.started_at

    @invariant()
    def permissions_are_explained_as_they_are(self) -> None:
        state = self.state
        for one in PEOPLE:
            for why in permissions.explain(state, one.user_id):
                allowed = permissions.allowed(state, one.user_id, why.permission)
                assert why.allowed == allowed or (allowed and why.because in ("feature_off", "ended"))

    @invariant()
    def time_does_something_exactly_at_the_deadline(self) -> None:
        due = machine.deadline(self.state)
        if due is None:
            assert machine.decide(self.state, c.Tick(), SERVER, Millis(self.now + 10**10)) == []
            return
        assert machine.decide(self.state, c.Tick(), SERVER, Millis(due - 1)) == []
        events = machine.decide(self.state, c.Tick(), SERVER, due)
        assert events
        later = machine.restored(machine.snapshot(self.state))
        machine.replay(machine.record(SESSION, 1, later.seq, due, None, events), later)
        after = machine.deadline(later)
        if after == due:
            # A start at the very moment when somebody's grace time is over: two things, one after the other.
            assert isinstance(events[0], e.SessionStarted)
            events = machine.decide(later, c.Tick(), SERVER, due)
            machine.replay(machine.record(SESSION, 1, later.seq, due, None, events), later)
            after = machine.deadline(later)
        assert after is None or after > due


def same(one: State, other: State) -> None:
    """Compare dicts with their order, which equality ignores: queues are dicts."""
    assert one == other
    for name in ("participants", "away", "hands", "messages", "questions", "polls"):
        assert list(getattr(one, name)) == list(getattr(other, name)), name
    assert list(one.board.strokes) == list(other.board.strokes)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=3_000 if LONG else 400,
    stateful_step_count=80 if LONG else 40,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
