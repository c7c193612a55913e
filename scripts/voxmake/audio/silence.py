"""Where a recording is silent, and where to cut it: in one pass and flat memory, exact to the sample.

Silence is found as pydub's detect_silence does with a step of 1 ms (pydub/silence.py, MIT): every
window of `min_silence_s` whose RMS is at most the threshold is silent, and windows that touch are
one silence. Window energies come from running sums per millisecond, so an hour takes a tenth of a
second where pydub takes most of a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

FRAME_MS = 10  # resolution of the level that cuts inside a long span are looked for in
_MS_PER_BLOCK = 60_000
_FULL_SCALE = 1 << 15
_SHORTEST_PAUSE_S = 0.05  # shorter dips are closures of plosives, inside words


@dataclass
class Silences:
    """What one pass over a recording found.

    Attributes:
        rate_hz: of the recording.
        samples: its length.
        ranges: silences as (first sample, sample after the last), in order, not touching.
        frame_energy: mean square of each 10 ms frame, in 16-bit steps squared, shape (frames,), float32.
    """

    rate_hz: int
    samples: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    frame_energy: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


def find_silences(blocks: Iterable[np.ndarray], rate_hz: int, threshold_db: float, min_silence_s: float) -> Silences:
    """Silences of a recording.

    Args:
        blocks: mono int16 samples, shape (n,), in blocks of any length.
        threshold_db: a window this loud (RMS, dBFS) or less is silent.
        min_silence_s: length of the window, in steps of 1 ms.

    Returns:
        silences with bounds on whole milliseconds, rounded down to samples as pydub does; the last
        one ends with the recording if the recording ends silent.
    """
    window = max(1, round(min_silence_s * 1000))
    # pydub compares the RMS in whole 16-bit steps, rounded down
    ceiling = (math.floor(10 ** (threshold_db / 20) * _FULL_SCALE) + 1) ** 2
    found = Silences(rate_hz)
    # Samples of a window that starts at each millisecond of a second; whole kHz: all the same.
    lengths = _bound(np.arange(1000) + window, rate_hz) - _bound(np.arange(1000), rate_hz)
    starts = _Ranges(reach=window)
    energies, tail, done_ms = [], np.zeros(0), 0  # tail: the last window - 1 milliseconds
    for sums, samples in _millisecond_sums(blocks, rate_hz):
        found.samples += samples
        sums = np.concatenate([tail, sums])
        if len(sums) >= window:
            running = np.concatenate([[0], np.cumsum(sums)])
            energy = running[window:] - running[:-window]
            below = ceiling * np.resize(np.roll(lengths, -(done_ms % 1000)), len(energy))
            starts.add(done_ms + np.flatnonzero(energy < below))
        kept = min(len(sums), window - 1)
        done_ms += len(sums) - kept
        energies.append(_frames(sums[len(tail) :], rate_hz))
        tail = sums[len(sums) - kept :]
    found.ranges = [(_bound(a, rate_hz), _bound(b, rate_hz)) for a, b in starts.finish()]
    if found.ranges and found.samples - found.ranges[-1][1] < rate_hz / 1000:
        found.ranges[-1] = (found.ranges[-1][0], found.samples)  # the last, broken millisecond
    found.frame_energy = np.concatenate(energies) if energies else found.frame_energy
    return found


def _bound(ms, rate_hz: int):
    """First sample of a millisecond."""
    return ms * rate_hz // 1000


def _millisecond_sums(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[tuple[np.ndarray, int]]:
    """Sums of squares of each whole millisecond, a minute at a time, and the samples they cover.

    In float64, where sums over a minute (below 2**50) are exact.
    """
    for block in _minutes(blocks, rate_hz):
        whole_ms = len(block) * 1000 // rate_hz
        end = _bound(whole_ms, rate_hz)
        if rate_hz % 1000 == 0:
            samples = block[:end].reshape(whole_ms, -1).astype(np.float64)
            yield np.einsum("ij,ij->i", samples, samples), len(block)
        else:
            squares = np.square(block[:end], dtype=np.float64)
            bounds = _bound(np.arange(whole_ms), rate_hz)
            yield np.add.reduceat(squares, bounds) if whole_ms else np.zeros(0), len(block)


def _minutes(blocks: Iterable[np.ndarray], rate_hz: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of exactly a minute, so milliseconds never straddle two."""
    size, kept, held = rate_hz * _MS_PER_BLOCK // 1000, [], 0
    for block in blocks:
        kept.append(block)
        held += len(block)
        if held < size:
            continue
        joined = np.concatenate(kept) if len(kept) > 1 else block
        for start in range(0, held - size + 1, size):
            yield joined[start : start + size]
        held %= size
        kept = [joined[len(joined) - held :]]
    if held:
        yield np.concatenate(kept)


