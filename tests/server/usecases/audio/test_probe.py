"""What content is, how long it plays and what its tags say; and that no content makes reading it go on for ever."""

import io
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.usecases.audio import probe
from server.usecases.audio.budgeted_file import READ_MOST
from tests.support import audio_files as made


@pytest.mark.parametrize("kind", made.KINDS)
def test_each_kind_is_known_by_its_content_and_measured(kind: str) -> None:
    content = made.KINDS[kind](2.5)
    assert probe.kind_of(content[: probe.HEAD_BYTES]) == kind
    assert probe.measured(kind, io.BytesIO(content)).duration_s == pytest.approx(2.5, abs=0.03)


def test_webm_that_says_its_duration() -> None:
    facts = probe.measured("audio/webm", io.BytesIO(made.webm(0.5, duration=True)))
    assert facts.duration_s == 0.5


@pytest.mark.parametrize(
    "content",
    [
        b"", b"I", b"ID", b"\x89PNG\r\n\x1a\n" + bytes(100), b"%PDF-1.7", b"<html>", b"RIFF\0\0\0\0AVI ",
        b"MZ" + bytes(99), b"\xff\xf1\x50\x80" + bytes(99), b"\xff\xfb\xf0\x00" + bytes(99), b"\0\0\0\x18ftypqt  ",
        b"\xff\xd8\xff\xe0", b"\x1aE\xdf\xa3\x93\x42\x82\x88matroska",
    ],
)  # fmt: skip
def test_what_is_no_sound(content: bytes) -> None:
    assert probe.kind_of(content) is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("audio/mpeg", b"ID3\x04\0\0\0\0\0\0" + bytes(5000)),
        ("audio/wav", b"RIFF\xff\xff\0\0WAVEjunk"),
        ("audio/flac", b"fLaC"),
        ("audio/ogg", b"OggS" + bytes(100)),
        ("audio/mp4", b"\0\0\0\x10ftypM4A \0\0\0\0" + bytes(100)),
        ("audio/mp4", made.m4a(handler=b"vide")),
    ],
)
def test_what_only_begins_like_a_sound(kind: str, content: bytes) -> None:
    assert probe.kind_of(content) == kind
    with pytest.raises(probe.NotSound):
        probe.measured(kind, io.BytesIO(content))


def test_tags_are_texts_that_can_be_stored() -> None:
    facts = probe.measured("audio/mpeg", io.BytesIO(made.tagged_mp3("A\x07 " + "b" * 600)))
    assert facts.tags == {"title": "A  " + "b" * 497, "artist": "An artist", "genre": "Speech"}
    assert probe.measured("audio/ogg", io.BytesIO(made.ogg())).tags == {"title": "An opus"}


def test_a_size_that_content_names_is_not_believed() -> None:
    """ID3 may claim 256 MiB, and a cover may take all of it."""
    claim = b"ID3\x04\0\0\x7f\x7f\x7f\x7f"
    assert probe.measured("audio/mpeg", io.BytesIO(claim + made.mp3())) == probe.AudioInfo()
    huge = made.tagged_mp3("A title", cover=READ_MOST)
    assert probe.measured("audio/mpeg", io.BytesIO(huge)) == probe.AudioInfo()
    large = made.tagged_mp3("A title", cover=READ_MOST // 4)
    assert probe.measured("audio/mpeg", io.BytesIO(large)).tags["title"] == "A title"


def test_a_store_that_is_away_is_not_the_contents_fault() -> None:
    class Away(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("away")

    with pytest.raises(OSError, match="away"):
        probe.measured("audio/mpeg", Away(made.mp3()))


def test_webm_of_any_shape_comes_to_an_end() -> None:
    whole = made.webm(3)
    for end in range(0, len(whole), 37):
        probe.measured("audio/webm", io.BytesIO(whole[:end]))
    for kind in ("44", "ff", "a3", "e7"):
        shape = bytes.fromhex("1a45dfa38018538067ff" + kind + "01" + "00" * 7) * 100
        probe.measured("audio/webm", io.BytesIO(shape))


BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def frames(*kbits: int) -> bytes:
    """Return an MP3 of these frames: MPEG 1, 44.1 kHz, and no table of contents."""
    heads = (bytes((0xFF, 0xFB, BIT_RATES.index(rate) + 1 << 4, 0)) for rate in kbits)
    return b"".join(head.ljust(1_152 * rate * 125 // 44_100, b"\0") for head, rate in zip(heads, kbits, strict=True))


def seconds_of(kind: str, content: bytes) -> float | None:
    return probe.measured(kind, io.BytesIO(content)).duration_s


@given(st.lists(st.sampled_from(BIT_RATES), min_size=5, max_size=300), st.booleans(), st.binary(max_size=200))
def test_an_mp3_of_any_bit_rates_plays_as_long_as_its_frames(kbits: list[int], tagged: bool, junk: bytes) -> None:
    """Its header names no length; the first frame's bit rate does not tell. Junk may follow."""
    content = (b"ID3\4\0\0\0\0\0\0" if tagged else b"") + frames(*kbits) + b"\0" + junk.replace(b"\xff", b"")
    assert seconds_of("audio/mpeg", content) == pytest.approx(len(kbits) * 1_152 / 44_100)


def test_an_mp3_of_two_files_plays_as_long_as_both() -> None:
    assert seconds_of("audio/mpeg", made.tagged_mp3("One") * 2) == pytest.approx(2 * 38 * 1_152 / 44_100)
    assert seconds_of("audio/mpeg", frames(64) * 50 + b"junk" + frames(128) * 50) == pytest.approx(100 * 1_152 / 44_100)


def test_an_mp3_with_other_content_in_it_has_no_duration() -> None:
    assert seconds_of("audio/mpeg", frames(128) * 100 + bytes(200_000) + frames(128) * 100) is None


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_wav_from_a_pipe_plays_as_long_as_what_is_there(size: int) -> None:
    content = made.wav(20)
    piped = content[:40] + size.to_bytes(4, "little") + content[44:]
    assert seconds_of("audio/wav", piped) == 20


def test_mp4_in_fragments_plays_as_long_as_its_samples() -> None:
    assert seconds_of("audio/mp4", made.fragmented_m4a(20, header_says=0)) == 20
    assert seconds_of("audio/mp4", made.fragmented_m4a(20, header_says=1)) == 20
    assert seconds_of("audio/mp4", made.fragmented_m4a(20, header_says=0, each=True)) == 20


@pytest.mark.parametrize(
    "content",
    [
        frames(128) + b"\xff" * READ_MOST,
        frames(128) + b"\xff\xfb\x90\x00" * (READ_MOST // 4),
        (frames(32) * 2 + b"\0") * (READ_MOST // 209),
        b"ID3\4\0\0\0\0\0\0" * (READ_MOST // 10),
        frames(32) * (4 * READ_MOST // 104),
    ],
    ids=["ones", "headers", "gaps", "tags", "frames"],
)
def test_counting_frames_takes_linear_time(content: bytes) -> None:
    began = time.process_time()
    with suppress(probe.NotSound):
        probe.measured("audio/mpeg", io.BytesIO(content))
    assert time.process_time() - began < 5
