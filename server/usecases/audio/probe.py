"""What a piece of audio is by its content, how long it plays, and what its tags say. Blocks: for threads.

**Law:** nothing here believes a size that content names: reading is bounded in bytes and in time.
"""

import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import mutagen
from msgspec import Struct
from mutagen.flac import FLAC
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

HEAD_BYTES = 4_096
"""What `kind_of` needs to see, where there is as much."""
READ_MOST = 16 << 20
"""Bytes read to measure one piece: enough for a cover in its tags."""
TIME_MOST_S = 10.0
BUFFER_BYTES = 256 << 10
TAG_LENGTH = 500

BRANDS = frozenset({
    b"M4A ", b"M4B ", b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"dash", b"3gp4", b"3gp5",
})  # fmt: skip
"""MPEG-4 brands that pieces of audio come under; whether there is a sound track in it `measured` sees."""


class NotSound(Exception):
    """The content is not what its first bytes say."""


class AudioInfo(Struct, frozen=True):
    """`duration_s` is None when the content does not say."""

    duration_s: float | None = None
    tags: Mapping[str, str] = {}


def kind_of(head: bytes) -> str | None:
    """Tell the content type by the first bytes; None: no type that is taken."""
    return next((kind for kind, (is_kind, _) in KINDS.items() if is_kind(head)), None)


def measured(kind: str, file: BinaryIO) -> AudioInfo:
    """Measure content of a kind. Raises: NotSound, and OSError when it cannot be read."""
    frugal = BudgetedFile(file)
    try:
        return KINDS[kind][1](frugal)
    except Exception as error:
        # mutagen turns an OSError into an error of its own, which would blame the content.
        if frugal.error is not None:
            raise frugal.error from error
        if frugal.spent:
            return AudioInfo()
        raise NotSound(str(error)) from error


class BudgetExceeded(Exception):
    """Measuring took more than it may; the content is as long as it likes."""


class BudgetedFile:
    """A file that can be read only so much of, and only for so long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = READ_MOST
        self._until = time.monotonic() + TIME_MOST_S
        self.spent = False
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            at = self._file.tell()
            size = self._file.seek(0, 2) - at
            self._file.seek(at)
        # A read of nothing costs something too: no content makes this go on for ever.
        self._left -= max(size, 1)
        if self._left < 0 or time.monotonic() > self._until:
            self.spent = True
            raise BudgetExceeded
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


# What mutagen reads

TAGS: Mapping[str, tuple[str, ...]] = {
    "title": ("TIT2", "\xa9nam", "title"),
    "artist": ("TPE1", "\xa9ART", "artist"),
    "album": ("TALB", "\xa9alb", "album"),
    "genre": ("TCON", "\xa9gen", "genre"),
    "date": ("TDRC", "\xa9day", "date"),
}
"""What is kept of the tags, and what ID3, MPEG-4 and Vorbis comments call it."""


def by(*types: Callable[..., Any]) -> Callable[[BudgetedFile], AudioInfo]:
    """Read with the one of mutagen's types that fits."""

    def read(file: BudgetedFile) -> AudioInfo:
        found = types[0](fileobj=file) if len(types) == 1 else mutagen.File(file, options=list(types))
        if found is None or not (found.info.length or getattr(found.info, "codec", True)):
            raise NotSound("no sound that is known")
        return AudioInfo(plausible(found.info.length), texts(found.tags))

    return read


def plausible(seconds: object) -> float | None:
    """Give a duration, or None for what is none: recorders that stream leave it at 0."""
    return seconds if isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0 else None


def texts(tags: Any) -> dict[str, str]:
    # A Vorbis comment refuses to be asked for a key that it cannot have.
    known = dict(tags.items()) if tags else {}
    found = {}
    for name, keys in TAGS.items():
        value = next((known[key] for key in keys if key in known), None)
        if text := clean(first(value)):
            found[name] = text
    return found


def first(value: Any) -> str:
    """Give a tag's first text: tags are lists, ID3's are frames with one."""
    values = getattr(value, "text", value)
    return str(values[0]) if isinstance(values, list) and values else ""


def clean(text: str) -> str:
    """Leave what can be stored and shown."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:TAG_LENGTH])
    return printable.strip()


# WebM, which mutagen does not know

SEGMENT, INFO, CLUSTER, GROUP = 0x18538067, 0x1549A966, 0x1F43B675, 0xA0
SCALE, DURATION, TIMESTAMP, BLOCK, SIMPLE_BLOCK = 0x2AD7B1, 0x4489, 0xE7, 0xA1, 0xA3
CONTAINERS = frozenset({SEGMENT, INFO, CLUSTER, GROUP})
UNKNOWN_SIZE = -1


def webm(file: BudgetedFile) -> AudioInfo:
    """Read the duration; recorders that stream do not write one: then it is the time of the last block."""
    scale, cluster, last = 1_000_000, 0, 0
    for kind, size in elements(file):
        if kind == SCALE:
            scale = int.from_bytes(file.read(min(size, 8)))
        elif kind == DURATION:
            return AudioInfo(plausible(struct.unpack({4: ">f", 8: ">d"}[size], file.read(size))[0] * scale / 1e9))
        elif kind == TIMESTAMP:
            cluster = int.from_bytes(file.read(min(size, 8)))
        elif kind in (BLOCK, SIMPLE_BLOCK):
            # The track's number, of one byte for the first 127, and the time within the cluster.
            last = max(last, cluster + int.from_bytes(file.read(3)[1:], signed=True))
    return AudioInfo(plausible(last * scale / 1e9))


def elements(file: BudgetedFile) -> Iterator[tuple[int, int]]:
    """Walk the elements in order, into containers and over the rest; the reader may read of one what it likes."""
    while (kind := number(file, keep_marker=True)) is not None:
        size = number(file)
        if kind in CONTAINERS:
            continue
        if size is None or size == UNKNOWN_SIZE:
            return
        start = file.tell()
        yield kind, size
        file.seek(start + size)


def number(file: BudgetedFile, *, keep_marker: bool = False) -> int | None:
    """Read EBML's number of variable length; None at the end."""
    head = file.read(1)
    if not head or not head[0]:
        return None
    length = 9 - head[0].bit_length()
    rest = file.read(length - 1) if length > 1 else b""
    value = int.from_bytes(head + rest)
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value


# Kinds by first bytes


def is_mp3(head: bytes) -> bool:
    if head.startswith(b"ID3"):
        return True
    # A frame: 11 bits of sync, a version and layer III, no reserved bit rate or sample rate.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, rate, samples = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and rate not in (0, 15) and samples != 3


KINDS: Mapping[str, tuple[Callable[[bytes], bool], Callable[[BudgetedFile], AudioInfo]]] = {
    "audio/wav": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WAVE", by(WAVE)),
    "audio/ogg": (lambda head: head[:4] == b"OggS", by(OggOpus, OggVorbis, OggFLAC, OggSpeex)),
    "audio/flac": (lambda head: head[:4] == b"fLaC", by(FLAC)),
    "audio/mp4": (lambda head: head[4:8] == b"ftyp" and head[8:12] in BRANDS, by(MP4)),
    "audio/webm": (lambda head: head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head[:64], webm),
    "audio/mpeg": (is_mp3, by(MP3)),
}
"""How each kind is known, and how it is read."""
