"""Whether a Matroska or WebM file is complete, by its element structure.

Browsers record WebM live: segment and clusters have no size and the header no duration, and ffmpeg
says "File ended prematurely" of every such file. But each audio block has a size: a file that ends
where a block ends was not cut off. https://www.rfc-editor.org/rfc/rfc8794 (EBML), rfc9559 (Matroska).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from voxmake.audio.probe import open_regular
from voxmake.errors import Rejected

_SEGMENT, _CLUSTER, _INFO = 0x18538067, 0x1F43B675, 0x1549A966
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_ENTERED = {_SEGMENT, _CLUSTER, _INFO}


def read_duration(path: Path) -> float | None:
    """Walk all elements; returns the declared duration in seconds, None if none is declared.

    Raises:
        Rejected: `truncated` where an element goes past the end of the file.
    """
    size_bytes = path.stat().st_size
    scale_ns, duration = 1_000_000, None
    with open_regular(path) as stream:
        while stream.tell() < size_bytes:
            element, length = _id(stream), _length(stream)
            if element is None or length is None:
                if stream.tell() < size_bytes:
                    raise Rejected("bad_header", f"no element at byte {stream.tell()}")
                break  # stopped while the next block's head was written: real recorders do, no audio is lost
            if length != _UNKNOWN and stream.tell() + length > size_bytes:
                raise Rejected(
                    "truncated", f"{size_bytes - stream.tell()} of {length} bytes are there at byte {stream.tell()}"
                )
            if element in _ENTERED:
                continue
            if length == _UNKNOWN:
                raise Rejected("bad_header", f"element 0x{element:x} has no length")
            if element in (_TIMESTAMP_SCALE, _DURATION):
                body = stream.read(length)
                if element == _TIMESTAMP_SCALE:
                    scale_ns = int.from_bytes(body)
                elif length in (4, 8):
                    duration = struct.unpack(">f" if length == 4 else ">d", body)[0]
            else:
                stream.seek(length, 1)
    return None if duration is None else duration * scale_ns / 1e9


_UNKNOWN = -1


def _id(stream: BinaryIO) -> int | None:
    """An element id: 1 to 4 bytes, the length marker kept."""
    first = stream.read(1)
    extra = 8 - first[0].bit_length() if first and first[0] else 8
    rest = stream.read(extra)
    return int.from_bytes(first + rest) if extra < 4 and len(rest) == extra else None


def _length(stream: BinaryIO) -> int | None:
    """A data length: 1 to 8 bytes, the length marker removed; all ones means unknown."""
    first = stream.read(1)
    extra = 8 - first[0].bit_length() if first and first[0] else 8
    rest = stream.read(extra)
    if extra > 7 or len(rest) < extra:
        return None
    value = int.from_bytes(first + rest) & ((1 << 7 * (extra + 1)) - 1)
    return _UNKNOWN if value == (1 << 7 * (extra + 1)) - 1 else value
