"""The audio library and the clock in `/v1`: what they say, and their rows."""

from msgspec import Struct

from server.api.routes import ActionRoute, ContentRoute, UploadRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import clock
from server.usecases.audio import library as do
from server.usecases.audio import upload
from server.v1.views import Page, encode, nothing
from storage.audio import Audio


class AudioView(Struct, frozen=True, kw_only=True):
    """A piece. `duration` in seconds, null where the content does not say; `session_id` only its owner sees."""

    id: str
    number: int
    owner_id: str
    session_id: str | None
    title: str
    content_type: str
    size_bytes: int
    duration: float | None
    tags: dict[str, str]
    sha256: str
    created_at: str


class AudioPage(Struct, frozen=True):
    items: list[AudioView]
    next: str | None


class SignedUrlView(Struct, frozen=True):
    url: str
    expires_at: str


class TimeView(Struct, frozen=True):
    """`t0` as it was sent; `t1`: when the question came, `t2`: when this went out, in milliseconds since 1970."""

    server_time: str
    t0: float | None
    t1: float
    t2: float


def shown(audio: Audio) -> AudioView:
    return AudioView(
        id=audio.audio_id,
        number=audio.number,
        owner_id=audio.owner_id,
        session_id=audio.session_id,
        title=audio.title,
        content_type=audio.content_type,
        size_bytes=audio.size_bytes,
        duration=audio.duration_s,
        tags=audio.tags,
        sha256=audio.sha256,
        created_at=rfc3339(audio.created_at),
    )


def uploaded(audio: Audio) -> Reply:
    return Reply(201, encode(shown(audio)), {"Location": f"/v1/audio/{audio.audio_id}"})


def one(audio: Audio) -> Reply:
    return Reply(200, encode(shown(audio)))


def pieces(listed: Listed) -> Reply:
    return Reply(200, encode(Page([shown(audio) for audio in listed.items], listed.next)))


def signed(made: do.SignedUrl) -> Reply:
    return Reply(200, encode(SignedUrlView(made.url, rfc3339(made.expires_at))), {"Cache-Control": "no-store"})


def time(reading: clock.Reading) -> Reply:
    t2 = clock.now_ms()
    shown = TimeView(rfc3339(clock.millis(t2)), reading.t0, reading.t1, t2)
    return Reply(200, encode(shown), {"Cache-Control": "no-store"})


ROWS = (
    ActionRoute(
        path="/time", summary="Read the server's clock, to work one's own offset out", public=True,
        query=clock.ClockQuery, act=clock.clock, view=time, answer=TimeView,
    ),
    UploadRoute(
        path="/audio", summary="Upload a piece of audio: mp3, wav, m4a, ogg, webm or flac", form=upload.AudioForm,
        act=upload.upload, view=uploaded, status=201, answer=AudioView,
    ),
    ActionRoute(
        path="/audio", summary="List one's own pieces, newest first", query=do.AudioQuery, act=do.page, view=pieces,
        answer=AudioPage,
    ),
    ActionRoute(
        path="/audio/{audio_id}", summary="Read about a piece: one's own, or one that a session has shown one",
        act=do.find, view=one, answer=AudioView, scoped=True,
    ),
    ContentRoute(
        path="/audio/{audio_id}/content", summary="Read a piece, whole or a range of it; by token or signed URL",
        public=True, query=do.ContentQuery, act=do.content,
    ),
    ActionRoute(
        path="/audio/{audio_id}/url", summary="Get a signed URL of a piece's content that needs no header",
        act=do.url, view=signed, answer=SignedUrlView, scoped=True,
    ),
    ActionRoute(
        method="DELETE", path="/audio/{audio_id}", act=do.remove, view=nothing, status=204,
        summary="Delete one's own piece, unless it is on in a live session",
    ),
)  # fmt: skip
