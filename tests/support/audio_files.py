"""Small valid audio files of each format, built byte by byte, with a chosen duration and tags."""

import io
import struct
import wave

RATE = 8_000


def wav(seconds: float = 1.0, size: int | None = None) -> bytes:
    """Return a WAV file; `size`: its total bytes, instead of its seconds."""
    file = io.BytesIO()
    samples = round(seconds * RATE) if size is None else (size - 44) // 2
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(bytes(2 * samples))
    return file.getvalue()


def mp3(seconds: float = 1.0) -> bytes:
    """Return frames of MPEG 1, layer III, 128 kbit/s, 44.1 kHz."""
    frame = b"\xff\xfb\x90\x00" + bytes(413)
    return frame * round(seconds * 44_100 / 1_152)


def tagged_mp3(title: str, artist: str = "An artist", cover: int = 0) -> bytes:
    """Return an MP3 with ID3 tags, version 2.3; `cover`: the bytes of its picture."""

    def frame(name: bytes, body: bytes) -> bytes:
        return name + struct.pack(">IH", len(body), 0) + body

    tags = b"".join(
        frame(name, b"\1" + text.encode("utf-16"))
        for name, text in ((b"TIT2", title), (b"TPE1", artist), (b"TCON", "Speech"))
    )
    if cover:
        tags += frame(b"APIC", b"\0image/png\0\3\0" + bytes(cover))
    # Each byte of the size has seven bits.
    size = bytes(len(tags) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + tags + mp3()


def flac(seconds: float = 1.0) -> bytes:
    samples = round(seconds * RATE)
    info = struct.pack(">HH", 4_096, 4_096) + bytes(6)
    info += ((RATE << 44) | (0 << 41) | (15 << 36) | samples).to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info + bytes(100)


def ogg(seconds: float = 1.0) -> bytes:
    """Return Opus in Ogg, one packet per page."""
    comments = b"OpusTags" + vorbis("homeroom") + struct.pack("<I", 1) + vorbis("TITLE=An opus")
    packets = [
        (2, 0, b"OpusHead\1\1" + struct.pack("<HIhB", 0, 48_000, 0, 0)),
        (0, 0, comments),
        (4, round(seconds * 48_000), bytes(100)),
    ]
    pages = []
    for number, (flags, position, packet) in enumerate(packets):
        head = b"OggS\0" + struct.pack("<BqII", flags, position, 7, number)
        rest = bytes((1, len(packet))) + packet
        pages.append(head + struct.pack("<I", checksum(head + bytes(4) + rest)) + rest)
    return b"".join(pages)


def checksum(page: bytes) -> int:
    """Return the checksum of Ogg: CRC-32 with the bits in order and without inversion."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if value & 0x80000000 else 0)
    return value


def vorbis(comment: str) -> bytes:
    return struct.pack("<I", len(comment)) + comment.encode()


def atom(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def m4a(seconds: float = 1.0, handler: bytes = b"soun") -> bytes:
    moov = atom(b"moov", track(seconds, handler))
    return atom(b"ftyp", b"M4A \0\0\0\0") + moov + atom(b"mdat", bytes(100))


def track(seconds: float, handler: bytes = b"soun", first_samples: int = 0) -> bytes:
    """Return track 1 with this duration in its header; its samples before all fragments last an eighth of a second."""
    tkhd = atom(b"tkhd", struct.pack(">IIII", 0, 0, 0, 1))
    mdhd = atom(b"mdhd", struct.pack(">IIIII", 0, 0, 0, RATE, round(seconds * RATE)) + bytes(4))
    hdlr = atom(b"hdlr", bytes(8) + handler + bytes(13))
    stts = atom(b"stts", struct.pack(">IIII", 0, 1, first_samples, RATE // 8))
    entry = bytes(6) + struct.pack(">HQHHII", 1, 0, 1, 16, 0, RATE << 16)
    stsd = atom(b"stsd", struct.pack(">II", 0, 1) + atom(b"samr", entry + atom(b"damr", b"")))
    return atom(b"trak", tkhd + atom(b"mdia", mdhd + hdlr + atom(b"minf", atom(b"stbl", stsd + stts))))


def fragmented_m4a(seconds: int, *, header_says: int, each: bool = False) -> bytes:
    """Return MPEG-4 as a recorder streams it, a second per fragment, the first `header_says` seconds outside fragments.

    `each`: with a duration for each sample instead of one for all."""
    trex = atom(b"mvex", atom(b"trex", struct.pack(">IIIIII", 0, 1, 1, 0 if each else RATE // 8, 0, 0)))
    parts = [atom(b"ftyp", b"iso5\0\0\0\0"), atom(b"moov", track(header_says, first_samples=8 * header_says) + trex)]
    for _ in range(seconds - header_says):
        rows = b"".join(struct.pack(">II", RATE // 8, 12) if each else struct.pack(">I", 12) for _ in range(8))
        trun = atom(b"trun", struct.pack(">II", 0x301 if each else 0x201, 8) + bytes(4) + rows)
        parts.append(atom(b"moof", atom(b"traf", atom(b"tfhd", struct.pack(">II", 0x20000, 1)) + trun)))
        parts.append(atom(b"mdat", bytes(96)))
    return b"".join(parts)


def webm(seconds: float = 1.0, *, duration: bool = False) -> bytes:
    """Return WebM as a browser records it: of unknown size and, by default, without a duration."""

    def element(kind: str, body: bytes) -> bytes:
        return bytes.fromhex(kind) + (len(body) | 1 << 56).to_bytes(8, "big") + body

    def open_ended(kind: str) -> bytes:
        return bytes.fromhex(kind) + b"\x01" + b"\xff" * 7

    info = element("2ad7b1", (1_000_000).to_bytes(3, "big"))
    if duration:
        info += element("4489", struct.pack(">d", seconds * 1000))
    parts = [
        element("1a45dfa3", element("4282", b"webm")), open_ended("18538067"), element("1549a966", info),
    ]  # fmt: skip
    for start in range(0, round(seconds * 1000) + 1, 1_000):
        parts += [open_ended("1f43b675"), element("e7", start.to_bytes(4, "big"))]
        for offset in range(0, min(1_000, round(seconds * 1000) + 1 - start), 20):
            parts.append(element("a3", b"\x81" + struct.pack(">hB", offset, 0x80) + bytes(40)))
    return b"".join(parts)


KINDS = {
    "audio/wav": wav, "audio/mpeg": mp3, "audio/flac": flac, "audio/ogg": ogg, "audio/mp4": m4a, "audio/webm": webm,
}  # fmt: skip
