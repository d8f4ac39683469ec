"""Who sends video, audio and their screen: one screen at a time, and nothing that one may not send."""

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason
from actors.session.state import Permission
from tests.support.script import (
    ANN,
    BEN,
    CORA,
    EVE,
    HUGO,
    TEACHER,
    Script,
    Steps,
    class_of,
    does,
    given,
    grants,
    has_role,
    revokes,
    staff,
)


def changed(one: c.Caller, *, video: bool = False, audio: bool = False, screen: bool = False) -> e.MediaChanged:
    return e.MediaChanged(user_id=one.user_id, video=video, audio=audio, screen=screen)


def everything(one: c.Caller) -> Steps:
    return [grants(one, "screen"), does(one, c.SetMedia(video=True, audio=True, screen=True))]


def sends(script: Script, one: c.Caller) -> tuple[bool, bool, bool]:
    place = script.participant(one)
    return place.video, place.audio, place.screen


def sharer(script: Script) -> str | None:
    return script.state.sharer


def test_only_the_fields_that_are_sent_change() -> None:
    script = given(class_of(ANN)).when(c.SetMedia(audio=True), by=ANN).then(changed(ANN, audio=True))
    script.when(c.SetMedia(video=True), by=ANN).then(changed(ANN, video=True, audio=True))
    script.when(c.SetMedia(video=True), by=ANN).then()
    script.when(c.SetMedia(), by=ANN).then()
    script.when(c.SetMedia(video=False, audio=False), by=ANN).then(changed(ANN))


@pytest.mark.parametrize(("kind", "needs"), [("video", "video"), ("audio", "speak"), ("screen", "screen")])
def test_each_needs_its_permission(kind: str, needs: Permission) -> None:
    script = given(class_of(ANN), revokes(ANN, needs)).when(c.SetMedia(**{kind: True}), by=ANN)
    script.rejected(Reason.NOT_PERMITTED)
    script.when(c.SetMedia(**{kind: False}), by=ANN).then()


def test_media_is_for_those_inside() -> None:
    given(class_of(ANN)).when(c.SetMedia(audio=True), by=EVE).rejected(Reason.NOT_JOINED)
    script = given(class_of(ANN), does(TEACHER, c.Leave()))
    script.when(c.SetMedia(audio=True), by=TEACHER).rejected(Reason.NOT_JOINED)


def test_one_screen_at_a_time() -> None:
    script = given(class_of(ANN, BEN), everything(ANN), grants(BEN, "screen"))
    assert sharer(script) == ANN.user_id
    script.when(c.SetMedia(screen=True), by=BEN).rejected(Reason.SCREEN_TAKEN, field="screen")
    script.given(does(ANN, c.SetMedia(screen=False)))
    assert sharer(script) is None
    script.when(c.SetMedia(screen=True), by=BEN).then(changed(BEN, screen=True))


def test_a_host_takes_the_screen_over() -> None:
    script = given(class_of(ANN), staff(), everything(ANN))
    script.when(c.SetMedia(screen=True), by=CORA)
    script.then(changed(ANN, video=True, audio=True), changed(CORA, screen=True))
    script.when(c.SetMedia(screen=True), by=HUGO).then(changed(CORA), changed(HUGO, screen=True))
    script.when(c.SetMedia(screen=True), by=CORA).rejected(Reason.SCREEN_TAKEN, field="screen")
    assert sharer(script) == HUGO.user_id


def test_soft_mute_stops_the_audio_until_one_unmutes() -> None:
    script = given(class_of(ANN), everything(ANN), does(TEACHER, c.Mute(ANN.user_id)))
    assert sends(script, ANN) == (True, False, True)
    script.when(c.SetMedia(audio=True), by=ANN).rejected(Reason.NOT_PERMITTED, field="audio")
    script.given(does(ANN, c.Unmute()), does(ANN, c.SetMedia(audio=True)))
    assert sends(script, ANN) == (True, True, True)
    script.given(does(TEACHER, c.MuteAll()))
    assert sends(script, ANN) == (True, False, True)


def test_hard_mute_takes_the_permission_and_with_it_the_audio() -> None:
    script = given(class_of(ANN), everything(ANN), revokes(ANN, "speak"))
    assert sends(script, ANN) == (True, False, True)
    assert script.participant(ANN).muted
    script.when(c.Unmute(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.SetMedia(audio=True), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.given(grants(ANN, "speak"))
    script.when(c.SetMedia(audio=True), by=ANN).rejected(Reason.NOT_PERMITTED, field="audio")
    script.given(does(ANN, c.Unmute(), c.SetMedia(audio=True)))


def test_revoking_a_permission_stops_its_media() -> None:
    script = given(class_of(ANN), everything(ANN), revokes(ANN, "video", "screen"))
    assert sends(script, ANN) == (False, True, False)
    assert sharer(script) is None


@pytest.mark.parametrize(
    "goes",
    [does(ANN, c.Leave()), does(TEACHER, c.Kick(ANN.user_id)), does(TEACHER, c.SetRole(ANN.user_id, "observer"))],
    ids=["leaves", "is kicked", "becomes an observer"],
)
def test_who_goes_sends_nothing_more(goes: list[Steps]) -> None:
    script = given(class_of(ANN), does(ANN, c.SetMedia(video=True, audio=True, screen=True)), goes, kind="tutoring")
    assert sends(script, ANN) == (False, False, False)
    assert sharer(script) is None


def test_the_end_of_a_session_silences_everyone() -> None:
    script = given(class_of(ANN, BEN), everything(ANN), does(BEN, c.SetMedia(audio=True)), does(TEACHER, c.End()))
    assert sends(script, ANN) == sends(script, BEN) == (False, False, False)
    assert sharer(script) is None


def test_a_demoted_cohost_keeps_what_members_may_send() -> None:
    script = given(class_of(), has_role(CORA, "cohost"), does(CORA, c.SetMedia(video=True, audio=True, screen=True)))
    script.given(does(TEACHER, c.SetRole(CORA.user_id, "member")))
    assert sends(script, CORA) == (True, True, False)
