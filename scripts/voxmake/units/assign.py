"""Frames to their nearest centroids: blocks of one matrix product each, several at once, results in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from voxmake.units.frames import Frames

BLOCK = 8192  # frames in one matrix product; part of the result's bytes, so no setting
_FEW_DIMENSIONS = 128


class Centroids:
    """Centroids ready to be compared with blocks of frames."""

    def __init__(self, values: np.ndarray):
        self.values = np.ascontiguousarray(values, np.float32)
        self.half_norms = 0.5 * np.einsum("kd,kd->k", self.values, self.values)
        # With few dimensions the subtraction takes as long as the product: there it is one dimension more of it.
        self.appended = None
        if self.values.shape[1] <= _FEW_DIMENSIONS:
            self.appended = np.concatenate([self.values, -self.half_norms[:, None]], axis=1)

    def scores(self, block: np.ndarray) -> np.ndarray:
        """x·c - |c|²/2 of every frame and centroid, shape (n, K): the largest is the nearest."""
        if self.appended is None:
            scores = block @ self.values.T
            scores -= self.half_norms
            return scores
        longer = np.empty((len(block), block.shape[1] + 1), np.float32)
        longer[:, :-1] = block
        longer[:, -1] = 1
        return longer @ self.appended.T

    def nearest(self, block: np.ndarray) -> np.ndarray:
        """Number of the nearest centroid of each frame."""
        return self.scores(block).argmax(axis=1)

    def add_up(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Sums and counts of each centroid's frames, and the sum of the best scores.

        The sum of |x|² minus twice the last is the sum of squared distances.
        """
        from scipy.sparse import csr_matrix

        scores = self.scores(block)
        labels = scores.argmax(axis=1)
        best = float(np.take_along_axis(scores, labels[:, None], axis=1).sum(dtype=np.float64))
        clusters = len(self.values)
        counts = np.bincount(labels, minlength=clusters)
        edges = np.concatenate([[0], np.cumsum(counts)])
        ones = np.ones(len(block), np.float32)
        members = csr_matrix((ones, np.argsort(labels, kind="stable"), edges), shape=(clusters, len(block)))
        return members @ block, counts, best

    def distances(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and squared distances, never below 0."""
        scores = self.scores(block)
        labels = scores.argmax(axis=1)
        best = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
        return labels, np.maximum(np.einsum("nd,nd->n", block, block) - 2 * best, 0)


def labels_of(frames: Frames, centroids: np.ndarray, threads: int) -> np.ndarray:
    """The nearest centroid of every frame, shape (total,), int16."""
    from threadpoolctl import threadpool_limits

    compared = Centroids(centroids)
    found = np.empty(frames.total, np.int16)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        starts = range(0, frames.total, BLOCK)
        work = in_order(pool, lambda start: compared.nearest(block_of(frames, start)), starts)
        for start, labels in zip(starts, work, strict=True):
            found[start : start + len(labels)] = labels
    return found


def block_of(frames: Frames, start: int) -> np.ndarray:
    return frames.block(start, min(start + BLOCK, frames.total))


def in_order(pool: ThreadPoolExecutor, task: Callable, starts: range) -> Iterator[Any]:
    """Results in the order of the blocks, with no more blocks in memory than threads can use."""
    waiting: deque[Future] = deque()
    for start in starts:
        waiting.append(pool.submit(task, start))
        if len(waiting) > pool._max_workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
