"""Rows that mean a part of a file (NeMo offset and duration, Kaldi segments).

`fetch` cuts them out of uncompressed WAV, sample for sample. From a compressed file they would have to
be decoded, which is not a collector's work: such rows are rejected with the remedy.
"""

from __future__ import annotations

import math
from pathlib import Path

from voxmake.errors import Rejected
from voxmake.sources.header import segment_bytes, wav_layout


def check_times(start_s: float, end_s: float | None) -> None:
    if not math.isfinite(start_s) or start_s < 0:
        raise Rejected("bad_times", f"the segment starts at {start_s:g} s")
    if end_s is not None and (not math.isfinite(end_s) or end_s <= start_s):
        raise Rejected("bad_times", f"the segment goes from {start_s:g} s to {end_s:g} s")


def check_segment(path: Path, start_s: float, end_s: float | None) -> None:
    """Raises unless `fetch` can cut this segment out of the file."""
    check_times(start_s, end_s)
    with path.open("rb") as file:
        layout = wav_layout(file, path.stat().st_size)
    if layout is None:
        raise Rejected("segment_not_wav", path.name)
    segment_bytes(layout, start_s, end_s)


def segment_id(stem: str, start_s: float, end_s: float | None) -> str:
    """As Kaldi names them: the milliseconds, padded so that names sort by time."""
    end = "end" if end_s is None else f"{round(end_s * 1000):08d}"
    return f"{stem}-{round(start_s * 1000):08d}-{end}"
