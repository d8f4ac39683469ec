"""The life of a session: scheduled → live → ended, or scheduled → cancelled; its settings; starts and ends by time."""

from datetime import datetime

from msgspec import UNSET, structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import CLOSED
from actors.session.aspects import code, media, playback, recording
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require, rights, role_of
from actors.session.state import Code, EndReason, Features, Session, State, Status


def millis(moment: datetime | None) -> Millis | None:
    """Return a moment as milliseconds since 1970."""
    return None if moment is None else Millis(round(moment.timestamp() * 1000))


def closed_rejection(session: Session) -> Rejected:
    """Return the refusal of a session that has ended or was cancelled."""
    if session.status == "cancelled":
        return Rejected(Reason.CANCELLED, "The session was cancelled.")
    return Rejected(Reason.ENDED, "The session has ended.")


def require_host(state: State, by: c.Caller) -> None:
    """Raise Rejected for a caller who is not a host, or whose permission to moderate was revoked."""
    require(state, by, "moderate")
    if role_of(state, by.user_id) != "host":
        raise Rejected(Reason.NOT_PERMITTED, "Only a host may do this.")


def require_order(starts_at: Millis | None, ends_at: Millis | None) -> None:
    """Raise Rejected for an end that is not after the start."""
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise Rejected(Reason.NOT_ALLOWED, "`ends_at` must be after `starts_at`.", field="ends_at")


def create(command: c.Create, by: c.Caller, now: Millis) -> list[e.Event]:
    """Return the first events of a new session. Raise Rejected for facts that contradict each other."""
    new = command.new
    starts_at, ends_at = millis(new.starts_at), millis(new.ends_at)
    require_order(starts_at, ends_at)
    if new.auto_start and starts_at is None:
        raise Rejected(Reason.NOT_ALLOWED, "Send `starts_at` with `auto_start`.", field="auto_start")
    if new.early is not None and not new.auto_start:
        raise Rejected(Reason.NOT_ALLOWED, "Send `early` only with `auto_start`.", field="early")
    return [
        e.SessionCreated(
            number=command.number,
            name=command.name,
            code=command.code,
            kind=new.kind,
            title=new.title,
            owner_name=by.name,
            capacity=new.capacity or command.default_capacity,
            features=new.features.stored(),
            grace_ms=command.grace_ms,
            description=new.description,
            mute_on_join=new.mute_on_join,
            locked=new.locked,
            course_id=new.course_id,
            language=new.language,
            starts_at=starts_at,
            ends_at=ends_at,
            expires_at=None if new.ttl is None else Millis(now + new.ttl * 1000),
            auto_start=new.auto_start,
            early_ms=(new.early or 0) * 1000,
            empty_after_ms=None if new.empty_after is None else new.empty_after * 1000,
            host_gone_after_ms=None if new.host_gone_after is None else new.host_gone_after * 1000,
            owner_number=by.number,
            room=command.room,
            dialect=command.dialect,
        ),
        *first_events(command, by),
    ]


def first_events(command: c.Create, by: c.Caller) -> list[e.Event]:
    """Return the events of the creation itself: the start, the first participants, the code document."""
    kind = command.new.kind
    events: list[e.Event] = [e.SessionStarted()] if command.live else []
    if command.owner_status == "joined":
        events.append(
            e.ParticipantJoined(
                by.user_id, by.name, 1, "host",
                guest=by.guest, colour=by.colour, user_number=by.number, alias=by.alias,
                permissions=rights(kind, "host", None),
            )
        )  # fmt: skip
    elif command.owner_status == "invited":
        events.append(e.ParticipantInvited(by.user_id, by.name, 1, by.number, rights(kind, "member", None)))
    for number, user_id in enumerate(command.invited, 2 if command.owner_status else 1):
        whom = by.people[user_id]
        may = rights(kind, "member", None)
        events.append(e.ParticipantInvited(user_id, whom.name, number, whom.number, may))
    if command.text_language not in (None, Code().language):
        events.append(e.LanguageChanged(command.text_language))
    if command.text:
        code.require_size(command.text)
        events.append(e.CodeEdited(version=1, text=command.text))
    return events


