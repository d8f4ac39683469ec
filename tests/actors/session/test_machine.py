"""The tables are total: every command has a handler, every event an applier, a tag and an audience."""

import re
from collections import Counter
from typing import Any, get_args

import msgspec
import pytest
from msgspec import inspect

from actors.session import commands as c
from actors.session import event_rules, machine
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import MessageId, UserId
from actors.session.state import EndReason, Features, FeaturesUpdate
from tests.support.script import ANN, AUDIO, BEN, SESSION, START, TEACHER, class_of, given, says

WIRE = frozenset(get_args(c.WireCommand))
COMMANDS = frozenset(get_args(c.AnyCommand))
DURABLE = frozenset(get_args(e.DurableEvent))
EVENTS = frozenset(get_args(e.AnyEvent))

IN_API = """
    start end cancel update lock unlock
    join leave invite admit deny kick set_role set_permissions request_unmute mute unmute mute_all
    raise_hand lower_hand lower_all call_next
    set_media
    send_message delete_message react send_voice
    ask_question approve_question upvote_question answer_question dismiss_question
    open_poll vote close_poll
    select_audio play pause seek set_speed stop
    edit_code set_language restore_code merge_code
    draw erase clear_board restore_board
    start_recording stop_recording
    log_event
    signal cursor typing
"""
"""The API's names."""


def tag(kind: type) -> str:
    return str(getattr(inspect.type_info(kind), "tag"))  # noqa: B009


def by_name(kinds: frozenset[type]) -> list[type]:
    return sorted(kinds, key=lambda kind: kind.__name__)


# Tables


def test_every_command_has_a_handler_and_a_time() -> None:
    assert set(machine.HANDLERS) == COMMANDS - {c.Create}
    assert set(machine.ALLOWED_STATUS) == COMMANDS - {c.Create}


def test_every_durable_event_has_an_applier() -> None:
    assert set(machine.APPLIERS) == DURABLE
    assert EVENTS - DURABLE == e.EPHEMERAL


def test_every_subclass_is_in_its_union() -> None:
    assert set(c.Command.__subclasses__()) == COMMANDS
    assert set(e.Event.__subclasses__()) == EVENTS


def test_each_aspect_has_its_own() -> None:
    handled = Counter(command for aspect in machine.ASPECTS for command in aspect.HANDLERS)
    applied = Counter(event for aspect in machine.ASPECTS for event in aspect.APPLIERS)
    assert {*handled.values(), *applied.values()} == {1}


def test_internal_commands_cannot_be_sent() -> None:
    internal = COMMANDS - WIRE
    assert internal == {
        c.Create, c.Together, c.Relay, c.SetPresent, c.Connect, c.Disconnect, c.LoseConnections, c.LogAudioUpload,
        c.Delete, c.Merge, c.Compact, c.ReportRecording, c.Tick,
    }  # fmt: skip
    for kind in internal:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode({"type": tag(kind)}), type=c.WireCommand)


# Names


def test_commands_are_called_what_the_api_calls_them() -> None:
    assert {tag(kind) for kind in WIRE} == set(IN_API.split())


@pytest.mark.parametrize("kinds", [COMMANDS, EVENTS], ids=["commands", "events"])
def test_tags_are_snake_case_and_unique(kinds: frozenset[type]) -> None:
    tags = [tag(kind) for kind in kinds]
    assert len(set(tags)) == len(tags)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", one) for one in tags)


def test_reasons_are_states_in_snake_case() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", reason) for reason in Reason)
    assert repr(Rejected(Reason.FULL, "Full.")) == "Rejected('full', 'Full.')"


def test_an_update_of_features_knows_every_feature() -> None:
    assert FeaturesUpdate.__struct_fields__ == Features.__struct_fields__


def test_every_field_of_an_update_is_a_fact_of_the_session() -> None:
    assert c.Update.__struct_fields__ == e.SessionUpdated.__struct_fields__
    session = given().state.session
    assert all(hasattr(session, name) for name in e.SessionUpdated.__struct_fields__)


# Decoding what clients send


