"""The audio library: uploads into the blob store, lists, content, signed URLs; and a session's playback history.

**Law:** content is never whole in memory; a refused or broken upload leaves no blob, and one whose deletion fails is
not forgotten; content goes to its owner, and to those whom a session has shown it.
"""

import asyncio
import contextlib
import hashlib
import io
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import PurePath
from typing import Annotated, BinaryIO, cast

import msgspec
from msgspec import Meta, Struct

from actors.session.ids import Millis, SessionId, Title, UserId
from server import sounds
from server.auth import Principal, new_id
from server.clock import now_millis
from server.errors import Problem, away, too_fast, unauthenticated
from server.forms import OVERHEAD_BYTES, Form, Part
from server.lists import PAGE, Cursor, Listed, listed
from server.routes import Call, Content
from server.services import Services
from storage.audio import Audio, Library, OverQuota
from storage.blobs import Blobs, BlobsUnavailable
from storage.errors import StorageError
from storage.sessions import UUID

logger = logging.getLogger(__name__)

FIELD_BYTES = 4 * 500
LATE_S = 3_600
"""What an upload may take beyond its own slowest pace, before its blob counts as left behind."""
SWEEP_S = 60.0
SWEPT_AT_ONCE = 100
UNTITLED = "Untitled"

Id = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description="an id, a UUID")]


class AudioForm(Struct, frozen=True, kw_only=True):
    """The fields of an upload, in any order. Without a title, the tags' or the file's name is taken."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    title: Title | None = None
    session_id: Id | None = None


class AudioQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    session_id: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: Cursor | None = None


class ContentQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signed URL's own credential; without it, send a bearer token."""

    user: Id | None = None
    login: Annotated[str, Meta(max_length=64)] | None = None
    session: Id | None = None
    expires: int | None = None
    signature: Annotated[str, Meta(max_length=128)] | None = None


class HistoryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Cursor | None = None


class SignedUrl(Struct, frozen=True):
    url: str
    expires_at: Millis


# Uploading


class Room(Struct, frozen=True):
    """How much an upload may bring, and why no more."""

    bytes: int
    refusal: Problem

    def check(self, size: int) -> None:
        """Raises: Problem 413."""
        if size > self.bytes:
            raise self.refusal


class Draft:
    """An upload on its way to becoming a piece."""

    def __init__(self, room: Room) -> None:
        self.audio_id = new_id()
        self.blob_key = f"audio/{self.audio_id}"
        self.kind: str | None = None
        self.size = 0
        self.hash = hashlib.sha256()
        self.filename = ""
        self.facts = sounds.Facts()
        self._room = room

    async def checked(self, part: Part) -> AsyncIterator[bytes]:
        """Pass a file on, as long as it is not too large, once its first bytes say what it is. Raises: Problem."""
        head = b""
        async for chunk in part.chunks():
            self.size += len(chunk)
            self._room.check(self.size)
            self.hash.update(chunk)
            if self.kind is not None:
                yield chunk
                continue
            head += chunk
            if len(head) >= sounds.HEAD_BYTES:
                self.kind = kind_of(head)
                yield head
        if self.kind is None:
            self.kind = kind_of(head)
            yield head


def kind_of(head: bytes) -> str:
    """Raises: Problem 415."""
    kind = sounds.kind_of(head)
    if kind is None:
        raise unsupported("The file's content is none of: mp3, wav, m4a, ogg, webm, flac.")
    return kind


def unsupported(detail: str) -> Problem:
    return Problem(415, "unsupported_type", detail, field="file")


class Fields(Struct, frozen=True):
    """What a form has besides its file: what checks each text, and makes of it what is kept. Raises: Problem.

    `strict`: anything else is a mistake, and not just left out."""

    known: Mapping[str, Callable[[Services, Call, str], Awaitable[str]]]
    required: Collection[str] = ()
    strict: bool = False


async def upload(services: Services, call: Call, form: Form) -> Audio:
    return (await taken(services, call, form, Fields({"title": titled, "session_id": session_of}, strict=True)))[0]


async def taken(services: Services, call: Call, form: Form, wanted: Fields) -> tuple[Audio, Mapping[str, str]]:
    """Take a piece into the library; give it, and the form's other fields. Raises: Problem."""
    principal = call.principal
    if wait := services.commands.take(principal.user_id):
        raise too_fast(f"At most {services.settings.limits.user_commands_per_s} commands a second.", wait)
    with services.uploads.hold(principal.user_id):
        room = await room_for(services, principal.user_id)
        room.check((form.length or 0) - OVERHEAD_BYTES)
        draft = Draft(room)
        try:
            fields = await received(services, call, form, draft, wanted)
        except BaseException:
            # Also when the client has gone, which cancels this.
            await discard(services.audio, services.blobs, draft.blob_key)
            raise
        try:
            return await added(services, principal, draft, fields), fields
        except Problem:
            # Only then: after anything else the piece may have been added all the same.
            await discard(services.audio, services.blobs, draft.blob_key)
            raise


