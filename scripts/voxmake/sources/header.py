"""The length that a WAV or FLAC file declares, and one segment of a PCM WAV file as a new WAV file.

Enough of both formats to cut and compare, nothing is decoded: samples are copied byte for byte.
WAV: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html; FLAC: RFC 9639, section 8.2.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from voxmake.errors import Rejected

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
EXTENSIBLE_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # the tag's first 2 bytes stand before it
STREAMED_SIZES = (0, 0xFFFFFFFF)  # a recorder that could not seek back wrote no length
MAX_CHUNKS = 1000  # a file of empty chunks must not keep us busy
OVERSHOOT_S = 0.5  # a segment may end that much after the file, as in Kaldi's extract-segments


@dataclass(frozen=True)
class WavLayout:
    format_chunk: bytes
    sample_rate_hz: int
    frame_bytes: int
    data_offset: int
    frames: int

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz


def wav_layout(file: BinaryIO, size_bytes: int) -> WavLayout | None:
    """Where the samples lie, or None when this is no uncompressed WAV file."""
    file.seek(0)
    if file.read(12)[:4] != b"RIFF":
        return None
    format_chunk = b""
    for _ in range(MAX_CHUNKS):
        if len(head := file.read(8)) < 8:
            return None
        name, length = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            return _layout(format_chunk, file.tell(), length, size_bytes)
        if name == b"fmt ":
            format_chunk = file.read(min(length, 64))
            file.seek(length - len(format_chunk) + length % 2, io.SEEK_CUR)
        else:
            file.seek(length + length % 2, io.SEEK_CUR)
    return None


def _layout(format_chunk: bytes, offset: int, length: int, size_bytes: int) -> WavLayout | None:
    if len(format_chunk) < 16:
        return None
    tag, channels, rate, _, frame_bytes, _ = struct.unpack("<HHIIHH", format_chunk[:16])
    if tag == EXTENSIBLE and format_chunk[26:40] == EXTENSIBLE_GUID_TAIL:
        tag = struct.unpack("<H", format_chunk[24:26])[0]
    if tag not in (PCM, FLOAT) or not (channels and rate and frame_bytes):
        return None
    available = size_bytes - offset
    used = available if length in STREAMED_SIZES else min(length, available)
    return WavLayout(format_chunk, rate, frame_bytes, offset, used // frame_bytes)


def declared_duration_s(path: Path) -> float | None:
    """What the header says, for WAV and FLAC; None for anything else."""
    with path.open("rb") as file:
        start = file.read(42)
        if start[:4] == b"fLaC":
            packed = int.from_bytes(start[18:26])  # 20 bits rate, 3 channels, 5 bit depth, 36 samples
            rate, samples = packed >> 44, packed & (1 << 36) - 1
            return samples / rate if rate and samples else None
        layout = wav_layout(file, path.stat().st_size)
        return layout.duration_s if layout else None


def segment_bytes(layout: WavLayout, start_s: float, end_s: float | None) -> tuple[bytes, int, int]:
    """The new file's header, and the offset and length of the samples that follow it."""
    first = round(start_s * layout.sample_rate_hz)
    last = layout.frames if end_s is None else min(round(end_s * layout.sample_rate_hz), layout.frames)
    if last <= first or (end_s is not None and end_s > layout.duration_s + OVERSHOOT_S):
        end = "its end" if end_s is None else f"{end_s:g} s"
        raise Rejected("bad_times", f"from {start_s:g} s to {end} of a file of {layout.duration_s:.3f} s")
    length = (last - first) * layout.frame_bytes
    body = b"WAVEfmt " + struct.pack("<I", len(layout.format_chunk)) + layout.format_chunk
    body += b"data" + struct.pack("<I", length)
    header = b"RIFF" + struct.pack("<I", len(body) + length + length % 2) + body  # a chunk ends on an even byte
    return header, layout.data_offset + first * layout.frame_bytes, length