def minimal(kind: type) -> dict[str, Any]:
    """A body with the required fields only."""
    samples: dict[str, Any] = {
        "user_id": "ann", "to": "ann", "text": "Hi", "message_id": 1, "emoji": "👍", "role": "member",
        "event_type": "error", "payload": None, "position": {}, "audio_id": AUDIO, "speed": 1.5, "question_id": 1,
        "poll_id": 1, "question": "Why?", "options": ["Yes", "No"], "base_version": 0, "language": "python",
        "version": 0, "update": "AAA=", "points": [0, 0], "stroke_ids": [1],
    }  # fmt: skip
    if kind is c.Seek:
        samples["position"] = 1.0
    elif kind is c.Vote:
        samples["options"] = [0]
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return {"type": tag(kind)} | {
        field.encode_name: samples[field.encode_name] for field in info.fields if field.required
    }


@pytest.mark.parametrize("kind", by_name(WIRE), ids=tag)
def test_a_body_decodes_to_its_command_and_takes_no_unknown_fields(kind: type) -> None:
    body = minimal(kind)
    assert type(msgspec.convert(body, c.WireCommand)) is kind
    assert msgspec.json.decode(msgspec.json.encode(msgspec.convert(body, kind)), type=c.WireCommand)
    with pytest.raises(msgspec.ValidationError, match="unknown field `actor_id`"):
        msgspec.convert(body | {"actor_id": "teacher"}, c.WireCommand)


@pytest.mark.parametrize("kind", by_name(WIRE), ids=tag)
def test_every_text_that_a_client_sends_is_bounded(kind: type) -> None:
    """Except those that handlers measure: payloads, positions, logged data and the code."""
    measured = {"payload", "data"}
    if kind is c.MoveCursor:
        measured.add("position")
    elif kind is c.EditCode:
        measured |= {"text", "changes"}
    for field in msgspec.structs.fields(kind):
        if field.name not in measured:
            assert unbounded(inspect.type_info(field.type)) == [], field.name


def unbounded(info: inspect.Type) -> list[inspect.Type]:
    """Return the texts and lists in a type that have no maximum length."""
    match info:
        case inspect.StrType(max_length=None):
            return [info]
        case inspect.ListType(max_length=limit, item_type=item):
            return ([] if limit else [info]) + unbounded(item)
        case inspect.UnionType(types=types):
            return [one for each in types for one in unbounded(each)]
        case inspect.StructType(fields=fields):
            return [one for field in fields for one in unbounded(field.type)]
        case inspect.DictType() | inspect.AnyType():
            return [info]
        case _:
            return []


@pytest.mark.parametrize(
    "body",
    [
        {"type": "send_message", "text": ""},
        {"type": "send_message", "text": " \n"},
        {"type": "send_message", "text": "x" * 2_001},
        {"type": "react", "message_id": 1, "emoji": "👍 👍"},
        {"type": "kick", "user_id": "ann", "reason": "x" * 501},
        {"type": "kick", "user_id": "x" * 65},
        {"type": "mute_all", "except": ["ann"] * 1_001},
        {"type": "update", "capacity": 0},
        {"type": "update", "capacity": 10_001},
        {"type": "update", "title": " "},
        {"type": "update", "starts_at": "2026-11-23T09:00:00"},
        {"type": "update", "features": {"telepathy": True}},
        {"type": "set_role", "user_id": "ann", "role": "owner"},
        {"type": "set_permissions", "user_id": "ann", "grant": ["everything"]},
        {"type": "seek", "position": -1},
        {"type": "seek", "position": float("nan")},
        {"type": "set_speed", "speed": 2.1},
        {"type": "select_audio", "audio_id": "../../etc/passwd"},
        {"type": "ask_question", "text": " "},
        {"type": "open_poll", "question": "Why?", "options": ["Only one"]},
        {"type": "open_poll", "question": "Why?", "options": ["Yes", " "]},
        {"type": "vote", "poll_id": 1, "options": []},
        {"type": "vote", "poll_id": 1, "options": [-1]},
        {"type": "edit_code", "base_version": -1, "text": ""},
        {"type": "edit_code", "base_version": 0, "changes": [{"at": -1}]},
        {"type": "edit_code", "base_version": 0, "changes": [{"at": 0}] * 1_001},
        {"type": "set_language", "language": "<script>"},
        {"type": "draw", "points": [0.0, 1.1]},
        {"type": "draw", "points": [0.0, 0.0], "color": "red"},
        {"type": "draw", "points": [0.0] * 2_002},
        {"type": "erase", "stroke_ids": []},
        {"type": "merge", "changes": [], "update": ""},
        {"type": "log_event", "event_type": "Error; drop"},
        {"type": "log_event", "event_type": "error", "data": []},
        {"type": "levitate"},
        {"text": "Hi"},
    ],
    ids=str,
)
def test_bodies_that_are_no_commands(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(body), type=c.WireCommand)