async def room_for(services: Services, user_id: UserId) -> Room:
    limits = services.settings.audio
    left = limits.quota_bytes - await services.audio.used(user_id)
    if left < limits.max_bytes:
        return Room(max(left, 0), over_quota(limits.quota_bytes))
    most = limits.max_bytes
    return Room(most, Problem(413, "too_large", f"The file is larger than {most} bytes.", field="file"))


def over_quota(quota_bytes: int) -> Problem:
    detail = f"Your pieces together may take {quota_bytes} bytes; delete some first."
    return Problem(413, "quota", detail, field="file")


async def received(services: Services, call: Call, form: Form, draft: Draft, wanted: Fields) -> dict[str, str]:
    """Read a form, its file into the blob store; give its other fields. Raises: Problem."""
    fields: dict[str, str] = {}
    seen: set[str] = set()
    async for part in form.parts():
        name = part.name
        if name in seen:
            raise Problem(422, "invalid", f"There is more than one `{name}`.", field=name)
        if name != "file" and name not in wanted.known:
            if not wanted.strict:
                continue
            detail = f"There is no field `{name[:64]}`; it takes {', '.join(['file', *wanted.known])}."
            raise Problem(422, "invalid", detail, field=name[:64])
        seen.add(name)
        if name == "file":
            await stored(services, part, draft)
        else:
            fields[name] = await wanted.known[name](services, call, await part.text(FIELD_BYTES))
    for name in ("file", *wanted.required):
        if name not in seen:
            raise Problem(422, "invalid", f"The field `{name}` is required.", field=name)
    return fields


async def stored(services: Services, part: Part, draft: Draft) -> None:
    """Stream a file into the blob store, and measure it. Raises: Problem."""
    limits = services.settings.audio
    slowest_s = services.settings.limits.body_timeout_s + limits.max_bytes / limits.min_bytes_per_s
    await services.audio.announce(draft.blob_key, slowest_s + LATE_S)
    draft.filename = part.filename or ""
    try:
        await services.blobs.put(draft.blob_key, draft.checked(part))
    except BlobsUnavailable as error:
        raise away(error) from error
    try:
        draft.facts = await asyncio.to_thread(measured, services.blobs, draft)
    except sounds.NotSound as error:
        raise unsupported(f"The file begins like {draft.kind}, but cannot be read as that.") from error
    except OSError as error:
        raise away(error) from error


def measured(blobs: Blobs, draft: Draft) -> sounds.Facts:
    """Raises: NotSound, OSError."""
    assert draft.kind is not None
    with io.BufferedReader(blobs.open(draft.blob_key, draft.size), sounds.BUFFER_BYTES) as file:
        return sounds.measured(draft.kind, cast(BinaryIO, file))


async def titled(services: Services, call: Call, text: str) -> str:
    """Raises: Problem 422."""
    try:
        return msgspec.convert(text, Title)
    except msgspec.ValidationError as error:
        detail = "`title` must have 1 to 500 characters, and not only spaces."
        raise Problem(422, "invalid", detail, field="title") from error


async def session_of(services: Services, call: Call, text: str) -> str:
    """Check that a piece may be filed under a session: one that its owner has a part in. Raises: Problem."""
    if not UUID.fullmatch(text):
        raise Problem(422, "invalid", "`session_id` must be a session's id.", field="session_id")
    try:
        await services.visible(SessionId(text), call.principal, text)
    except Problem as problem:
        problem.field = "session_id"
        raise
    return text


async def added(services: Services, principal: Principal, draft: Draft, fields: dict[str, str]) -> Audio:
    """Give a stored blob its owner. Raises: Problem."""
    quota_bytes = services.settings.audio.quota_bytes
    assert draft.kind is not None
    audio = Audio(
        audio_id=draft.audio_id,
        owner_id=principal.user_id,
        session_id=SessionId(fields["session_id"]) if "session_id" in fields else None,
        title=fields.get("title") or draft.facts.tags.get("title") or stem(draft.filename) or UNTITLED,
        content_type=draft.kind,
        size_bytes=draft.size,
        duration_s=draft.facts.duration_s,
        tags=dict(draft.facts.tags),
        sha256=draft.hash.hexdigest(),
        blob_key=draft.blob_key,
        created_at=now_millis(),
    )
    try:
        made = await services.audio.add(audio, quota_bytes)
    except OverQuota as error:
        raise over_quota(quota_bytes) from error
    if made is None:
        raise Problem(503, "unavailable", "The upload took too long; try again.", retry_s=1)
    return made


def stem(filename: str) -> str:
    """Make a title of a file's name, whatever system it comes from."""
    return sounds.clean(PurePath(re.split(r"[/\\]", filename)[-1]).stem)


