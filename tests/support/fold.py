"""A client's view of a session: it starts as the first `snapshot`, and one function per type of frame updates it.

**Law:** a function depends only on the view, the frame and the viewer's id. It returns the parts of the view that
change, and modifies nothing in place. Frames omit the fields that have their default value.
"""

from collections.abc import Callable, Iterable
from typing import Any

View = dict[str, Any]
"""The body of a `snapshot` frame."""
Event = dict[str, Any]
"""The body of any other frame."""
Fold = Callable[[View, Event, str], View]

CHAT_KEPT = 50
NO_MEDIA = {"video": False, "audio": False, "screen": False}


def fold(view: View, kind: str, event: Event, me: str) -> View:
    """Return the view after a frame. `me` is the viewer's user id."""
    if kind == "snapshot":
        return event
    view = view | FOLDS[kind](view, event, me)
    return view if in_lobby(view) else view | counted(view)


# Access


def in_lobby(view: View) -> bool:
    return view["you"] is not None and view["you"]["status"] == "waiting"


def is_owner(view: View, me: str) -> bool:
    return bool(view["session"]["owner"]["id"] == me)


def moderates(view: View, me: str) -> bool:
    you = view["you"]
    may = you is not None and you["status"] == "joined" and "moderate" in you["permissions"]
    return is_owner(view, me) or may


# Parts of a view


def counted(view: View) -> View:
    inside = [one for one in view["participants"] if one["status"] == "joined"]
    counts = {"joined": len(inside), "online": sum(one["online"] for one in inside)}
    return {"session": view["session"] | {"counts": counts}}


def session(view: View, **changes: Any) -> View:
    return {"session": view["session"] | changes}


def people(view: View, user_ids: Iterable[str], change: Callable[[View], View]) -> View:
    """Change these participants in the list, and in `you` if the viewer is one of them. Ignore ids not in the view."""
    user_ids = set(user_ids)
    you = view["you"]
    return {
        "participants": [one | change(one) if one["user_id"] in user_ids else one for one in view["participants"]],
        "you": you | change(you) if you is not None and you["user_id"] in user_ids else you,
    }


def person(view: View, event: Event, **changes: Any) -> View:
    return people(view, [event["user_id"]], lambda one: changes)


def known(view: View, user_id: str) -> View | None:
    everyone = [*view["participants"], *([view["you"]] if view["you"] else [])]
    return next((one for one in everyone if one["user_id"] == user_id), None)


def placed(view: View, new: View, me: str) -> View:
    """Insert or replace a participant, sorted by number, and update their name on their messages and questions."""
    others = [one for one in view["participants"] if one["user_id"] != new["user_id"]]
    visible = not in_lobby(view)

    def named(item: View) -> View:
        return item | {"name": new["name"]} if item["user_id"] == new["user_id"] else item

    return {
        "participants": sorted([*others, new], key=lambda one: one["number"]) if visible else view["participants"],
        "you": new if new["user_id"] == me else view["you"],
        "chat": [named(message) for message in view["chat"]],
        "questions": [named(question) for question in view["questions"]],
    }


def newcomer(event: Event) -> View:
    return {
        "user_id": event["user_id"], "number": event["number"], "name": event["name"], "role": "member",
        "status": "invited", "online": False, "muted": False, "hand_raised_at": None, "joined_at": None,
        "left_at": None, "guest": False, "colour": None, "media": NO_MEDIA, "permissions": event["permissions"],
    }  # fmt: skip


def name_of(view: View, user_id: str) -> str | None:
    one, owner = known(view, user_id), view["session"]["owner"]
    name: str | None = one["name"] if one else owner["name"] if owner["id"] == user_id else None
    return name


def actor(view: View, event: Event) -> str:
    user_id: str = event["actor"] or view["session"]["owner"]["id"]
    return user_id


# The session


def started(view: View, event: Event, me: str) -> View:
    return session(view, status="live", started_at=event["at"])