def start(state: State, command: c.Start, by: c.Caller, now: Millis) -> list[e.Event]:
    require_host(state, by)
    return [] if state.session.status == "live" else [e.SessionStarted()]


def end(state: State, command: c.End, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "end")
    return end_events(state, now, "host")


def cancel(state: State, command: c.Cancel, by: c.Caller, now: Millis) -> list[e.Event]:
    require_host(state, by)
    if state.session.status == "live":
        raise Rejected(Reason.NOT_SCHEDULED, "The session is live; `end` it instead.")
    return [e.SessionCancelled()]


def update(state: State, command: c.Update, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    session = state.session
    sent = {name: value for name, value in structs.asdict(command).items() if value is not UNSET}
    for name in ("starts_at", "ends_at"):
        if name in sent:
            sent[name] = millis(sent[name])
    if "features" in sent:
        sent["features"] = with_changes(session.features, sent["features"])
    changed = {name: value for name, value in sent.items() if value != getattr(session, name)}
    if not changed:
        return []
    require_order(changed.get("starts_at", session.starts_at), changed.get("ends_at", session.ends_at))
    if "capacity" in changed and changed["capacity"] < session.joined:
        raise Rejected(
            Reason.NOT_ALLOWED,
            f"`capacity` must be at least {session.joined}, the number of participants.",
            field="capacity",
        )
    return [e.SessionUpdated(**changed)]


def with_changes(features: Features, change: object) -> Features:
    """Return features with those that a `FeaturesUpdate` sets."""
    sent = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}  # type: ignore[arg-type]
    return structs.replace(features, **sent)