# Functions over events


def sample(kind: type) -> e.Event:
    """An event of a type, about Ann and message 1."""
    samples: dict[str, Any] = {
        "user_id": ANN.user_id, "to": BEN.user_id, "user_ids": [ANN.user_id], "message_id": 1, "reason": "host",
        "name": "Ann", "number": 2, "role": "member", "granted": [], "revoked": [], "text": "Hi", "emoji": "👍",
        "event_type": "error", "data": {}, "body": {}, "payload": None, "position": {}, "kind": "lesson",
        "code": "K7Q2MD", "title": "T", "owner_name": "Teacher", "capacity": 1, "features": {}, "grace_ms": 1,
        "video": True, "audio": False, "screen": False, "audio_id": AUDIO, "speed": 1.5, "question_id": 1,
        "poll_id": 1, "question": "Why?", "options": ["Yes", "No"], "results": [1, 0], "version": 1, "update": "AAA=",
        "language": "python", "stroke_id": 1, "stroke_ids": [1], "tool": "pen", "points": [0.0, 0.0],
        "color": "#000000", "width": 1.0, "recording_id": 1, "duration_ms": 1, "status": "completed",
    }  # fmt: skip
    if kind is e.PollVoted:
        samples["options"] = [0]
    elif kind in (e.AudioPlay, e.AudioPause, e.AudioSeek, e.AudioSpeed):
        samples["position"] = 1.5
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return msgspec.convert({"type": tag(kind)} | {f.name: samples[f.name] for f in info.fields if f.required}, kind)


@pytest.mark.parametrize("kind", by_name(EVENTS), ids=tag)
def test_event_rules_are_total(kind: type) -> None:
    event = sample(kind)
    people = frozenset({TEACHER.user_id, ANN.user_id, BEN.user_id})
    for state in (given().state, given(class_of(ANN, BEN), says(ANN)).state):
        for actor_id in (None, ANN.user_id):
            assert (event_rules.audience(state, event, actor_id) or people) <= people
    assert event_rules.anonymous(event) is False
    assert event_rules.new_view(event, TEACHER.user_id) in (None, ANN.user_id)


@pytest.mark.parametrize("kind", by_name(EVENTS), ids=tag)
def test_events_survive_json(kind: type) -> None:
    event = sample(kind)
    assert msgspec.json.decode(msgspec.json.encode(event), type=e.AnyEvent) == event
    recorded = e.Recorded(SESSION, 1, 2, START, None, event)  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(recorded), type=e.Recorded) == recorded


# The log


def test_a_log_starts_with_the_sessions_creation() -> None:
    with pytest.raises(TypeError, match="starts with session_created"):
        machine.replay([e.Recorded(SESSION, 1, 1, START, TEACHER.user_id, e.SessionStarted())])
    with pytest.raises(ValueError, match="no rows"):
        machine.replay([])


def test_a_state_is_as_of_its_last_row() -> None:
    script = given(class_of(ANN))
    row = e.Recorded(SESSION, 7, script.state.seq + 1, script.now, None, e.SessionLocked())
    machine.apply(script.state, row)
    assert (script.state.epoch, script.state.seq) == (7, row.seq)


def test_a_snapshot_of_before_a_field_was_added_still_decodes() -> None:
    session = msgspec.to_builtins(given().state.session)
    old = msgspec.msgpack.encode({"session": session, "epoch": 1, "seq": 1, "at": START})
    assert machine.restored(old) == given().state


def test_defaults_are_not_shared_between_values() -> None:
    one, other = given().state, given().state
    one.hands[UserId("ann")] = START
    one.messages.clear()
    assert other.hands == {}
    assert one.participants is not other.participants
    assert e.ChatMessage(message_id=MessageId(1), text="") == e.ChatMessage(message_id=MessageId(1), text="")


def test_every_end_has_a_reason_that_lists_can_name() -> None:
    assert set(get_args(EndReason)) == {"host", "expired", "empty", "host_gone", "limit"}