def updated(view: View, event: Event, me: str) -> View:
    changes = {name: value for name, value in event.items() if name not in ("type", "seq", "at", "actor")}
    return session(view, **changes, updated_at=event["at"])


def locked(view: View, event: Event, me: str) -> View:
    return session(view, locked=event["type"] == "session_locked", updated_at=event["at"])


def deleted(view: View, event: Event, me: str) -> View:
    return session(view, updated_at=event["at"])


def ended(view: View, event: Event, me: str) -> View:
    """Mark every participant as having left. Only the owner still moderates: other viewers see no participants now."""
    at = event["at"]

    def left(one: View) -> View:
        gone = {"status": "left", "left_at": at} if one["status"] in ("joined", "waiting") else {}
        return {"online": False, "media": NO_MEDIA, "hand_raised_at": None, **gone}

    everyone = people(view, [me, *(one["user_id"] for one in view["participants"])], left)
    status = {"session_ended": "ended", "session_cancelled": "cancelled"}[event["type"]]
    over = {
        **everyone,
        **session(view, status=status, ended_at=at, end_reason=event.get("reason")),
        **stopped_playing(view, event, me),
        "hands": [],
        "sharer": None,
    }
    return over if is_owner(view, me) else over | {"participants": [], "questions": public_questions(view)}


def public_questions(view: View) -> list[View]:
    """Return the questions as members see them: no hidden ones except their own, and no askers of anonymous ones."""
    shown = [
        one for one in view["questions"] if one["status"] != "hidden" or one["question_id"] in view["mine"]["asked"]
    ]
    return [one | {"user_id": None, "name": None} if one["anonymous"] else one for one in shown]


# Participants


def joined(view: View, event: Event, me: str) -> View:
    new = newcomer(event) | {
        "role": event["role"],
        "status": "joined",
        "online": event.get("online", False),
        "muted": event.get("muted", False),
        "joined_at": event.get("joined_at", event["at"]),
        "guest": event.get("guest", False),
        "colour": event.get("colour"),
    }
    return placed(view, new, me)


def waiting(view: View, event: Event, me: str) -> View:
    one = known(view, event["user_id"]) or newcomer(event)
    guest = {"guest": event.get("guest", False), "colour": event.get("colour")}
    return placed(view, one | guest | {"status": "waiting", "name": event["name"]}, me)


def invited(view: View, event: Event, me: str) -> View:
    one = known(view, event["user_id"]) or newcomer(event)
    return placed(view, one | {"status": "invited", "name": event["name"]}, me)


def departed(status: str) -> Fold:
    def depart(view: View, event: Event, me: str) -> View:
        user_id = event["user_id"]
        left_at = event.get("last_seen", event["at"])
        changes = {"status": status, "online": False, "hand_raised_at": None, "media": NO_MEDIA, "left_at": left_at}
        if status == "kicked":
            changes |= {"role": event["role"], "permissions": event["permissions"]}
        after = person(view, event, **changes)
        if not moderates(view, me):
            after["participants"] = [one for one in after["participants"] if one["user_id"] != user_id]
        return (
            after | without_hands(view, [user_id]) | {"sharer": None if view["sharer"] == user_id else view["sharer"]}
        )

    return depart


def online(view: View, event: Event, me: str) -> View:
    return person(view, event, online=event["type"] == "participant_online")


def connections_lost(view: View, event: Event, me: str) -> View:
    return people(view, event["user_ids"], lambda one: {"online": False})


def rights_changed(view: View, event: Event, me: str) -> View:
    """Update permissions, and stop media that the participant may no longer send. Only `role_changed` has `role`."""
    user_id, may = event["user_id"], event["permissions"]

    def change(one: View) -> View:
        muted = one["muted"] or "speak" not in may
        media = one["media"]
        return {
            "role": event.get("role", one["role"]),
            "permissions": may,
            "muted": muted,
            "media": {
                "video": media["video"] and "video" in may,
                "audio": media["audio"] and not muted,
                "screen": media["screen"] and "screen" in may,
            },
        }

    stops = view["sharer"] == user_id and "screen" not in may
    return people(view, [user_id], change) | {"sharer": None if stops else view["sharer"]}