def lock(state: State, command: c.Lock, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    return [] if state.session.locked else [e.SessionLocked()]


def unlock(state: State, command: c.Unlock, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    return [e.SessionUnlocked()] if state.session.locked else []


def delete(state: State, command: c.Delete, by: c.Caller, now: Millis) -> list[e.Event]:
    if by.user_id != state.session.owner_id:
        raise Rejected(Reason.NOT_PERMITTED, "Only the owner may delete a session.")
    if state.session.deleted:
        return []
    closing: dict[Status, list[e.Event]] = {"live": end_events(state, now, "host"), "scheduled": [e.SessionCancelled()]}
    return [*closing.get(state.session.status, []), e.SessionDeleted()]


def due_events(state: State, now: Millis) -> list[e.Event]:
    """Return the start or end that is due by now; [] if none is."""
    due = min(deadlines(state), key=lambda deadline: deadline[0], default=None)
    if due is None or now < due[0]:
        return []
    return end_events(state, now, due[1]) if due[1] is not None else [e.SessionStarted()]


def deadlines(state: State) -> list[tuple[Millis, EndReason | None]]:
    """Return the moments when the session ends by itself, with the reasons; None as a reason: it starts."""
    session = state.session
    if session.status in CLOSED:
        return []
    due: list[tuple[Millis, EndReason | None]] = []
    if session.expires_at is not None:
        due.append((session.expires_at, "expired"))
    if session.status == "scheduled" and session.auto_start and session.starts_at is not None:
        due.append((Millis(session.starts_at - session.early_ms), None))
    if session.empty_after_ms is not None and state.emptied_at is not None:
        due.append((Millis(state.emptied_at + session.empty_after_ms), "empty"))
    if session.host_gone_after_ms is not None and state.hostless_at is not None:
        due.append((Millis(state.hostless_at + session.host_gone_after_ms), "host_gone"))
    return due


def end_events(state: State, now: Millis, reason: EndReason) -> list[e.Event]:
    """Return the end of a session, after the end of a running recording."""
    return [*recording.stop_running(state, now), e.SessionEnded(reason=reason)]


def update_occupancy(state: State, at: Millis) -> None:
    """Record since when no participant, or no host, has been in the live session."""
    live = state.session.status == "live"
    state.emptied_at = (state.emptied_at or at) if live and not state.session.joined else None
    state.hostless_at = (state.hostless_at or at) if live and not state.hosts else None


def initial_state(recorded: e.Recorded) -> State:
    """Return the state after a log's first row. Raise TypeError if that is not a session's creation."""
    event, at = recorded.event, recorded.at
    if not isinstance(event, e.SessionCreated) or recorded.actor_id is None:
        raise TypeError(f"a session's log starts with session_created, not {type(event).__name__}")
    session = Session(
        id=recorded.session_id,
        number=event.number,
        name=event.name,
        code=event.code,
        kind=event.kind,
        title=event.title,
        description=event.description,
        owner_id=recorded.actor_id,
        owner_name=event.owner_name,
        capacity=event.capacity,
        features=event.features,
        mute_on_join=event.mute_on_join,
        locked=event.locked,
        grace_ms=event.grace_ms,
        created_at=at,
        updated_at=at,
        course_id=event.course_id,
        language=event.language,
        starts_at=event.starts_at,
        ends_at=event.ends_at,
        expires_at=event.expires_at,
        auto_start=event.auto_start,
        early_ms=event.early_ms,
        empty_after_ms=event.empty_after_ms,
        host_gone_after_ms=event.host_gone_after_ms,
        owner_number=event.owner_number,
        room=event.room,
        dialect=event.dialect,
    )
    return State(session=session, epoch=recorded.epoch, seq=recorded.seq, at=at)


def on_created(state: State, event: e.SessionCreated, recorded: e.Recorded) -> None:
    """Change nothing: the state began with this event (`initial_state`)."""


def on_started(state: State, event: e.SessionStarted, recorded: e.Recorded) -> None:
    state.session.status = "live"
    state.session.started_at = recorded.at
    update_occupancy(state, recorded.at)


def on_ended(state: State, event: e.SessionEnded, recorded: e.Recorded) -> None:
    state.session.end_reason = event.reason
    end_session(state, "ended", recorded.at)


def on_cancelled(state: State, event: e.SessionCancelled, recorded: e.Recorded) -> None:
    end_session(state, "cancelled", recorded.at)


def end_session(state: State, status: Status, at: Millis) -> None:
    """End the presence of everyone, and everything that needs it."""
    session = state.session
    session.status = status
    session.ended_at = at
    session.joined = session.online = state.hosts = 0
    state.emptied_at = state.hostless_at = None
    playback.stop_playback(state, at)
    state.away.clear()
    state.hands.clear()
    for participant in state.participants.values():
        participant.online = False
        media.stop_media(state, participant)
        if participant.status in ("joined", "waiting"):
            participant.status = "left"
            participant.left_at = at


def on_updated(state: State, event: e.SessionUpdated, recorded: e.Recorded) -> None:
    for name, value in structs.asdict(event).items():
        if value is not UNSET:
            setattr(state.session, name, value)
    state.session.updated_at = recorded.at


def on_locked(state: State, event: e.SessionLocked, recorded: e.Recorded) -> None:
    state.session.locked = True
    state.session.updated_at = recorded.at


def on_unlocked(state: State, event: e.SessionUnlocked, recorded: e.Recorded) -> None:
    state.session.locked = False
    state.session.updated_at = recorded.at


def on_deleted(state: State, event: e.SessionDeleted, recorded: e.Recorded) -> None:
    state.session.deleted = True
    state.session.updated_at = recorded.at


HANDLERS = {
    c.Start: start,
    c.End: end,
    c.Cancel: cancel,
    c.Update: update,
    c.Lock: lock,
    c.Unlock: unlock,
    c.Delete: delete,
}
APPLIERS = {
    e.SessionCreated: on_created,
    e.SessionStarted: on_started,
    e.SessionEnded: on_ended,
    e.SessionCancelled: on_cancelled,
    e.SessionUpdated: on_updated,
    e.SessionLocked: on_locked,
    e.SessionUnlocked: on_unlocked,
    e.SessionDeleted: on_deleted,
}