async def discard(library: Library, blobs: Blobs, blob_key: str) -> None:
    """Delete a blob that has no owner, now or later."""
    try:
        await blobs.delete(blob_key)
        await library.deleted(blob_key)
    except StorageError as error:
        logger.warning("blob %s is deleted later: %s", blob_key, error)
        with contextlib.suppress(StorageError):
            await library.postpone(blob_key)


async def sweeping(library: Library, blobs: Blobs) -> None:
    """Delete every so often what was left behind: by a crash, or by a store that was away."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await sweep(library, blobs)
        except StorageError as error:
            logger.warning("sweeping later: %s", error)


async def sweep(library: Library, blobs: Blobs) -> None:
    for blob_key in await library.loose(SWEPT_AT_ONCE):
        await discard(library, blobs, blob_key)


# Reading


async def page(services: Services, call: Call) -> Listed:
    query: AudioQuery = call.query
    found = await services.audio.page(
        call.principal.user_id,
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        session_id=None if query.session_id is None else SessionId(query.session_id),
    )
    return listed(found, query.limit, lambda one: one.number)


async def find(services: Services, call: Call) -> Audio:
    """Find the piece that the path names, for one who may read it. Raises: Problem 404."""
    principal = call.principal
    found = await readable(services, call.params["audio_id"], principal.user_id, principal.scope)
    # Where its owner has filed it is nobody else's business.
    return found if found.owner_id == principal.user_id else msgspec.structs.replace(found, session_id=None)


async def readable(services: Services, audio_id: str, user_id: UserId, scope: SessionId | None) -> Audio:
    """Raises: Problem 404, also for what is not for this user: whether it exists is not theirs to know."""
    found = await services.audio.find(audio_id, user_id, scope) if UUID.fullmatch(audio_id) else None
    if found is None:
        raise unknown_audio(audio_id)
    return found


def unknown_audio(audio_id: str) -> Problem:
    return Problem(404, "unknown_audio", f"There is no audio {audio_id!r}.", field="audio_id")


async def content(services: Services, call: Call) -> Content:
    """Find a piece's content for its reader, who is asked anew each time: a URL of someone kicked is over."""
    audio_id = call.params["audio_id"]
    audio = await readable(services, audio_id, *reader(services, call, audio_id))
    return Content(audio.blob_key, audio.size_bytes, audio.content_type, f'"{audio.sha256}"')


def reader(services: Services, call: Call, audio_id: str) -> tuple[UserId, SessionId | None]:
    """Name who reads, and their credential's scope: a signed URL says, or a bearer token. Raises: Problem 401, 403."""
    query: ContentQuery = call.query
    if query.user is None or query.login is None:
        if call.caller is None:
            raise unauthenticated("Send `Authorization: Bearer <access token>`, or use a signed URL.")
        return call.caller.user_id, call.caller.scope
    signed = resource(audio_id, query.user, query.login, query.session)
    services.audio_urls.verify(signed, query.expires, query.signature)
    if services.tokens.is_revoked(query.login):
        raise unauthenticated("This login is over; log in again.", "revoked")
    return UserId(query.user), None if query.session is None else SessionId(query.session)


def resource(audio_id: str, user: str, login: str, session: str | None) -> str:
    scope = "" if session is None else f"&session={session}"
    return f"/v1/audio/{audio_id}/content?user={user}&login={login}{scope}"


async def url(services: Services, call: Call) -> SignedUrl:
    """Sign a URL of a piece's content, for `<audio>` elements, which cannot set headers."""
    audio, principal, urls = await find(services, call), call.principal, services.audio_urls
    expires = urls.expiry()
    signed = urls.signed(resource(audio.audio_id, principal.user_id, principal.login, principal.scope), expires)
    return SignedUrl(call.origin + signed, Millis(expires * 1000))


async def remove(services: Services, call: Call) -> None:
    """Delete one's own piece. Voice messages that sent it stay, without a sound; what is on in a live session stays.

    Raises: Problem 404, 403, 409."""
    audio, user_id = await find(services, call), call.principal.user_id
    if audio.owner_id != user_id:
        raise Problem(403, "not_permitted", "Only its owner may delete a piece of audio.")
    if session_id := await services.audio.on_in(audio.audio_id):
        raise Problem(409, "in_use", f"It is on in the live session {session_id}; select another there first.")
    blob_key = await services.audio.remove(audio.audio_id, user_id)
    if blob_key is None:
        raise unknown_audio(audio.audio_id)
    await discard(services.audio, services.blobs, blob_key)


async def history(services: Services, call: Call) -> Listed:
    """Read what was played in a session, and when; for who is or was in it."""
    query, user_id = call.query, call.principal.user_id
    found = await services.visible(call.session_id, call.principal, call.params["ref"])
    if found.session.owner_id != user_id and not await services.audio.took_part(call.session_id, user_id):
        raise Problem(403, "not_joined", "Join the session first.")
    rows = await services.audio.history(call.session_id, after=int(query.cursor or 0), limit=query.limit + 1)
    return listed(rows, query.limit, lambda row: row.seq)