def muted(view: View, event: Event, me: str) -> View:
    user_ids = event["user_ids"] if event["type"] == "all_muted" else [event["user_id"]]
    return people(view, user_ids, lambda one: {"muted": True, "media": one["media"] | {"audio": False}})


def unmuted(view: View, event: Event, me: str) -> View:
    return person(view, event, muted=False)


def media_changed(view: View, event: Event, me: str) -> View:
    user_id = event["user_id"]
    media = {name: event[name] for name in NO_MEDIA}
    kept = None if view["sharer"] == user_id else view["sharer"]
    return person(view, event, media=media) | {"sharer": user_id if event["screen"] else kept}


# Hands


def hand_raised(view: View, event: Event, me: str) -> View:
    raised = {"user_id": event["user_id"], "raised_at": event["at"], "waiting_s": 0}
    return person(view, event, hand_raised_at=event["at"]) | {"hands": [*view["hands"], raised]}


def without_hands(view: View, user_ids: Iterable[str]) -> View:
    user_ids = set(user_ids)
    return {"hands": [hand for hand in view["hands"] if hand["user_id"] not in user_ids]}


def hands_lowered(view: View, event: Event, me: str) -> View:
    user_ids = [event["user_id"]] if "user_id" in event else event["user_ids"]
    return people(view, user_ids, lambda one: {"hand_raised_at": None}) | without_hands(view, user_ids)


# Chat


def chat_message(view: View, event: Event, me: str) -> View:
    voice = event.get("voice")
    user_id = actor(view, event)
    message = {
        "message_id": event["message_id"],
        "seq": event["seq"],
        "user_id": user_id,
        "name": name_of(view, user_id),
        "text": event["text"],
        "at": event["at"],
        "to": event.get("to"),
        "reply_to": event.get("reply_to"),
        "voice": voice and {"audio_id": voice["audio_id"], "duration": voice["duration_s"]},
        "deleted": event.get("deleted", False),
        "reactions": {},
    }
    return {"chat": [*view["chat"], message][-CHAT_KEPT:]}


def message(view: View, event: Event, change: Callable[[View], View]) -> View:
    changed = event["message_id"]
    return {"chat": [one | change(one) if one["message_id"] == changed else one for one in view["chat"]]}


def message_deleted(view: View, event: Event, me: str) -> View:
    return message(view, event, lambda one: {"text": "", "voice": None, "deleted": True, "reactions": {}})


def message_reacted(view: View, event: Event, me: str) -> View:
    def change(one: View) -> View:
        others = [user_id for user_id in one["reactions"].get(event["emoji"], []) if user_id != event["actor"]]
        users = others if event.get("removed") else [*others, event["actor"]]
        reactions = one["reactions"] | {event["emoji"]: users}
        return {"reactions": {emoji: users for emoji, users in reactions.items() if users}}

    return message(view, event, change)


# Playback. `position` is the position in the track at the time `at`


def selected(view: View, event: Event, me: str) -> View:
    track = {"audio_id": event["audio_id"], "title": event["title"], "duration": event.get("duration")}
    return {"playback": {"track": track, "status": "stopped", "position": 0.0, "speed": 1.0, "at": event["at"]}}


def playing(view: View, event: Event, **changes: Any) -> View:
    return {"playback": view["playback"] and view["playback"] | changes | {"at": event["at"]}}


def played(view: View, event: Event, me: str) -> View:
    return playing(view, event, status="playing", position=event["position"], speed=event["speed"])


def paused(view: View, event: Event, me: str) -> View:
    return playing(view, event, status="paused", position=event["position"])


def sought(view: View, event: Event, me: str) -> View:
    status = view["playback"] and view["playback"]["status"]
    return playing(view, event, status="paused" if status == "stopped" else status, position=event["position"])


def speed_set(view: View, event: Event, me: str) -> View:
    return playing(view, event, position=event["position"], speed=event["speed"])


