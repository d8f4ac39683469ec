"""The route rows of `interview`: coding interviews that are joined by link."""

from collections.abc import Mapping
from functools import partial
from typing import get_args

from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason
from server.api import dialect_frames as frames
from server.api.dialect import Dialect
from server.api.routes import (
    OWN_RULE,
    ActionRoute,
    CommandRoute,
    CreateRoute,
    MessageSocketRoute,
    ReadRoute,
    Row,
    under,
)
from server.dialects.interview.bodies import (
    Change,
    Join,
    NewSession,
    Presence,
    Replacement,
    change,
    creation_options,
    creator,
    joiner,
    new_session,
    path_participant,
    readable,
    remove,
    replace,
    sender,
    set_present,
)
from server.dialects.interview.stream import CLOSES, EVENTS, MESSAGES, RELAYS, failed, first, relay
from server.dialects.interview.views import (
    Admitted,
    Failure,
    Health,
    Participants,
    ParticipantView,
    SessionView,
    Snapshots,
    Success,
    admitted,
    admitted_session,
    failure,
    ids,
    participants,
    path_participant_view,
    session,
    snapshots,
)
from server.http.problems import STATUS
from server.settings.sections import Settings
from server.usecases import clock, code, guest_identity, sessions

KIND = "interview"
ERRORS: Mapping[Reason, tuple[int, str]] = {
    **{reason: (status, "") for reason, status in STATUS.items()},
    Reason.ENDED: (410, "Session has expired"),
    Reason.FEATURE_OFF: (403, ""),
    Reason.UNKNOWN_PARTICIPANT: (404, "Participant not found"),
    Reason.NOT_ALLOWED: (400, ""),
}
PROBLEMS = {
    **dict.fromkeys(("invalid", "malformed", "too_deep", "key_reused", "key_not_taken", "unknown_type"), (400, "")),
    "unknown_session": (404, "Session not found"),
}

OPEN = (
    ReadRoute(
        path="/sessions/{ref}", summary="Read a session", public=True, reads=OWN_RULE, see=session,
        answer=Success[SessionView],
    ),
    ReadRoute(
        path="/sessions/{ref}/participants", summary="List the participants", public=True, reads=OWN_RULE,
        see=participants, answer=Participants,
    ),
    ReadRoute(
        path="/sessions/{ref}/code/snapshots", summary="Read the code's versions, newest first", public=True,
        reads=OWN_RULE, query=code.VersionsQuery, see=ids, then=code.versions, view=snapshots,
        answer=Success[Snapshots],
    ),
    ActionRoute(
        path="/health", summary="Check that the server answers", public=True, act=clock.now,
        view=lambda at, call: Health("ok", at), answer=Health,
    ),
)  # fmt: skip
CHANGES = (
    CommandRoute(
        method="PATCH", path="/sessions/{ref}", summary="Change the code or its language", body=Change, find=readable,
        commands=(c.EditCode, c.SetLanguage), ask=change, see=session, answer=Success[SessionView],
    ),
    CommandRoute(
        method="PUT", path="/sessions/{ref}/code", summary="Replace the code", body=Replacement, find=readable,
        commands=(c.EditCode, c.SetLanguage), ask=replace, see=session, answer=Success[SessionView],
    ),
    CommandRoute(
        method="DELETE", path="/sessions/{ref}", summary="Delete a session", commands=(c.Delete,),
        ask=lambda call: c.Delete(),
        then=sessions.deleted, status=204,
    ),
    CommandRoute(
        method="PATCH", path="/sessions/{ref}/participants/{participant_id}",
        summary="Set whether a participant is present", body=Presence, find=path_participant, commands=(c.SetPresent,),
        ask=set_present,
        has_invitation=True, see=path_participant_view, answer=Success[ParticipantView],
    ),
    CommandRoute(
        method="DELETE", path="/sessions/{ref}/participants/{participant_id}", summary="Leave, or remove a participant",
        find=path_participant, commands=(c.Kick, c.Leave), ask=remove, status=204,
    ),
)  # fmt: skip
JOIN = CommandRoute(
    path="/sessions/{ref}/join", summary="Join, and get a token for this session only", public=True, body=Join,
    identify=guest_identity.guest_from_token(KIND, joiner, readable), has_invitation=True,
    commands=(c.Join,), ask=lambda call: c.Join(), see=admitted_session,
    then=guest_identity.token, view=admitted, answer=Success[Admitted],
)  # fmt: skip
SOCKET = MessageSocketRoute(
    path="/ws/sessions/{ref}", summary="Take part in a session, or watch it without a token (WebSocket)", public=True,
    query_token=True, join=True, has_invitation=True, find=readable, frames=MESSAGES,
    other=relay, failed=failed, closes=CLOSES,
    refusals={}, format=frames.talk(EVENTS, first, lambda bye: None, RELAYS),
)  # fmt: skip


def create(ttl_s: int) -> Row:
    """Return the row that creates sessions, which expire after `ttl_s` seconds."""
    return CreateRoute(
        path="/sessions", summary="Create a session, and get its interviewer's token", public=True, body=NewSession,
        identify=guest_identity.guest_from_token(KIND, creator), new=partial(new_session, ttl_s=ttl_s),
        options=creation_options, see=admitted_session,
        then=guest_identity.token, view=admitted, answer=Success[Admitted],
    )  # fmt: skip


def opened(row: Row) -> Row:
    """Return the row for an open dialect: callers without a token act as the session's creator."""
    return structs.replace(row, public=True, identify=guest_identity.guest_from_body(KIND, lambda call: None, readable))


def table(settings: Settings) -> Dialect:
    """Return the dialect as the settings configure it."""
    mine = settings.dialects.interview
    changes: tuple[Row, ...] = CHANGES
    join, socket = JOIN, SOCKET
    if mine.open:
        changes = tuple(map(opened, CHANGES))
        join = structs.replace(
            JOIN, identify=guest_identity.guest_from_body(KIND, joiner, readable), then=guest_identity.first_token
        )
        socket = structs.replace(SOCKET, identify=guest_identity.guest_from_body(KIND, sender, readable))
    return Dialect(
        name=KIND,
        title="Interview",
        prefix=mine.prefix,
        rows=(*under("/api/v1", create(mine.ttl_s), join, *OPEN, *changes), socket),
        open=("dialects.interview.open",) if mine.open else (),
        refused=Failure,
        kind="interview",
        named="name",
        reference="[0-9a-f]{8}",
        inviting=True,
        cased=True,
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=failure,
        events=EVENTS,
        silent=frozenset(get_args(e.DurableEvent)) - EVENTS.keys(),
    )
