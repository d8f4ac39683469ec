"""The audio library: lists, content, signed URLs, and a session's playback history. `upload.py` adds audio to it.

**Law:** content is served to its owner, and to users to whom a session has made it available.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, structs

from actors.session.ids import Millis, SessionId, UserId
from actors.session.visibility import event_in_log
from server.http.pagination import PAGE, Listed, PageCursor, listed
from server.http.problems import Problem, unauthenticated
from server.http.refusals import refuses
from server.security.signed_urls import UrlSigner
from server.security.tokens import Tokens
from server.usecases.audio.upload import Id, discard
from server.usecases.call import Call, Content
from server.usecases.session_access import SessionParts, require_current
from storage.audio import Audio, Library
from storage.blobs import Blobs
from storage.sessions import UUID


@dataclass(frozen=True, kw_only=True)
class LibraryParts(SessionParts):
    """Audio files, their content and signed URLs."""

    audio: Library
    blobs: Blobs
    tokens: Tokens
    audio_urls: UrlSigner


class AudioQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    session_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: PageCursor | None = None


class ContentQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The credential of a signed URL. Without it, send a bearer token."""

    user: Id | None = None
    login: Annotated[str, Meta(max_length=64)] | None = None
    session: Id | None = None
    expires: int | None = None
    signature: Annotated[str, Meta(max_length=128)] | None = None


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: PageCursor | None = None


class SignedUrl(Struct, frozen=True):
    """A signed URL of audio content."""

    url: str
    expires_at: Millis


async def page(parts: LibraryParts, call: Call[object, AudioQuery]) -> Listed:
    """Return a page of the caller's audio, newest first."""
    query = call.query
    found = await parts.audio.page(
        call.principal.user_id,
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        session_id=None if query.session_id is None else SessionId(query.session_id),
    )
    return listed(found, query.limit, lambda one: one.number)


@refuses(kicked=403, unknown_audio=404)
async def find(parts: LibraryParts, call: Call) -> Audio:
    """Return the audio that the path names. Raise Problem 403 to a caller removed from their session, 404."""
    principal = call.principal
    await require_current(parts, principal)
    found = await readable(parts, call.params["audio_id"], principal.user_id, principal.scope)
    # Other users do not learn in which session the owner has filed it.
    return found if found.owner_id == principal.user_id else msgspec.structs.replace(found, session_id=None)


async def readable(parts: LibraryParts, audio_id: str, user_id: UserId, scope: SessionId | None) -> Audio:
    """Return audio that a user may read. Raise Problem 404, also if it exists: other users do not learn that."""
    found = await parts.audio.find(audio_id, user_id, scope) if UUID.fullmatch(audio_id) else None
    if found is None:
        raise unknown_audio(audio_id)
    return found


def unknown_audio(audio_id: str) -> Problem:
    """Return a Problem 404 for audio."""
    return Problem(404, "unknown_audio", f"There is no audio {audio_id!r}.", field="audio_id")


@refuses(bad_signature=403, expired=403, kicked=403, revoked=401, unauthenticated=401, unknown_audio=404)
async def content(parts: LibraryParts, call: Call) -> Content:
    """Return the content of audio. Each request is checked again, so a removed participant's URLs stop working.

    Raise Problem 401, 403, 404."""
    audio_id = call.params["audio_id"]
    if call.caller is not None:
        await require_current(parts, call.caller)
    audio = await readable(parts, audio_id, *reader(parts, call, audio_id))
    return Content(audio.blob_key, audio.size_bytes, audio.content_type, f'"{audio.sha256}"')


def reader(parts: LibraryParts, call: Call[object, ContentQuery], audio_id: str) -> tuple[UserId, SessionId | None]:
    """Return the reader and the scope of their credential, from a signed URL or a bearer token. Raise Problem 401,
    403."""
    query = call.query
    if query.user is None or query.login is None:
        if call.caller is None:
            raise unauthenticated("Send `Authorization: Bearer <access token>`, or use a signed URL.")
        return call.caller.user_id, call.caller.scope
    signed = resource(audio_id, query.user, query.login, query.session)
    parts.audio_urls.verify(signed, query.expires, query.signature)
    if parts.tokens.is_revoked(query.login):
        raise unauthenticated("This login has ended. Log in again.", "revoked")
    return UserId(query.user), None if query.session is None else SessionId(query.session)


def resource(audio_id: str, user: str, login: str, session: str | None) -> str:
    """Return the path of audio content, which a signed URL signs."""
    scope = "" if session is None else f"&session={session}"
    return f"/v1/audio/{audio_id}/content?user={user}&login={login}{scope}"


@refuses(kicked=403, unknown_audio=404)
async def url(parts: LibraryParts, call: Call) -> SignedUrl:
    """Return a signed URL of audio content, for `<audio>` elements, which cannot set headers. Raise Problem 403,
    404."""
    audio, principal, urls = await find(parts, call), call.principal, parts.audio_urls
    expires = urls.expiry()
    signed = urls.signed(resource(audio.audio_id, principal.user_id, principal.login, principal.scope), expires)
    return SignedUrl(call.origin + signed, Millis(expires * 1000))


@refuses(in_use=409, kicked=403, not_permitted=403, unknown_audio=404)
async def remove(parts: LibraryParts, call: Call) -> None:
    """Delete the caller's own audio. Voice messages that contain it stay, without sound.

    Raise Problem 403 to other users, 404, 409 while a live session plays it."""
    audio, user_id = await find(parts, call), call.principal.user_id
    if audio.owner_id != user_id:
        raise Problem(403, "not_permitted", "Only its owner may delete a piece of audio.")
    if session_id := await parts.audio.playing_in(audio.audio_id):
        raise Problem(409, "in_use", f"It is on in the live session {session_id}; select another there first.")
    blob_key = await parts.audio.remove(audio.audio_id, user_id)
    if blob_key is None:
        raise unknown_audio(audio.audio_id)
    await discard(parts.audio, parts.blobs, blob_key)


async def history(parts: LibraryParts, call: Call) -> Listed:
    """Return what was played in a session, and when."""
    query = call.query
    rows = await parts.audio.history(call.session_id, after=int(query.cursor or 0), limit=query.limit + 1)
    page = listed(rows, query.limit, lambda row: row.seq)
    return structs.replace(page, items=[event_in_log(row, call.principal.user_id) for row in page.items])
