"""Uploads of audio: a form's file is streamed into the blob store, examined on the way, and added to the library.

**Law:** a file is never held in memory as a whole. A refused or interrupted upload leaves no blob; if the deletion of a
blob fails, it is tried again later.
"""

import asyncio
import contextlib
import hashlib
import io
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Annotated, BinaryIO, cast

import msgspec
from msgspec import Meta, Struct

from actors.session.access import Ask
from actors.session.ids import SessionId, Title, UserId
from server.http.multipart import OVERHEAD_BYTES, Form, Part
from server.http.problems import Problem, blob_store_unavailable, too_fast
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.security.principal import Principal
from server.security.rate_limit import Rate
from server.security.upload_slots import UploadSlots
from server.settings.sections import Settings
from server.usecases.audio import probe
from server.usecases.call import Call
from server.usecases.session_access import SessionParts, require_membership
from storage.audio import Audio, Library, OverQuota
from storage.blobs import Blobs, BlobsUnavailable
from storage.errors import StorageError
from storage.sessions import UUID

logger = logging.getLogger(__name__)

FIELD_BYTES = 4 * 500
LATE_S = 3_600
"""The time beyond the slowest allowed upload after which a blob without an owner is deleted."""
SWEEP_S = 60.0
SWEPT_AT_ONCE = 100
UNTITLED = "Untitled"

Id = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description="an id, a UUID")]


@dataclass(frozen=True, kw_only=True)
class UploadParts(SessionParts):
    """Uploads of audio."""

    settings: Settings
    audio: Library
    blobs: Blobs
    uploads: UploadSlots
    commands: Rate
    """Limits uploads and commands per user."""


class AudioForm(Struct, frozen=True, kw_only=True):
    """The fields of an upload, in any order. The default title comes from the file's tags, or else from its name."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    title: Title | None = None
    session_id: Id | None = None


class Allowance(Struct, frozen=True):
    """The most bytes that an upload may have, and the refusal of a larger one."""

    bytes: int
    refusal: Problem

    def check(self, size: int) -> None:
        """Raise Problem 413 if `size` is too large."""
        if size > self.bytes:
            raise self.refusal


class PendingUpload:
    """An upload that is not in the library yet."""

    def __init__(self, allowance: Allowance) -> None:
        self.audio_id = new_id()
        self.blob_key = f"audio/{self.audio_id}"
        self.kind: str | None = None
        self.size = 0
        self.hash = hashlib.sha256()
        self.filename = ""
        self.facts = probe.AudioInfo()
        self._allowance = allowance

    async def checked(self, part: Part) -> AsyncIterator[bytes]:
        """Yield the chunks of a file while it is neither too large nor of an unknown type. Raise Problem 413, 415."""
        head = b""
        async for chunk in part.chunks():
            self.size += len(chunk)
            self._allowance.check(self.size)
            self.hash.update(chunk)
            if self.kind is not None:
                yield chunk
                continue
            head += chunk
            if len(head) >= probe.HEAD_BYTES:
                self.kind = kind_of(head)
                yield head
        if self.kind is None:
            self.kind = kind_of(head)
            yield head


def kind_of(head: bytes) -> str:
    """Return the type of a file that begins with `head`. Raise Problem 415 for an unknown one."""
    kind = probe.kind_of(head)
    if kind is None:
        raise unsupported("The file's content is none of: mp3, wav, m4a, ogg, webm, flac.")
    return kind


def unsupported(detail: str) -> Problem:
    """Return a Problem 415."""
    return Problem(415, "unsupported_type", detail, field="file")


class Fields(Struct, frozen=True):
    """The fields of a form besides its file. Each function checks a field's text and returns the value to keep.

    `strict`: refuse other fields instead of ignoring them."""

    known: Mapping[str, Callable[[Call, str], Awaitable[str]]]
    required: Collection[str] = ()
    strict: bool = False


@refuses(
    invalid=422,
    kicked=403,
    not_joined=403,
    quota=413,
    too_large=413,
    too_many_uploads=429,
    unknown_session=404,
    unsupported_type=415,
)
async def upload(parts: UploadParts, call: Call, form: Form) -> Audio:
    """Add a file to the caller's library. Raise Problem 403, 404, 408, 413, 415, 422, 429, 503."""
    fields = Fields({"title": titled, "session_id": partial(session_of, parts)}, strict=True)
    audio, _ = await store_upload(parts, call, form, fields)
    return audio


async def store_upload(parts: UploadParts, call: Call, form: Form, wanted: Fields) -> tuple[Audio, Mapping[str, str]]:
    """Store a file in the caller's library; return it and the form's other fields.

    Raise Problem 408, 413, 415, 422, 429, 503, and what the functions of `wanted` raise."""
    principal = call.principal
    if wait := parts.commands.take(principal.user_id):
        raise too_fast(f"At most {parts.settings.limits.user_commands_per_s} commands a second.", wait)
    with parts.uploads.hold(principal.user_id):
        allowance = await allowance_of(parts, principal.user_id)
        allowance.check((form.length or 0) - OVERHEAD_BYTES)
        draft = PendingUpload(allowance)
        try:
            fields = await received(parts, call, form, draft, wanted)
        except BaseException:
            # BaseException: a client that disconnects cancels this task.
            await discard(parts.audio, parts.blobs, draft.blob_key)
            raise
        try:
            return await added(parts, principal, draft, fields), fields
        except Problem:
            # Only after a Problem: after any other error the audio may have been added nevertheless.
            await discard(parts.audio, parts.blobs, draft.blob_key)
            raise


