"""The audio library and the clock in `/v1`: their rows, and the shapes of their answers."""

from msgspec import Struct

from server.api.routes import ActionRoute, ContentRoute, UploadRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import clock
from server.usecases.audio import library as do
from server.usecases.audio import upload
from server.usecases.call import Call
from server.v1.views import Page, encode
from storage.audio import Audio


class AudioView(Struct, frozen=True, kw_only=True):
    """An audio track. `duration` is in seconds, null if the file does not state it. `session_id` is visible to the
    track's owner only."""

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
    """A page of tracks. `next` is the cursor of the page after it, null on the last."""

    items: list[AudioView]
    next: str | None


class SignedUrlView(Struct, frozen=True):
    """A URL that needs no credential until `expires_at`."""

    url: str
    expires_at: str


class TimeView(Struct, frozen=True):
    """`t0` is the value that the client sent; `t1` is when the request arrived and `t2` when this answer was made, in
    milliseconds since 1970."""

    server_time: str
    t0: float | None
    t1: float
    t2: float


def audio_view(audio: Audio) -> AudioView:
    """Return the view of a track."""
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


def uploaded(audio: Audio, call: Call) -> Reply:
    """Return the answer to an upload, with the new track's `Location`."""
    return Reply(201, encode(audio_view(audio)), {"Location": f"/v1/audio/{audio.audio_id}"})


def one_track(audio: Audio, call: Call) -> AudioView:
    """Return one track."""
    return audio_view(audio)


def audio_page(listed: Listed, call: Call) -> Page:
    """Return a page of tracks."""
    return Page([audio_view(audio) for audio in listed.items], listed.next)


def signed_url(signed: do.SignedUrl, call: Call) -> Reply:
    """Return a signed URL. It is a credential, so that no cache may store the answer."""
    return Reply(200, encode(SignedUrlView(signed.url, rfc3339(signed.expires_at))), {"Cache-Control": "no-store"})


def time(reading: clock.Reading, call: Call) -> Reply:
    """Return the server's time. `t2` is read here, as late as possible."""
    t2 = clock.now_ms()
    view = TimeView(rfc3339(clock.millis(t2)), reading.t0, reading.t1, t2)
    return Reply(200, encode(view), {"Cache-Control": "no-store"})


ROWS = (
    ActionRoute(
        path="/time", summary="Read the server's clock, to compute the client's offset", public=True,
        query=clock.ClockQuery, act=clock.clock, view=time, answer=TimeView,
    ),
    UploadRoute(
        path="/audio", summary="Upload an audio track: mp3, wav, m4a, ogg, webm or flac", form=upload.AudioForm,
        act=upload.upload, view=uploaded, status=201, answer=AudioView,
    ),
    ActionRoute(
        path="/audio", summary="List your own tracks, newest first", query=do.AudioQuery, act=do.page, view=audio_page,
        answer=AudioPage,
    ),
    ActionRoute(
        path="/audio/{audio_id}", summary="Read a track's details: your own track, or one played in your session",
        act=do.find, view=one_track, answer=AudioView, scoped=True,
    ),
    ContentRoute(
        path="/audio/{audio_id}/content", summary="Read a track's bytes, all or a range; by token or signed URL",
        public=True, scoped=True, query=do.ContentQuery, act=do.content,
    ),
    ActionRoute(
        path="/audio/{audio_id}/url", summary="Get a signed URL for a track's bytes that needs no header",
        act=do.url, view=signed_url, answer=SignedUrlView, scoped=True,
    ),
    ActionRoute(
        method="DELETE", path="/audio/{audio_id}", act=do.remove, status=204,
        summary="Delete your own track, unless it is selected in a live session",
    ),
)  # fmt: skip
