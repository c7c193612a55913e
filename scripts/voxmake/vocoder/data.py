"""Pairs of units and speech for a vocoder: clips at 16 kHz on disk, crops on the units' grid, every stretch used.

Which crops are drawn hangs on (seed, number of the draw) alone: the draw's number is all the state there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FULL_SCALE = 32768.0
BASE_HZ = 150.0  # of log-F0


@dataclass(frozen=True)
class Clip:
    """One clip: its units, and where its samples (and pitch) lie.

    Attributes:
        units: int16, shape (frames,).
        wave: raw 16-bit samples at 16 kHz, at least frames x hop.
        pitch: raw float32 [frames, 3] as `pitch_of` gives it, or None.
        speaker: number, or 0.
    """

    id: str
    units: np.ndarray
    wave: Path
    pitch: Path | None = None
    speaker: int = 0

    def crop(self, start: int, count: int, hop: int) -> Batch:
        """`count` units from `start`, with their samples; a clip that is too short comes round again."""
        frames = len(self.units)
        inside = min(count, frames - start)
        wave = np.fromfile(self.wave, "<i2", inside * hop, offset=start * hop * 2).reshape(inside, hop)
        index = np.arange(count) % inside
        pitch = None
        if self.pitch is not None:
            pitch = np.fromfile(self.pitch, "<f4", inside * 3, offset=start * 12).reshape(inside, 3)[index]
        units = self.units[start : start + inside][index].astype(np.int64)
        return Batch(units, wave[index].reshape(-1).astype(np.float32) / FULL_SCALE, self.speaker, pitch)


@dataclass(frozen=True)
class Batch:
    """Units and their samples: of one crop, shapes (F,), (F * hop,), (), (F, 3); of several with [B, …] before."""

    units: np.ndarray
    wave: np.ndarray
    speaker: np.ndarray | int
    pitch: np.ndarray | None

    @classmethod
    def of(cls, crops: Sequence[Batch]) -> Batch:
        return cls(
            np.stack([crop.units for crop in crops]),
            np.stack([crop.wave for crop in crops]),
            np.array([crop.speaker for crop in crops], np.int64),
            None if crops[0].pitch is None else np.stack([crop.pitch for crop in crops]),
        )


@dataclass
class Crops:
    """An endless row of crops. Each round uses every unit of every clip, in an order of its own.

    A round cuts a clip into stretches of `count` units from an offset that it draws for the clip; the first and the
    last one are moved into the clip, so they overlap their neighbours.
    """

    clips: Sequence[Clip]
    count: int
    hop: int
    seed: int
    _order: tuple[int, np.ndarray] = field(default=(-1, np.empty(0)), repr=False)

    def __post_init__(self):
        # One more than fits: with any offset the clip's end is covered.
        stretches = [-(-len(clip.units) // self.count) + (len(clip.units) > self.count) for clip in self.clips]
        self.owner = np.repeat(np.arange(len(self.clips)), stretches)
        self.place = np.concatenate([np.arange(number) for number in stretches])

    @property
    def round_size(self) -> int:
        """Draws in which everything is used once."""
        return len(self.owner)

    def draw(self, number: int) -> Batch:
        round_, at = divmod(number, len(self.owner))
        if self._order[0] != round_:
            self._order = (round_, np.random.default_rng([self.seed, 2, round_]).permutation(len(self.owner)))
        stretch = int(self._order[1][at])
        owner = int(self.owner[stretch])
        clip = self.clips[owner]
        offset = int(np.random.default_rng([self.seed, 3, round_, owner]).integers(self.count))
        start = int(self.place[stretch]) * self.count - offset
        return clip.crop(min(max(start, 0), max(0, len(clip.units) - self.count)), self.count, self.hop)


def middle(clip: Clip, count: int, hop: int) -> Batch:
    """At most `count` units from the middle of a clip."""
    count = min(count, len(clip.units))
    return clip.crop((len(clip.units) - count) // 2, count, hop)


def held_out(ids: Sequence[str], validation: int, test: int, seed: int) -> dict[str, str]:
    """validation, test or train of each id: by a hash of (seed, id), each of the two a tenth of all at most.

    Raises:
        ValueError: fewer than 3 clips.
    """
    if len(ids) < 3:
        raise ValueError(f"{len(ids)} clips: one to train on, one to validate and one to test are the least")
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    most = max(1, len(ids) // 10)
    validation, test = min(validation, most), min(test, most)
    parts = ["validation"] * validation + ["test"] * test + ["train"] * (len(ids) - validation - test)
    return dict(zip(ranked, parts, strict=True))


def pitch_of(samples: np.ndarray, frames: int, hop: int, rate_hz: int) -> np.ndarray:
    """Log-F0 and voicing at the middle of each unit's hop, and the phase at its start; shape (frames, 3) float32.

    WORLD's DIO, refined by StoneMask (Morise et al. 2009), 71 to 800 Hz: a tenth of Harvest's time. Logarithms are
    relative to 150 Hz, so they are of the size of 1; unvoiced they are 0. The phase, in periods, goes on through each unit at its
    F0: part of the pitch, so that a chunk has the same as the whole.

    Raises:
        Failure: pyworld is not installed.
    """
    from voxmake.vocoder.packages import need

    pyworld = need("pyworld", "vocoder.f0")
    x = samples.astype(np.float64)
    rough, times = pyworld.dio(x, rate_hz, frame_period=1000 * hop / rate_hz / 2)
    f0 = pyworld.stonemask(x, rough, times, rate_hz)
    own = f0[np.minimum(2 * np.arange(frames) + 1, len(f0) - 1)]
    voiced = own > 0
    found = np.zeros((frames, 3), np.float32)
    found[voiced, 0] = np.log(own[voiced] / BASE_HZ)
    found[:, 1] = voiced
    found[1:, 2] = np.cumsum(own * hop / rate_hz)[:-1] % 1
    return found
