"""Whether an Ogg file is complete, by its pages (https://www.rfc-editor.org/rfc/rfc3533).

libogg drops a page that is damaged or cut off without a word, and libsndfile then gives what is left
for the whole. Each page has a number and a checksum of its own: they are checked here.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from voxmake.audio.probe import open_regular
from voxmake.errors import Rejected

_HEAD_BYTES, _CHECKSUM = 27, slice(22, 26)
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_pages(path: Path) -> None:
    """Walk all pages.

    That the last page isn't marked as the last says nothing: browsers record without the mark.

    Raises:
        Rejected: `truncated` where a page is cut off or missing, `undecodable` where one is damaged.
    """
    expected: dict[int, int] = {}  # serial number of each stream -> its next page
    with open_regular(path) as stream:
        while head := stream.read(_HEAD_BYTES):
            at = stream.tell() - len(head)
            if len(head) < _HEAD_BYTES:
                raise Rejected("truncated", f"a page is cut off at byte {at}")
            magic, _, _, _, serial, number, checksum, segments = struct.unpack("<4sBBQIIIB", head)
            if magic != b"OggS":
                raise Rejected("undecodable", f"no page at byte {at}")
            lengths = stream.read(segments)
            body = stream.read(sum(lengths))
            if len(lengths) < segments or len(body) < sum(lengths):
                raise Rejected("truncated", f"a page is cut off at byte {at}")
            page = bytearray(head + lengths + body)
            page[_CHECKSUM] = bytes(4)
            if _checksum(bytes(page)) != checksum:
                raise Rejected("undecodable", f"the page at byte {at} is damaged")
            if number != expected.get(serial, number):
                raise Rejected("truncated", f"pages are missing before byte {at}")
            expected[serial] = number + 1


def _checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533: zlib's polynomial, but with the bits of each byte and of the result reversed, and from 0."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)
