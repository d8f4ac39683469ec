"""The type, duration and tags of audio, from its content. These functions block: call them in a thread.

**Law:** no size that the content states is trusted. Reads are bounded in bytes and in time.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import mutagen
from msgspec import Struct
from mutagen.flac import FLAC
from mutagen.mp3 import MP3, BitrateMode
from mutagen.mp4 import MP4
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from server.usecases.audio import mp3_frames, mp4_fragments, wav_chunks, webm_blocks
from server.usecases.audio.budgeted_file import BudgetedFile

HEAD_BYTES = 4_096
"""The number of bytes that `kind_of` needs, if the content is that long."""
CUT_OFF_S = 0.2
"""The most silence that encoders add to the beginning and the end of an MP3, and decoders cut off."""
BUFFER_BYTES = 256 << 10
TAG_LENGTH = 500

BRANDS = frozenset({
    b"M4A ", b"M4B ", b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"dash", b"3gp4", b"3gp5",
})  # fmt: skip
"""MPEG-4 brands of audio files. `measured` checks whether such a file has a sound track."""


class NotSound(Exception):
    """Raised for content that is not what its first bytes say."""


class AudioInfo(Struct, frozen=True):
    """The duration and the tags of audio. `duration_s` is None if the content does not state it."""

    duration_s: float | None = None
    tags: Mapping[str, str] = {}


def kind_of(head: bytes) -> str | None:
    """Return the content type that the first bytes show, or None if it is not an accepted one."""
    return next((kind for kind, (is_kind, _) in KINDS.items() if is_kind(head)), None)


def measured(kind: str, file: BinaryIO) -> AudioInfo:
    """Return the duration and the tags of content. Raise NotSound, and OSError if the file cannot be read."""
    frugal = BudgetedFile(file)
    try:
        return KINDS[kind][1](frugal)
    except Exception as error:
        # mutagen replaces an OSError by an error that blames the content.
        if frugal.error is not None:
            raise frugal.error from error
        if frugal.spent:
            return AudioInfo()
        raise NotSound(str(error)) from error


# Readers

TAGS: Mapping[str, tuple[str, ...]] = {
    "title": ("TIT2", "\xa9nam", "title"),
    "artist": ("TPE1", "\xa9ART", "artist"),
    "album": ("TALB", "\xa9alb", "album"),
    "genre": ("TCON", "\xa9gen", "genre"),
    "date": ("TDRC", "\xa9day", "date"),
}
"""The tags that are kept, with their names in ID3, MPEG-4 and Vorbis comments."""


# Any: mutagen has no types.
def by(*types: Callable[..., Any]) -> Callable[[BudgetedFile], AudioInfo]:
    """Return a function that reads a file with the first of mutagen's types that fits."""

    def read(file: BudgetedFile) -> AudioInfo:
        found = types[0](fileobj=file) if len(types) == 1 else mutagen.File(file, options=list(types))
        if found is None or not (found.info.length or getattr(found.info, "codec", True)):
            raise NotSound("no sound that is known")
        return AudioInfo(plausible(found.info.length), texts(found.tags))

    return read


def wav(file: BudgetedFile) -> AudioInfo:
    """Return the tags of a WAV file, and its duration from its chunks. Raise NotSound."""
    info = by(WAVE)(file)
    return AudioInfo(plausible(wav_chunks.duration(file)), info.tags)


def mp3(file: BudgetedFile) -> AudioInfo:
    """Return the tags of an MP3, and its duration from its frames. If its table of contents agrees, prefer that
    duration: it excludes the silence that decoders cut off."""
    content: Any = MP3(fileobj=file)  # type: ignore[no-untyped-call]
    duration = mp3_frames.duration(file)
    table = content.info.bitrate_mode is not BitrateMode.UNKNOWN
    if duration is not None and table and abs(duration - content.info.length) <= CUT_OFF_S:
        duration = content.info.length
    return AudioInfo(plausible(duration), texts(content.tags))


def mp4(file: BudgetedFile) -> AudioInfo:
    """Return the tags of an MP4, and its duration from its samples. The header of a fragmented file may state none, or
    only that of its first part. Raise NotSound."""
    info = by(MP4)(file)
    return AudioInfo(plausible(mp4_fragments.duration(file)) or info.duration_s, info.tags)


def webm(file: BudgetedFile) -> AudioInfo:
    """Return the duration of a WebM file. Its tags are not read."""
    return AudioInfo(plausible(webm_blocks.duration(file)))


def plausible(seconds: object) -> float | None:
    """Return a duration, or None for a value that is not one. Recorders that stream leave it at 0."""
    return seconds if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0 else None


# Any: mutagen has no types.
def texts(tags: Any) -> dict[str, str]:
    """Return the tags that are kept, by our names."""
    # Copy the items: Vorbis comments raise an error for a key that they cannot contain.
    known = dict(tags.items()) if tags else {}
    found = {}
    for name, keys in TAGS.items():
        value = next((known[key] for key in keys if key in known), None)
        if text := clean(first(value)):
            found[name] = text
    return found


# Any: mutagen has no types.
def first(value: Any) -> str:
    """Return the first text of a tag. Tags are lists; those of ID3 are frames that contain a list."""
    values = getattr(value, "text", value)
    return str(values[0]) if isinstance(values, list) and values else ""


def clean(text: str) -> str:
    """Return the text, shortened, without characters that cannot be stored or displayed."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:TAG_LENGTH])
    return printable.strip()


# Kinds by first bytes


def is_mp3(head: bytes) -> bool:
    """Return whether content begins with an ID3 tag or a frame."""
    return head.startswith(b"ID3") or mp3_frames.frame(head) is not None


KINDS: Mapping[str, tuple[Callable[[bytes], bool], Callable[[BudgetedFile], AudioInfo]]] = {
    "audio/wav": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE", wav),
    "audio/ogg": (lambda head: head[:4] == b"OggS", by(OggOpus, OggVorbis, OggFLAC, OggSpeex)),
    "audio/flac": (lambda head: head[:4] == b"fLaC", by(FLAC)),
    "audio/mp4": (lambda head: head[4:8] == b"ftyp" and head[8:12] in BRANDS, mp4),
    "audio/webm": (lambda head: head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head[:64], webm),
    "audio/mpeg": (is_mp3, mp3),
}
"""For each content type, the test of the first bytes and the reader."""
