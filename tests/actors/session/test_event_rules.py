"""The table of event rules: every type of event has one, and nothing stands in for a missing one."""

from typing import get_args

import msgspec
import pytest

from actors.session import event_rules
from actors.session import events as e
from actors.session.audience import everyone
from actors.session.event_rules import RULES, audience
from tests.support.script import ANN, given

EVENTS = set(get_args(e.AnyEvent))


def types(event: type[e.Event] = e.Event) -> set[type]:
    """Return every class of events that exists."""
    return {one for child in event.__subclasses__() for one in (child, *types(child)) if one.__module__ == e.__name__}


def missing() -> set[type]:
    return types() ^ RULES.keys()


def test_every_event_has_a_rule() -> None:
    assert types() == EVENTS
    assert missing() == set()


@pytest.mark.parametrize("event", RULES, ids=lambda event: event.__name__)
def test_a_missing_rule_is_noticed(event: type[e.Event], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULES, event)
    assert missing() == {event}


def test_an_event_without_a_rule_is_visible_to_nobody() -> None:
    class Forgotten(e.Event, frozen=True):
        pass

    with pytest.raises(KeyError):
        audience(given().state, Forgotten(), ANN.user_id)


def fields(event: type[e.Event]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(event)}


@pytest.mark.parametrize("event", RULES, ids=lambda event: event.__name__)
def test_a_rule_depends_on_the_events_fields(event: type[e.Event]) -> None:
    """An event that names an addressee, or may be anonymous, has a rule that says so."""
    rule = RULES[event]
    assert rule.audience is not everyone or not fields(event) & {"to", "hidden"}
    assert (rule.confidants is not None) == ("anonymous" in fields(event) and event is not e.PollOpened)
    assert (rule.for_reader is not None) == (fields(event) >= {"to", "text"})
    assert "user_id" in fields(event) or (rule.lists != "participant" and rule.streams in ("continue", "ended"))


def test_ephemeral_events_change_nothing_but_streams() -> None:
    for event in e.EPHEMERAL:
        rule = RULES[event]
        assert (rule.lists, rule.streams, rule.room) == ("unchanged", "continue", False)
        assert event_rules.new_view(e.TypingChanged(), ANN.user_id) is None
