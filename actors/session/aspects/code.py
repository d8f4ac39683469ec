"""The code document: versions, edits against a base version, and Yjs updates for clients that merge.

**Law:** the log has every text, whichever way it was edited; `updates` only let merging clients agree on it.
"""

from collections.abc import Sequence

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.rope import Rope
from actors.session.state import Code, State, TextChange

LIMIT_BYTES = 1 << 20


def edit_code(state: State, command: c.EditCode, by: c.Caller, now: Millis) -> list[e.Event]:
    code = editable(state, by)
    if (command.text is None) == (command.changes is None):
        raise Rejected(Reason.NOT_ALLOWED, "Send either `text` or `changes`.", field="text")
    if command.base_version is not None:
        require_current_version(code, command.base_version)
    elif command.text is None:
        raise Rejected(Reason.NOT_ALLOWED, "Send the `base_version` that the `changes` apply to.", field="base_version")
    changes = None if command.changes is None else [change.stored() for change in command.changes]
    text = command.text if command.text is not None else apply_changes(code.text, changes or ())
    require_size(text)
    if text == code.text:
        return []
    return [e.CodeEdited(version=code.version + 1, changes=changes, text=command.text)]


def editable(state: State, by: c.Caller) -> Code:
    """Return the document. Raise Rejected if the caller may not edit it, or the session has none."""
    require(state, by, "edit_code")
    if not state.session.features.code:
        raise Rejected(Reason.FEATURE_OFF, "The code document is switched off in this session.")
    return state.code


def require_current_version(code: Code, base_version: int) -> None:
    """Raise Rejected, with the current text, for an edit of another version than the current one."""
    if base_version != code.version:
        raise Rejected(
            Reason.BEHIND,
            f"The document is at version {code.version}, not {base_version}: apply the edit to the current text.",
            field="base_version",
            current={"version": code.version, "text": code.text, "language": code.language},
        )


def apply_changes(text: str, changes: Sequence[TextChange]) -> str:
    """Return the text after changes, one after the other. Raise Rejected if one reaches past its end."""
    rope, length = Rope(text), len(text)
    for index, change in enumerate(changes):
        if change.at + change.delete > length:
            raise Rejected(
                Reason.NOT_ALLOWED,
                f"`changes[{index}]` reaches to {change.at + change.delete}; the text has {length} characters.",
                field=f"changes[{index}]",
            )
        rope.change(change)
        length += len(change.insert) - change.delete
    return str(rope)


def require_size(text: str) -> None:
    """Raise Rejected for a text that is too large to keep."""
    size = len(text.encode())
    if size > LIMIT_BYTES:
        raise Rejected(Reason.TOO_LARGE, f"The document would have {size} bytes; the limit is {LIMIT_BYTES}.")


def set_language(state: State, command: c.SetLanguage, by: c.Caller, now: Millis) -> list[e.Event]:
    code = editable(state, by)
    return [] if command.language == code.language else [e.LanguageChanged(language=command.language)]


def restore_code(state: State, command: c.RestoreCode, by: c.Caller, now: Millis) -> list[e.Event]:
    code = editable(state, by)
    text = by.texts.get(command.version)
    if text is None:
        raise Rejected(Reason.UNKNOWN_VERSION, f"There is no version {command.version}.", field="version")
    return [] if text == code.text else [e.CodeEdited(version=code.version + 1, text=text)]


def merge(state: State, command: c.Merge, by: c.Caller, now: Millis) -> list[e.Event]:
    code = editable(state, by)
    text = apply_changes(code.text, command.changes)
    require_size(text)
    if text == code.text:
        return [e.CodeMerged(version=code.version, update=command.update)]
    version = code.version + 1
    return [
        e.CodeEdited(version=version, changes=command.changes),
        e.CodeMerged(version=version, update=command.update),
    ]


def compact(state: State, command: c.Compact, by: c.Caller, now: Millis) -> list[e.Event]:
    return [e.CodeCompacted(update=command.update)]


def merge_code(state: State, command: c.MergeCode, by: c.Caller, now: Millis) -> list[e.Event]:
    """Check the caller only. The actor merges the update (`actors.code_merging`) and decides a `Merge`."""
    editable(state, by)
    return []


def on_edited(state: State, event: e.CodeEdited, recorded: e.Recorded) -> None:
    code = state.code
    code.text = event.text if event.text is not None else apply_changes(code.text, event.changes or ())
    code.version = event.version
    code.edited_by, code.edited_at = recorded.actor_id, recorded.at


def on_merged(state: State, event: e.CodeMerged, recorded: e.Recorded) -> None:
    state.code.updates = [*state.code.updates, event.update]


def on_compacted(state: State, event: e.CodeCompacted, recorded: e.Recorded) -> None:
    state.code.updates = [event.update]


def on_language(state: State, event: e.LanguageChanged, recorded: e.Recorded) -> None:
    state.code.language = event.language


HANDLERS = {
    c.EditCode: edit_code,
    c.SetLanguage: set_language,
    c.RestoreCode: restore_code,
    c.MergeCode: merge_code,
    c.Merge: merge,
    c.Compact: compact,
}
APPLIERS = {
    e.CodeEdited: on_edited,
    e.CodeMerged: on_merged,
    e.CodeCompacted: on_compacted,
    e.LanguageChanged: on_language,
}