def stopped_playing(view: View, event: Event, me: str) -> View:
    return playing(view, event, status="stopped", position=0.0)


# Questions and polls


def asked(view: View, event: Event, me: str) -> View:
    """Add a question. Only moderators and the asker get the actor of an anonymous one; the asker's `mine` lists it."""
    anonymous = event.get("anonymous", False)
    user_id = actor(view, event) if moderates(view, me) or not anonymous else None
    question = {
        "question_id": event["question_id"],
        "user_id": user_id,
        "name": user_id and name_of(view, user_id),
        "text": event["text"],
        "at": event["at"],
        "status": "hidden" if event.get("hidden") else "open",
        "anonymous": anonymous,
        "answer": None,
        "answered_by": None,
        "upvotes": 0,
    }
    after: View = {"questions": [*view["questions"], question]}
    if event["actor"] == me:
        after["mine"] = view["mine"] | {"asked": [*view["mine"]["asked"], event["question_id"]]}
    return after


def question(view: View, event: Event, change: Callable[[View], View]) -> View:
    changed = event["question_id"]
    return {"questions": [one | change(one) if one["question_id"] == changed else one for one in view["questions"]]}


def approved(view: View, event: Event, me: str) -> View:
    question_id = event["question_id"]
    if any(one["question_id"] == question_id for one in view["questions"]):
        return question(view, event, lambda one: {"status": "open"})
    new = {
        "question_id": question_id,
        "user_id": event.get("user_id"),
        "name": event.get("name"),
        "text": event["text"],
        "at": event["asked_at"],
        "status": "open",
        "anonymous": "user_id" not in event,
        "answer": None,
        "answered_by": None,
        "upvotes": 0,
    }
    return {"questions": sorted([*view["questions"], new], key=lambda one: one["question_id"])}


def upvoted(view: View, event: Event, me: str) -> View:
    question_id, removed = event["question_id"], event.get("removed", False)
    after = question(view, event, lambda one: {"upvotes": one["upvotes"] + (-1 if removed else 1)})
    if event["actor"] == me:
        others = [one for one in view["mine"]["upvoted"] if one != question_id]
        after["mine"] = view["mine"] | {"upvoted": others if removed else sorted([*others, question_id])}
    return after


def answered(view: View, event: Event, me: str) -> View:
    answer = {"status": "answered", "answer": event.get("text"), "answered_by": event["actor"]}
    return question(view, event, lambda one: answer)


def dismissed(view: View, event: Event, me: str) -> View:
    return {"questions": [one for one in view["questions"] if one["question_id"] != event["question_id"]]}


def poll_opened(view: View, event: Event, me: str) -> View:
    anonymous = event.get("anonymous", False)
    new = {
        "poll_id": event["poll_id"],
        "user_id": actor(view, event),
        "question": event["question"],
        "options": event["options"],
        "at": event["at"],
        "multiple": event.get("multiple", False),
        "anonymous": anonymous,
        "open": True,
        "voted": 0,
        "counts": [0 for _ in event["options"]],
        "voters": None if anonymous else {},
    }
    return {"polls": [*view["polls"], new]}


def poll(view: View, event: Event, change: Callable[[View], View]) -> View:
    changed = event["poll_id"]
    return {"polls": [one | change(one) if one["poll_id"] == changed else one for one in view["polls"]]}


def voted(view: View, event: Event, me: str) -> View:
    """Count a vote. Only the voter gets the actor of an anonymous one; the voter's `mine` records the vote."""

    def change(one: View) -> View:
        return {
            "voted": one["voted"] + 1,
            "counts": [count + (option in event["options"]) for option, count in enumerate(one["counts"])],
            "voters": None if one["anonymous"] else one["voters"] | {event["actor"]: event["options"]},
        }

    after = poll(view, event, change)
    if event["actor"] == me:
        votes = view["mine"]["votes"] | {str(event["poll_id"]): event["options"]}
        after["mine"] = view["mine"] | {"votes": votes}
    return after


