"""Look at a recording without decoding it: what it is, and whether a decoder may touch it.

A file's name says nothing here. Codecs that have hurt decoders (IMA ADPCM in libsndfile 1.2.2,
CVE-2026-37555) and texts that make ffmpeg open other files (HLS, ffconcat) never get that far.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from voxmake.audio.spec import AudioSpec
from voxmake.errors import Rejected

MIN_RATE_HZ, MAX_RATE_HZ = 4000, 384000  # what recorders make; a header outside is damaged
STREAMED = 0xFFFFFFFF  # a WAV data size that says "to the end of the file"; legal, written to pipes

# format tag -> name and allowed bits; https://learn.microsoft.com/windows/win32/api/mmeapi/ns-mmeapi-waveformatex
_WAV_CODECS = {1: ("pcm", (8, 16, 24, 32)), 3: ("float", (32, 64)), 6: ("alaw", (8,)), 7: ("ulaw", (8,))}
_EXTENSIBLE = 0xFFFE
_TAG_NAMES = {0x0002: "MS ADPCM", 0x0011: "IMA ADPCM", 0x0031: "GSM 6.10", 0x0055: "MP3"}

# first bytes -> container. `*` stands for any byte.
_MAGIC: list[tuple[bytes, str]] = [
    (b"RIFF****WAVE", "wav"),
    (b"RF64****WAVE", "rf64"),
    (b"BW64****WAVE", "rf64"),
    (b"riff\x2e\x91\xcf\x11", "w64"),
    (b"FORM****AIFF", "aiff"),
    (b"FORM****AIFC", "aiff"),
    (b".snd", "au"),
    (b"caff", "caf"),
    (b"NIST_1A", "nist"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"****ftyp", "mp4"),
    (b"#!AMR", "amr"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
]
# What libsndfile decodes in this process; the others go to an ffmpeg process.
IN_PROCESS = {"wav", "rf64", "w64", "aiff", "au", "caf", "nist", "flac", "ogg", "mp3"}


@dataclass(frozen=True)
class Probe:
    """What a header says. `duration_s` is None where it doesn't say (WebM from a browser, streamed FLAC)."""

    container: str
    codec: str
    sample_rate_hz: int | None
    channels: int | None
    duration_s: float | None
    size_bytes: int
    mtime_ns: int

    @property
    def decoder(self) -> str:
        return "soundfile" if self.container in IN_PROCESS else "ffmpeg"


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a link, pipe or device is refused and can't make us wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Rejected("missing_file") from None
    except OSError as error:
        reason = "not_regular_file" if path.is_symlink() or not path.is_file() else "unreadable"
        raise Rejected(reason, error.strerror or "") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Rejected("not_regular_file")
    return os.fdopen(fd, "rb")


def sniff(path: Path) -> str:
    """The container, by the file's first bytes.

    Raises:
        Rejected: not_regular_file, empty_file, lfs_pointer, not_audio …
    """
    with open_regular(path) as stream:
        start = stream.read(64)
        if not start:
            raise Rejected("empty_file")
        if start.startswith(b"version https://git-lfs"):
            raise Rejected("lfs_pointer")
        for magic, container in _MAGIC:
            if len(start) >= len(magic) and all(m == s or m == ord("*") for m, s in zip(magic, start, strict=False)):
                return container
        return _sniff_frames(start)


def _sniff_frames(start: bytes) -> str:
    """MPEG audio and ADTS have no magic, only a frame header: 11 or 12 bits of ones, then the layer."""
    if len(start) >= 4 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0:
        layer, rate, bitrate = start[1] >> 1 & 3, start[2] >> 2 & 3, start[2] >> 4
        if layer == 0 and start[1] & 0xF6 == 0xF0:
            return "adts"
        if layer != 0 and rate != 3 and bitrate != 15:
            return "mp3"
    raise Rejected("not_audio", f"begins with {str(start[:16])[2:-1]}")


def probe(path: Path, spec: AudioSpec) -> Probe:
    """Read the header and check what it declares against the limits, before anything is decoded.

    Raises:
        Rejected: the file can't be, or must not be, decoded.
    """
    container = sniff(path)
    status = path.stat()
    facts = (status.st_size, status.st_mtime_ns)
    if container in ("wav", "rf64"):
        found = _probe_wav(path, container, facts)
    elif container in IN_PROCESS:
        found = _probe_soundfile(path, container, facts)
    else:
        found = Probe(container, container, None, None, _duration(path, container), *facts)
    if found.sample_rate_hz is not None:
        check_format(found.sample_rate_hz, found.channels, spec)
    if found.duration_s is not None:
        check_duration(found.duration_s, spec)
    return found