async def allowance_of(parts: UploadParts, user_id: UserId) -> Allowance:
    """Return how much a user may upload now: the limit per file, or the rest of their quota."""
    limits = parts.settings.audio
    left = limits.quota_bytes - await parts.audio.used(user_id)
    if left < limits.max_bytes:
        return Allowance(max(left, 0), over_quota(limits.quota_bytes))
    most = limits.max_bytes
    return Allowance(most, Problem(413, "too_large", f"The file is larger than {most} bytes.", field="file"))


def over_quota(quota_bytes: int) -> Problem:
    """Return a Problem 413 for a quota that is used up."""
    detail = f"Your pieces together may take {quota_bytes} bytes; delete some first."
    return Problem(413, "quota", detail, field="file")


async def received(parts: UploadParts, call: Call, form: Form, draft: PendingUpload, wanted: Fields) -> dict[str, str]:
    """Read a form: store its file, and return its other fields. Raise Problem 413, 415, 422, 503."""
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
            await stored(parts, part, draft)
        else:
            fields[name] = await wanted.known[name](call, await part.text(FIELD_BYTES))
    for name in ("file", *wanted.required):
        if name not in seen:
            raise Problem(422, "invalid", f"The field `{name}` is required.", field=name)
    return fields


async def stored(parts: UploadParts, part: Part, draft: PendingUpload) -> None:
    """Stream a file into the blob store, and measure it. Raise Problem 413, 415, 503."""
    limits = parts.settings.audio
    slowest_s = parts.settings.limits.body_timeout_s + limits.max_bytes / limits.min_bytes_per_s
    await parts.audio.announce(draft.blob_key, slowest_s + LATE_S)
    draft.filename = part.filename or ""
    try:
        await parts.blobs.put(draft.blob_key, draft.checked(part))
    except BlobsUnavailable as error:
        raise blob_store_unavailable(error) from error
    try:
        draft.facts = await asyncio.to_thread(measured, parts.blobs, draft)
    except probe.NotSound as error:
        raise unsupported(f"The file begins like {draft.kind}, but cannot be read as that.") from error
    except OSError as error:
        raise blob_store_unavailable(error) from error


def measured(blobs: Blobs, draft: PendingUpload) -> probe.AudioInfo:
    """Return what the content of a stored file reveals. Raise NotSound, OSError."""
    assert draft.kind is not None
    with io.BufferedReader(blobs.open(draft.blob_key, draft.size), probe.BUFFER_BYTES) as file:
        return probe.measured(draft.kind, cast(BinaryIO, file))


async def titled(call: Call, text: str) -> str:
    """Return a title. Raise Problem 422 if it is empty or too long."""
    try:
        return msgspec.convert(text, Title)
    except msgspec.ValidationError as error:
        detail = "`title` must have 1 to 500 characters, and not only spaces."
        raise Problem(422, "invalid", detail, field="title") from error


async def session_of(parts: UploadParts, call: Call, text: str) -> str:
    """Return a session's id if the caller may read its card, so that audio can be filed there. Raise Problem 403, 404,
    422."""
    if not UUID.fullmatch(text):
        raise Problem(422, "invalid", "`session_id` must be a session's id.", field="session_id")
    try:
        await require_membership(parts, Ask.CARD, SessionId(text), call.principal, text)
    except Problem as problem:
        problem.field = "session_id"
        raise
    return text


async def added(parts: UploadParts, principal: Principal, draft: PendingUpload, fields: dict[str, str]) -> Audio:
    """Add a stored blob to the library. Raise Problem 413 over the quota, 503 if the upload took too long."""
    quota_bytes = parts.settings.audio.quota_bytes
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
        made = await parts.audio.add(audio, quota_bytes)
    except OverQuota as error:
        raise over_quota(quota_bytes) from error
    if made is None:
        raise Problem(503, "unavailable", "The upload took too long; try again.", retry_s=1)
    return made


def stem(filename: str) -> str:
    """Return a title made from a file's name, of any operating system."""
    return probe.clean(PurePath(re.split(r"[/\\]", filename)[-1]).stem)


async def discard(library: Library, blobs: Blobs, blob_key: str) -> None:
    """Delete a blob that has no owner. If that fails, it is deleted later."""
    try:
        await blobs.delete(blob_key)
        await library.deleted(blob_key)
    except StorageError as error:
        logger.warning("blob %s is deleted later: %s", blob_key, error)
        with contextlib.suppress(StorageError):
            await library.postpone(blob_key)


async def sweeping(library: Library, blobs: Blobs) -> None:
    """Delete blobs without an owner every `SWEEP_S`, for ever. They are left by crashes and by failed deletions."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await sweep(library, blobs)
        except StorageError as error:
            logger.warning("sweeping later: %s", error)


async def sweep(library: Library, blobs: Blobs) -> None:
    """Delete up to `SWEPT_AT_ONCE` blobs without an owner. Raise StorageError."""
    for blob_key in await library.loose(SWEPT_AT_ONCE):
        await discard(library, blobs, blob_key)
