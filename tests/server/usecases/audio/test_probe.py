"""What content is, how long it plays and what its tags say; and that no content makes reading it go on for ever."""

import io

import pytest

from server.usecases.audio import probe
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
    huge = made.tagged_mp3("A title", cover=probe.READ_MOST)
    assert probe.measured("audio/mpeg", io.BytesIO(huge)) == probe.AudioInfo()
    large = made.tagged_mp3("A title", cover=probe.READ_MOST // 4)
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
