"""Code commands in a session whose code merges: the Yjs document stays in step with the text.

**Law:** a client that applies the updates in the log, in any order, holds the text that the log has. A refused command
leaves no trace: the document is then built again from the state.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects.code import apply_changes
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.state import Code, State, TextChange
from actors.yjs import Replica, decoded, difference, encoded

CODE_COMMANDS: frozenset[type[c.Command]] = frozenset({c.MergeCode, c.EditCode, c.RestoreCode, c.Together})
"""The commands that may change the text. `machine.decide` is enough for all others."""
LOOSE_UPDATES = 100
LOOSE_BYTES = 256 << 10
"""Updates that follow the first one are compacted into one beyond these limits."""
COPIED = 8 << 20
"""Characters that the document copies to follow an edit change by change; a larger edit is followed as one change."""
HISTORY_BYTES = 8 << 20
"""All updates together. Yjs keeps a trace of deleted text, so the document grows while its text does not."""


class CodeMerging:
    """The handler of code commands for one session."""

    __slots__ = ("_replica",)

    def __init__(self) -> None:
        self._replica: Replica | None = None
        """In step with the state; None until the session merges, and after a failure."""

    def decide(self, state: State, command: c.Command, by: c.Caller, now: Millis) -> list[e.Event]:
        """Decide a code command: merge a Yjs update, or add to a plain edit the update that does the same.

        The events must be applied to the state before the next call. Raise Rejected as `machine.decide` does."""
        events = machine.decide(state, command, by, now)
        merges = type(command) is c.MergeCode
        if not merges and not (state.code.updates and any(isinstance(event, e.CodeEdited) for event in events)):
            return events
        try:
            if isinstance(command, c.MergeCode):
                events = self._merge(state, command, by, now)
            else:
                events = self._follow(state.code, events)
            return self._compact(state, events, by, now)
        except (Exception, KeyboardInterrupt, SystemExit):
            self._replica = None
            raise
        except BaseException as panic:
            # A panic in the library is no Exception: the actor would neither notice it nor stop.
            self._replica = None
            raise RuntimeError("the Yjs document cannot be kept in step") from panic

    def _merge(self, state: State, command: c.MergeCode, by: c.Caller, now: Millis) -> list[e.Event]:
        code = state.code
        if sum(map(len, code.updates)) > HISTORY_BYTES:
            raise Rejected(Reason.TOO_LARGE, "The document's history is too long to merge more into it.")
        update = decoded(command.update)
        events: list[e.Event] = []
        replica = self._open(code)
        if not code.updates:
            # The first merge creates the document. Its updates must be the same for all who come later.
            events.append(e.CodeMerged(version=code.version, update=encoded(replica.whole())))
        changes, added = replica.merge(update, code.text)
        if added is not None:
            events += machine.decide(state, c.Merge(changes=changes, update=encoded(added)), by, now)
        return events

    def _follow(self, code: Code, events: list[e.Event]) -> list[e.Event]:
        """Return the events with an update after each edit."""
        replica, text = self._open(code), code.text
        followed: list[e.Event] = []
        for event in events:
            followed.append(event)
            if isinstance(event, e.CodeEdited):
                changes = event.changes or ()
                if event.text is not None or len(changes) * len(text) > COPIED:
                    changes = difference(text, event.text if event.text is not None else apply_changes(text, changes))
                text, update = replica.follow(text, changes)
                followed.append(e.CodeMerged(version=event.version, update=encoded(update)))
        return followed

    def _compact(self, state: State, events: list[e.Event], by: c.Caller, now: Millis) -> list[e.Event]:
        """Return the events and, if there are too many loose updates, all updates in one.

        Updates that outnumber the limit must also outweigh the first one. So the log grows in proportion: compaction
        writes no more than the updates before it."""
        updates = [*state.code.updates, *(event.update for event in events if isinstance(event, e.CodeMerged))]
        loose = sum(map(len, updates[1:]))
        if loose <= LOOSE_BYTES and (len(updates) <= LOOSE_UPDATES or loose <= len(updates[0])):
            return events
        compact = c.Compact(update=encoded(self._open(state.code).whole()))
        return [*events, *machine.decide(state, compact, by, now)]

    def _open(self, code: Code) -> Replica:
        if self._replica is None:
            self._replica = Replica(map(decoded, code.updates))
            if not code.updates:
                self._replica.follow("", [TextChange(at=0, insert=code.text)])
        return self._replica
