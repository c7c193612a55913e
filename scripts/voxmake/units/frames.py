"""Frames of all clips in files on disk, read in blocks: features never have to fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np


class Frames(Protocol):
    """What k-means reads."""

    total: int
    dims: int

    def block(self, start: int, stop: int) -> np.ndarray:
        """Frames [start, stop) as float32, shape (stop - start, dims)."""
        ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Frames by ascending number as float32, shape (len(indices), dims)."""
        ...


class FileFrames:
    """Raw little-endian files of one clip each, in the order given.

    Args:
        paths: shape (frames, dims) each, C order.
        lengths: frames of each.
        dtype: "float16" or "float32".
    """

    def __init__(self, paths: Sequence[Path], lengths: Sequence[int], dims: int, dtype: str):
        self.paths, self.dims = list(paths), dims
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.total = int(self.offsets[-1])

    def block(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start, self.dims), np.float32)
        clip = int(np.searchsorted(self.offsets, start, side="right")) - 1
        at = start
        while at < stop:
            end = min(stop, int(self.offsets[clip + 1]))
            found[at - start : end - start] = self._read(clip, at - int(self.offsets[clip]), end - at)
            at, clip = end, clip + 1
        return found

    def take(self, indices: np.ndarray) -> np.ndarray:
        found = np.empty((len(indices), self.dims), np.float32)
        clips = np.searchsorted(self.offsets, indices, side="right") - 1
        edges = np.flatnonzero(np.diff(clips)) + 1
        for first, last in zip([0, *edges], [*edges, len(indices)], strict=True):
            clip = int(clips[first])
            own = indices[first:last] - self.offsets[clip]
            found[first:last] = self._read(clip, int(own[0]), int(own[-1] - own[0]) + 1)[own - own[0]]
        return found

    def _read(self, clip: int, start: int, count: int) -> np.ndarray:
        values = np.fromfile(
            self.paths[clip], self.dtype, count * self.dims, offset=start * self.dims * self.dtype.itemsize
        )
        return values.reshape(count, self.dims)


class ArrayFrames:
    """An array in memory, shape (frames, dims)."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self.total, self.dims = array.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.array[start:stop], np.float32)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return np.asarray(self.array[indices], np.float32)