def _frames(sums: np.ndarray, rate_hz: int) -> np.ndarray:
    """Mean square of 10 ms frames; a last frame that is not whole is left out."""
    whole = sums[: len(sums) // FRAME_MS * FRAME_MS].reshape(-1, FRAME_MS)
    return (whole.sum(axis=1) * (1000 / (FRAME_MS * rate_hz))).astype(np.float32)


class _Ranges:
    """Joins silent windows, given by their starts in order, to ranges; keeps one open range only."""

    def __init__(self, reach: int):
        self.reach, self.ranges = reach, []
        self.start: int | None = None
        self.last = 0

    def add(self, starts: np.ndarray) -> None:
        if not len(starts):
            return
        breaks = np.flatnonzero(np.diff(starts) > self.reach)
        firsts = [int(starts[0]), *(int(starts[i + 1]) for i in breaks)]
        lasts = [*(int(starts[i]) for i in breaks), int(starts[-1])]
        if self.start is not None and firsts[0] - self.last <= self.reach:
            firsts[0] = self.start
        elif self.start is not None:
            self.ranges.append((self.start, self.last + self.reach))
        self.ranges += [(a, b + self.reach) for a, b in zip(firsts[:-1], lasts[:-1], strict=True)]
        self.start, self.last = firsts[-1], lasts[-1]

    def finish(self) -> list[tuple[int, int]]:
        if self.start is not None:
            self.ranges.append((self.start, self.last + self.reach))
        return self.ranges


# ---------------------------------------------------------------------------- speech from silence


@dataclass(frozen=True)
class Cutting:
    """How spans of speech become segments. Lengths in samples; max_length is at least 4 * min_length."""

    rate_hz: int
    threshold_db: float
    min_length: int
    max_length: int
    merge_gap: int
    pad: int


def speech_between(silences: Silences) -> list[tuple[int, int]]:
    """The spans that are not silent, in order."""
    edges = [0, *(edge for pair in silences.ranges for edge in pair), silences.samples]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def cut(
    spans: list[tuple[int, int]], silences: Silences, how: Cutting
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Segments of allowed length from spans of speech.

    A span that is too short joins its nearer neighbour across a gap of at most `merge_gap`. One
    that is too long is cut at its longest pause, and the parts again (Emilia's rule); where it has
    no pause, at its quietest place. Then each segment is padded, never into its neighbour.

    Returns:
        the segments, and the spans that stay too short and are left out.
    """
    parts = [part for span in _join_short(spans, how) for part in _split_long(span, silences.frame_energy, how)]
    kept, dropped = [], []
    for index, (start, end) in enumerate(parts):
        if end - start < how.min_length:
            dropped.append((start, end))
            continue
        # Half of a gap belongs to each side; before the first and after the last, all of it.
        before = (start - parts[index - 1][1]) // 2 if index else start
        after = (parts[index + 1][0] - end) // 2 if index + 1 < len(parts) else silences.samples - end
        kept.append((start - min(how.pad, before), end + min(how.pad, after)))
    return kept, dropped


def _join_short(spans: list[tuple[int, int]], how: Cutting) -> list[tuple[int, int]]:
    spans = list(spans)
    index = 0
    while index < len(spans):
        start, end = spans[index]
        if end - start >= how.min_length:
            index += 1
            continue
        choices = []
        for other in (index - 1, index + 1):
            if 0 <= other < len(spans):
                low, high = min(index, other), max(index, other)
                gap, length = spans[high][0] - spans[low][1], spans[high][1] - spans[low][0]
                if gap <= how.merge_gap and length <= how.max_length:
                    choices.append((gap, low))
        if not choices:
            index += 1
            continue
        low = min(choices)[1]
        spans[low : low + 2] = [(spans[low][0], spans[low + 1][1])]
        index = low
    return spans


def _split_long(span: tuple[int, int], energy: np.ndarray, how: Cutting) -> list[tuple[int, int]]:
    todo, done = [span], []
    while todo:
        start, end = todo.pop()
        if end - start <= how.max_length:
            done.append((start, end))
            continue
        left, right = _cut_place(start, end, energy, how)
        todo += [(start, left), (right, end)]
    return sorted(done)


def _cut_place(start: int, end: int, energy: np.ndarray, how: Cutting) -> tuple[int, int]:
    """End of the left part and start of the right part."""
    first = -(-(start + how.min_length) * 1000 // (FRAME_MS * how.rate_hz))  # no part becomes too short
    last = min((end - how.min_length) * 1000 // (FRAME_MS * how.rate_hz), len(energy))
    inside = energy[first:last]
    quiet = inside <= (10 ** (how.threshold_db / 20) * _FULL_SCALE) ** 2
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.view(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    if len(lengths) and lengths.max() * FRAME_MS >= _SHORTEST_PAUSE_S * 1000:
        longest = int(lengths.argmax())
        return tuple(_bound(int(first + edges[2 * longest + side]) * FRAME_MS, how.rate_hz) for side in (0, 1))
    # No pause: the quietest 50 ms of the second half of what the left part may hold.
    until = (start + how.max_length) * 1000 // (FRAME_MS * how.rate_hz) - first
    smooth = np.convolve(inside[until // 2 : until], np.ones(5), mode="same")
    place = _bound(int(first + until // 2 + smooth.argmin()) * FRAME_MS, how.rate_hz)
    return place, place
