"""Audio by number, and uploads that a session logs or sends: for dialects with numbers instead of ids.

**Law:** an upload that its session refuses leaves nothing in the library.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from actors.session import commands as c
from actors.session.access import CLOSED, Ask
from actors.session.aspects import lifecycle
from actors.session.ids import SessionId, Title
from actors.session.state import Kind, Track
from server.http.multipart import Form
from server.http.problems import Problem, problem_of
from server.http.refusals import refuses
from server.usecases.audio import library, upload
from server.usecases.audio.library import LibraryParts
from server.usecases.audio.upload import UploadParts
from server.usecases.call import Call, Content
from server.usecases.session_access import require_current, require_membership
from server.usecases.session_commands import CommandParts, See, asked, seen
from server.usecases.session_lookup import SessionLookup
from storage.audio import Audio

Piece = Audio
MOST = (1 << 31) - 1
Number = Annotated[int, Meta(ge=1, le=MOST)]


@dataclass(frozen=True, kw_only=True)
class NumberedAudioParts(LibraryParts, UploadParts, CommandParts):
    """Audio by number, and uploads that are sent to sessions."""

    session_lookup: SessionLookup


# Any: each API has its own answer.
Take = Callable[[NumberedAudioParts, Call, Form], Awaitable[Any]]


class UploadForm(Struct, frozen=True, kw_only=True):
    """The fields of an upload, in any order. With `session_id`, a session of the caller, its log records the upload."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    title: Title
    session_id: Number | None = None


class VoiceForm(Struct, frozen=True, kw_only=True):
    """The fields of a voice note, in any order. The default title comes from the file's tags, or else from its name."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    title: Title | None = None


class ListQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


def numbered(of: Callable[[Call], int | None]) -> Callable[[NumberedAudioParts, Call], Awaitable[str | None]]:
    """Return a function that returns the id of the audio with the number in a call, or None without a number.

    The function raises Problem 404."""

    @refuses(unknown_audio=404)
    async def find(parts: NumberedAudioParts, call: Call) -> str | None:
        number = of(call)
        return None if number is None else await audio_id(parts, number)

    return find


async def audio_id(parts: NumberedAudioParts, number: int) -> str:
    """Return the id of audio with this number. Raise Problem 404."""
    found = await parts.audio.id_by_number(number) if 0 < number <= MOST else None
    if found is None:
        raise library.unknown_audio(str(number))
    return found


@refuses(kicked=403, unknown_audio=404)
async def content(parts: NumberedAudioParts, call: Call) -> Content:
    """Return the content of the audio that the path names. Raise Problem 403 to a removed participant, 404."""
    text, principal = call.params["audio_id"], call.principal
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise library.unknown_audio(text)
    await require_current(parts, principal)
    found = await library.readable(parts, await audio_id(parts, int(text)), principal.user_id, principal.scope)
    return Content(found.blob_key, found.size_bytes, found.content_type, f'"{found.sha256}"')


@refuses(kicked=403, unknown_audio=404)
async def whole(parts: NumberedAudioParts, call: Call) -> Content:
    """Return content that is displayed inline and ignores Range. Raise Problem 403, 404."""
    return structs.replace(await content(parts, call), whole=True, headers={"Content-Disposition": "inline"})


async def mine(parts: NumberedAudioParts, call: Call) -> list[Audio]:
    """Return the caller's own audio, newest first."""
    return await parts.audio.page(call.principal.user_id, before=None, limit=call.query.limit)


def filing(kind: Kind, dialect: str) -> Take:
    """Return a function that stores an upload and, if a field names a session of the caller, logs it there.

    The function raises Problem 403, 404, 410, 413, 415, 422, 429."""

    async def session_of(parts: NumberedAudioParts, call: Call, text: str) -> str:
        try:
            session_id = await parts.session_lookup.within(kind, dialect, "number", text)
            found = await require_membership(parts, Ask.OWNERSHIP, session_id, call.principal, text)
        except Problem as problem:
            problem.field = "session_id"
            raise
        if found.session.status in CLOSED:
            raise problem_of(lifecycle.closed_rejection(found.session), text)
        return session_id

    @refuses(
        cancelled=410,
        ended=410,
        invalid=422,
        kicked=403,
        not_joined=403,
        not_owner=403,
        quota=413,
        somebody_else=403,
        too_large=413,
        too_many_uploads=429,
        unknown_session=404,
        unsupported_type=415,
    )
    async def take(parts: NumberedAudioParts, call: Call, form: Form) -> Audio:
        session_id = partial(session_of, parts)
        wanted = upload.Fields({"title": upload.titled, "session_id": session_id, "user_id": oneself}, ("title",))
        piece, fields = await upload.store_upload(parts, call, form, wanted)
        if "session_id" in fields:
            call = structs.replace(call, session_id=SessionId(fields["session_id"]))
            await told(parts, call, piece, lambda call: c.LogAudioUpload(track_of(piece)))
        return piece

    return take


def saying(see: See) -> Take:
    """Return a function that stores a voice note, sends it as a message and returns `see(state, call)`.

    The function raises Problem 403, 404, 413, 415, 422, 429."""

    @refuses(
        invalid=422,
        kicked=403,
        not_joined=403,
        quota=413,
        somebody_else=403,
        too_large=413,
        too_many_uploads=429,
        unknown_session=404,
        unsupported_type=415,
        waiting=403,
    )
    async def take(parts: NumberedAudioParts, call: Call, form: Form) -> Any:
        wanted = upload.Fields({"title": upload.titled, "user_id": oneself})
        piece, _ = await upload.store_upload(parts, call, form, wanted)
        call = await told(parts, call, piece, lambda call: c.SendVoice(piece.audio_id))
        return await seen(parts, call, see)

    return take


async def oneself(call: Call, text: str) -> str:
    """Return the number in a field. Raise Problem 403 if it is not the caller's."""
    if text != str(call.principal.number):
        raise Problem(403, "somebody_else", "`user_id` is not who the token says you are.", field="user_id")
    return text


def track_of(piece: Audio) -> Track:
    """Return audio as the session machine knows it."""
    return Track(piece.audio_id, piece.title, piece.duration_s, piece.number)


async def told(parts: NumberedAudioParts, call: Call, piece: Audio, ask: Callable[[Call], c.Command]) -> Call:
    """Run a command about new audio. Remove the audio if the command fails. Raise Problem."""
    try:
        return await asked(parts, call, ask, None)
    except Problem:
        if blob_key := await parts.audio.remove(piece.audio_id, call.principal.user_id):
            await upload.discard(parts.audio, parts.blobs, blob_key)
        raise
