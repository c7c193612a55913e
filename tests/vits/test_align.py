"""Monotonic alignment search against every path there is, and against a plain dynamic program."""

from itertools import combinations

import numpy as np
import pytest

from voxmake.vits.align import best_paths


def plain(values):
    """The textbook dynamic program, one table of scores and one of where they came from; shape (frames, tokens)."""
    frames, tokens = values.shape
    best = np.full((frames, tokens), -np.inf)
    came_on = np.zeros((frames, tokens), bool)
    best[0, 0] = values[0, 0]
    for t in range(1, frames):
        for s in range(tokens):
            on = best[t - 1, s - 1] if s else -np.inf
            came_on[t, s] = on > best[t - 1, s]
            best[t, s] = values[t, s] + max(best[t - 1, s], on)
    path, s = np.zeros((frames, tokens), np.int32), tokens - 1
    for t in range(frames - 1, -1, -1):
        path[t, s] = 1
        s -= bool(came_on[t, s])
    return path, best[-1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_dynamic_program(seed):
    rng = np.random.default_rng(seed)
    frames = rng.integers(1, 60, 4)
    tokens = np.array([rng.integers(1, count + 1) for count in frames])
    values = rng.standard_normal((4, frames.max(), tokens.max())).astype(np.float32)
    found = best_paths(values, frames, tokens)
    for b, (f, t) in enumerate(zip(frames, tokens, strict=True)):
        expected, _ = plain(values[b, :f, :t].astype(np.float64))
        np.testing.assert_array_equal(found[b, :f, :t], expected)
        assert not found[b, f:].any() and not found[b, :, t:].any()


def test_no_path_is_better():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((1, 8, 4)).astype(np.float32)
    found = best_paths(values, np.array([8]), np.array([4]))[0]
    totals = []
    for starts in combinations(range(1, 8), 3):  # the frame at which each token but the first begins
        owner = np.searchsorted(starts, np.arange(8), side="right")
        totals.append(values[0, np.arange(8), owner].sum())
    assert (values[0] * found).sum() == pytest.approx(max(totals), abs=1e-5)


def test_the_input_is_left_alone():
    values = np.random.default_rng(0).standard_normal((2, 9, 5)).astype(np.float32)
    before = values.copy()
    best_paths(values, np.array([9, 7]), np.array([5, 5]))
    np.testing.assert_array_equal(values, before)
