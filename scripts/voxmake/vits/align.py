"""Monotonic alignment search: which frame of the audio belongs to which token of the text.

Kim et al., Glow-TTS (arXiv 2005.11129), algorithm 1: the best path through log-likelihoods that starts at the first
token, ends at the last one, and at each frame stays or goes one token on. VITS searches it anew in every step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


@cache
def _compiled() -> Any:
    import numba

    return numba.njit(nogil=True)(_paths)


def _paths(values: np.ndarray, frames: np.ndarray, tokens: np.ndarray, path: np.ndarray) -> None:
    """Fill path (B, T_frames, T_tokens) with ones along the best paths; values are overwritten."""
    for b in range(values.shape[0]):
        n_frames, n_tokens = frames[b], tokens[b]
        score = values[b]
        for t in range(1, n_frames):
            # From token `last` to the left there is time enough to reach the last token.
            for s in range(max(0, n_tokens - n_frames + t), min(n_tokens, t + 1)):
                stay = score[t - 1, s] if s < t else -np.inf
                go_on = score[t - 1, s - 1] if s > 0 else -np.inf
                score[t, s] += max(stay, go_on)
        s = n_tokens - 1
        for t in range(n_frames - 1, -1, -1):
            path[b, t, s] = 1
            # At s == t every earlier frame has a token of its own; else go back where the score came from.
            if t > 0 and s > 0 and (s == t or score[t - 1, s - 1] > score[t - 1, s]):
                s -= 1


def best_paths(values: np.ndarray, frames: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The best monotonic path of each item of a batch.

    Args:
        values: log-likelihood of each frame under each token, float32, shape (B, T_frames, T_tokens).
        frames: frames of each item, shape (B,), each at least its tokens.
        tokens: tokens of each item, shape (B,).

    Returns:
        int32, shape (B, T_frames, T_tokens): 1 on the path, else 0.
    """
    path = np.zeros(values.shape, np.int32)
    values = np.array(values, np.float32, order="C")
    _compiled()(values, np.asarray(frames, np.int64), np.asarray(tokens, np.int64), path)
    return path
