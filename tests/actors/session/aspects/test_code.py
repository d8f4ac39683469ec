"""The shared document: versions, edits against a base, restoring, merging."""

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.code import LIMIT_BYTES
from actors.session.errors import Reason, Rejected
from actors.session.state import TextChange
from tests.support.script import ANN, EVE, TEACHER, Script, Steps, class_of, does, features, given, grants

HELLO = "print('hello')\n"
UPDATE = "AAA="


def coding(*steps: Steps) -> Script:
    """A class with one line of code, which Ann may edit."""
    return given(class_of(ANN), grants(ANN, "edit_code"), does(TEACHER, c.EditCode(0, text=HELLO)), list(steps))


def test_a_whole_text() -> None:
    script = given(class_of()).when(c.EditCode(0, text=HELLO), by=TEACHER).then(e.CodeEdited(version=1, text=HELLO))
    code = script.state.code
    assert (code.text, code.version, code.edited_by, code.edited_at) == (HELLO, 1, TEACHER.user_id, script.now)
    script.when(c.EditCode(1, text=HELLO), by=TEACHER).then()


def test_changes_one_after_the_other() -> None:
    changes = [c.Change(at=7, delete=5, insert="bye"), c.Change(at=0, insert="# "), c.Change(at=0, delete=1)]
    script = (
        coding()
        .when(c.EditCode(1, changes=changes), by=ANN)
        .then(e.CodeEdited(version=2, changes=[one.stored() for one in changes]))
    )
    assert script.state.code.text == " print('bye')\n"
    assert script.state.code.edited_by == ANN.user_id


def test_positions_are_characters() -> None:
    script = coding(does(ANN, c.EditCode(1, text="𝄞ä"), c.EditCode(2, changes=[c.Change(at=1, insert="ö")])))
    assert script.state.code.text == "𝄞öä"


def test_an_edit_of_an_old_version_is_refused_with_the_current_text() -> None:
    script = coding(does(ANN, c.EditCode(1, text="new"))).when(c.EditCode(1, text="other"), by=TEACHER)
    script.rejected(Reason.BEHIND, field="base_version")
    assert isinstance(script.answer, Rejected)
    assert script.answer.current == {"version": 2, "text": "new", "language": "javascript"}
    script.when(c.EditCode(3, text="from the future"), by=TEACHER).rejected(Reason.BEHIND, field="base_version")


@pytest.mark.parametrize("change", [c.Change(at=16), c.Change(at=15, delete=1), c.Change(at=0, delete=16)])
def test_a_change_outside_of_the_text(change: c.Change) -> None:
    script = coding().when(c.EditCode(1, changes=[c.Change(at=0), change]), by=ANN)
    script.rejected(Reason.NOT_ALLOWED, field="changes[1]")


def test_either_a_text_or_changes() -> None:
    for command in (c.EditCode(1), c.EditCode(1, text="", changes=[])):
        coding().when(command, by=ANN).rejected(Reason.NOT_ALLOWED, field="text")


def test_it_is_bounded_in_bytes() -> None:
    most = "ä" * (LIMIT_BYTES // 2)
    script = coding(does(ANN, c.EditCode(1, text=most)))
    script.when(c.EditCode(2, text=most + "x"), by=ANN).rejected(Reason.TOO_LARGE)
    script.when(c.EditCode(2, changes=[c.Change(at=0, insert="x")]), by=ANN).rejected(Reason.TOO_LARGE)
    script.when(c.Merge([TextChange(at=0, insert="x")], UPDATE), by=ANN).rejected(Reason.TOO_LARGE)


@pytest.mark.parametrize(
    "command",
    [c.EditCode(1, text=""), c.SetLanguage("python"), c.RestoreCode(0), c.MergeCode(UPDATE), c.Merge([], UPDATE)],
    ids=lambda command: type(command).__name__,
)
def test_who_may(command: c.Command) -> None:
    script = coding().when(command, by=EVE).rejected(Reason.NOT_JOINED)
    script.given(does(TEACHER, c.SetPermissions(ANN.user_id, revoke=["edit_code"])))
    script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
    script.given(features(code=False)).when(command, by=TEACHER).rejected(Reason.FEATURE_OFF)


def test_the_language() -> None:
    script = coding().when(c.SetLanguage("python"), by=ANN).then(e.LanguageChanged(language="python"))
    script.when(c.SetLanguage("python"), by=ANN).then()
    assert script.state.code.language == "python"
    assert script.state.code.version == 1


def test_an_earlier_version_comes_back_as_a_new_one() -> None:
    by = structs.replace(ANN, texts={0: "", 1: HELLO, 2: "new"})
    script = coding(does(ANN, c.EditCode(1, text="new")))
    script.when(c.RestoreCode(1), by=by).then(e.CodeEdited(version=3, text=HELLO))
    script.when(c.RestoreCode(1), by=by).then()
    script.when(c.RestoreCode(9), by=by).rejected(Reason.UNKNOWN_VERSION, field="version")


def test_a_merged_update_and_its_text() -> None:
    changes = [TextChange(at=0, insert="# ")]
    script = coding().when(c.Merge(changes, UPDATE), by=ANN)
    script.then(e.CodeEdited(version=2, changes=changes), e.CodeMerged(version=2, update=UPDATE))
    assert script.state.code.text == "# " + HELLO
    script.when(c.Merge([], "BBB="), by=ANN).then(e.CodeMerged(version=2, update="BBB="))
    assert script.state.code.updates == [UPDATE, "BBB="]


def test_merging_goes_by_the_text_as_it_is() -> None:
    script = (
        coding().when(c.Merge([TextChange(at=99)], UPDATE), by=ANN).rejected(Reason.NOT_ALLOWED, field="changes[0]")
    )
    script.when(c.MergeCode(UPDATE), by=ANN).then()


def test_many_updates_become_one() -> None:
    script = coding(does(ANN, c.Merge([], "AAA="), c.Merge([], "BBB="))).when(c.Compact("CCC="), by=TEACHER)
    script.then(e.CodeCompacted(update="CCC="))
    assert script.state.code.updates == ["CCC="]
    assert script.state.code.text == HELLO


def test_the_document_is_edited_before_the_start_and_not_after_the_end() -> None:
    given(does(TEACHER, c.EditCode(0, text=HELLO))).when(c.SetLanguage("python"), by=TEACHER)
    coding(does(TEACHER, c.End())).when(c.EditCode(1, text=""), by=TEACHER).rejected(Reason.ENDED)