def _duration(path: Path, container: str) -> float | None:
    from voxmake.audio.matroska import read_duration

    return read_duration(path) if container == "matroska" else None


def check_format(sample_rate_hz: int, channels: int, spec: AudioSpec) -> None:
    if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
        raise Rejected("bad_sample_rate", f"{sample_rate_hz} Hz")
    if channels > spec.max_channels:
        raise Rejected("too_many_channels", f"{channels} channels")
    if channels < 1:
        raise Rejected("bad_header", "no channels")


def check_duration(duration_s: float, spec: AudioSpec) -> None:
    if duration_s == 0:
        raise Rejected("no_samples")
    if duration_s < spec.min_duration_s:
        raise Rejected("too_short", f"{duration_s:.3f} s")
    if duration_s > spec.max_duration_s:
        raise Rejected("too_long", f"{duration_s:.0f} s")


def _probe_soundfile(path: Path, container: str, facts: tuple[int, int]) -> Probe:
    import soundfile

    if container == "ogg":
        from voxmake.audio.ogg import check_pages

        check_pages(path)
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise Rejected("undecodable", error.error_string) from None
    if "ADPCM" in info.subtype:
        raise Rejected("unsupported_codec", info.subtype)
    known = info.frames < 1 << 48  # libsndfile's "unknown" is 2^63 - 1
    duration_s = info.frames / info.samplerate if known and info.samplerate else None
    return Probe(container, f"{container}/{info.subtype.lower()}", info.samplerate, info.channels, duration_s, *facts)


def _probe_wav(path: Path, container: str, facts: tuple[int, int]) -> Probe:
    """Walk the chunks of a RIFF or RF64 file up to its samples (EBU Tech 3306 for the 64-bit sizes)."""
    size_bytes = facts[0]
    fmt: bytes | None = None
    data_size_64: int | None = None
    with open_regular(path) as stream:
        position = 12
        while True:
            stream.seek(position)
            head = stream.read(8)
            if len(head) < 8:
                raise Rejected("bad_header", "no samples are declared" if fmt else "no format is declared")
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            position += 8
            if name == b"data":
                break
            if position + size > size_bytes:
                raise Rejected("bad_header", f"chunk {name!r} goes past the end of the file")
            if name == b"fmt ":
                fmt = stream.read(size)
            elif name == b"ds64":
                data_size_64 = struct.unpack("<QQQ", stream.read(24).ljust(24, b"\0"))[1]
            position += size + size % 2
        after = stream.read(8)
    if fmt is None:
        raise Rejected("bad_header", "no format is declared before the samples")
    codec, rate, channels, frame_bytes = _wav_format(fmt)
    there = size_bytes - position
    if container == "rf64" and data_size_64 is not None:
        size = data_size_64
    elif size == STREAMED:
        size = there
    if size == 0 and there > 0 and not _is_chunk(after, there):
        raise Rejected(
            "bad_header",
            f"declares 0 bytes of samples, {there} bytes follow: `ffmpeg -i IN.wav -c copy OUT.wav` mends it",
        )
    if size > there:
        raise Rejected("truncated", f"{there} of {size} bytes of samples are there")
    duration_s = size // frame_bytes / rate if rate else None  # a rate of 0 is named by check_format
    return Probe(container, f"{container}/{codec}", rate, channels, duration_s, *facts)


def _is_chunk(head: bytes, there: int) -> bool:
    return (
        len(head) == 8 and head[:4].isascii() and head[:4].isalnum() and struct.unpack("<I", head[4:])[0] <= there - 8
    )


def _wav_format(fmt: bytes) -> tuple[str, int, int, int]:
    """Codec name, rate in Hz, channels, bytes of a frame."""
    if len(fmt) < 16:
        raise Rejected("bad_header", f"a format chunk of {len(fmt)} bytes")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == _EXTENSIBLE and len(fmt) >= 26:
        tag = struct.unpack("<H", fmt[24:26])[0]
    name, widths = _WAV_CODECS.get(tag, ("", ()))
    if bits not in widths:
        raise Rejected("unsupported_codec", _TAG_NAMES.get(tag, f"{name or f'format tag 0x{tag:04x}'}, {bits} bits"))
    if frame_bytes != channels * bits // 8 or frame_bytes == 0:
        raise Rejected("bad_header", f"{frame_bytes} bytes a frame for {channels} channels of {bits} bits")
    return f"{name}_{bits}", rate, channels, frame_bytes