def poll_closed(view: View, event: Event, me: str) -> View:
    return poll(view, event, lambda one: {"open": False})


# Code, board and recording


def code_edited(view: View, event: Event, me: str) -> View:
    text = list(view["code"]["text"])
    for change in event.get("changes") or ():
        text[change["at"] : change["at"] + change["delete"]] = change["insert"]
    whole = event.get("text", "".join(text))
    return {"code": view["code"] | {"version": event["version"], "text": whole}}


def language_changed(view: View, event: Event, me: str) -> View:
    return {"code": view["code"] | {"language": event["language"]}}


def board(view: View, **changes: Any) -> View:
    return {"board": view["board"] | changes | {"version": view["board"]["version"] + 1}}


def drawn(view: View, event: Event, me: str) -> View:
    stroke = {name: event[name] for name in ("stroke_id", "tool", "points", "color", "width")}
    stroke |= {"user_id": actor(view, event), "text": event.get("text")}
    return board(view, strokes=[*view["board"]["strokes"], stroke])


def erased(view: View, event: Event, me: str) -> View:
    return board(view, strokes=[one for one in view["board"]["strokes"] if one["stroke_id"] not in event["stroke_ids"]])


def cleared(view: View, event: Event, me: str) -> View:
    return board(view, strokes=[], cleared=view["board"]["strokes"])


def restored(view: View, event: Event, me: str) -> View:
    return board(view, strokes=view["board"]["cleared"], cleared=[])


def recording_started(view: View, event: Event, me: str) -> View:
    recording = {"recording_id": event["recording_id"], "user_id": actor(view, event), "started_at": event["at"]}
    return {"recording": recording}


def recording_stopped(view: View, event: Event, me: str) -> View:
    return {"recording": None}


def nothing(view: View, event: Event, me: str) -> View:
    return {}


FOLDS: dict[str, Fold] = {
    "session_created": nothing,
    "session_started": started,
    "session_ended": ended,
    "session_cancelled": ended,
    "session_updated": updated,
    "session_locked": locked,
    "session_unlocked": locked,
    "session_deleted": deleted,
    "participant_invited": invited,
    "participant_waiting": waiting,
    "participant_joined": joined,
    "participant_denied": departed("denied"),
    "participant_left": departed("left"),
    "participant_kicked": departed("kicked"),
    "participant_online": online,
    "participant_offline": online,
    "connections_lost": connections_lost,
    "role_changed": rights_changed,
    "permissions_changed": rights_changed,
    "participant_muted": muted,
    "participant_unmuted": unmuted,
    "all_muted": muted,
    "unmute_requested": nothing,
    "hand_raised": hand_raised,
    "hand_lowered": hands_lowered,
    "hands_lowered": hands_lowered,
    "hand_called": hands_lowered,
    "chat_message": chat_message,
    "message_deleted": message_deleted,
    "message_reacted": message_reacted,
    "media_changed": media_changed,
    "audio_selected": selected,
    "audio_play": played,
    "audio_pause": paused,
    "audio_seek": sought,
    "audio_speed": speed_set,
    "audio_stop": stopped_playing,
    "audio_ended": stopped_playing,
    "question_asked": asked,
    "question_approved": approved,
    "question_upvoted": upvoted,
    "question_answered": answered,
    "question_dismissed": dismissed,
    "poll_opened": poll_opened,
    "poll_voted": voted,
    "poll_closed": poll_closed,
    "code_edited": code_edited,
    "code_merged": nothing,
    "code_compacted": nothing,
    "language_changed": language_changed,
    "board_drawn": drawn,
    "board_erased": erased,
    "board_cleared": cleared,
    "board_restored": restored,
    "recording_started": recording_started,
    "recording_stopped": recording_stopped,
    "recording_updated": nothing,
    "event_logged": nothing,
    "audio_uploaded": nothing,
    "signal": nothing,
    "cursor": nothing,
    "typing": nothing,
}
"""The function for every type of frame, except `snapshot` and frames about the stream (`resumed`, `reset`, `bye`)."""
