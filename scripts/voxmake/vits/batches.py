"""Clips of the dataset as training reads them: tokens, audio, and batches of clips of like length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Clip:
    """One clip to train on.

    Attributes:
        tokens: ids of the text.
        samples: length of the audio.
    """

    id: str
    path: Path
    text: str
    tokens: tuple[int, ...]
    samples: int
    speaker_id: int
    source: str = ""
    duration_s: float = 0.0


def random_of(*words: object) -> np.random.Generator:
    """Random numbers that hang on these words alone, as (seed, epoch): nothing to save, nothing to restore."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def epoch_batches(clips: Sequence[Clip], size: int, seed: int, epoch: int) -> list[list[Clip]]:
    """All clips in batches of like length, in an order of the epoch's own.

    Windows of a shuffled list are sorted by length, so batches change from epoch to epoch and little is padding.
    """
    order = random_of(seed, "epoch", epoch).permutation(len(clips))
    window = 32 * size
    batches = []
    for begin in range(0, len(order), window):
        near = sorted((clips[n] for n in order[begin : begin + window]), key=lambda clip: (clip.samples, clip.id))
        batches += [near[at : at + size] for at in range(0, len(near), size)]
    random_of(seed, "batches", epoch).shuffle(batches)
    return batches


def padding_ratio(batches: Sequence[Sequence[Clip]]) -> float:
    """Share of the samples that are padding."""
    padded = sum(max(clip.samples for clip in batch) * len(batch) for batch in batches)
    return 1 - sum(clip.samples for batch in batches for clip in batch) / padded


def load_batch(clips: Sequence[Clip], hop: int) -> dict[str, torch.Tensor]:
    """Read the audio of a batch; see `objective.align` for what is in it."""
    import soundfile
    import torch

    frames = [clip.samples // hop for clip in clips]
    wave = torch.zeros(len(clips), max(frames) * hop)
    tokens = torch.zeros(len(clips), max(len(clip.tokens) for clip in clips), dtype=torch.long)
    for number, clip in enumerate(clips):
        samples, _ = soundfile.read(clip.path, dtype="float32", frames=frames[number] * hop)
        wave[number, : len(samples)] = torch.from_numpy(samples)
        tokens[number, : len(clip.tokens)] = torch.tensor(clip.tokens)
    return {
        "tokens": tokens,
        "token_counts": torch.tensor([len(clip.tokens) for clip in clips]),
        "wave": wave,
        "frames": torch.tensor(frames),
        "speaker_ids": torch.tensor([clip.speaker_id for clip in clips]),
    }


def read_ahead(batches: Sequence[Sequence[Clip]], hop: int, threads: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches in their order, read while those before are worked on."""
    with ThreadPoolExecutor(threads) as pool:
        ahead = 2 * threads
        futures = [pool.submit(load_batch, batch, hop) for batch in batches[:ahead]]
        for number in range(len(batches)):
            batch = futures[number].result()
            futures[number] = None  # its memory
            if number + ahead < len(batches):
                futures.append(pool.submit(load_batch, batches[number + ahead], hop))
            yield batch
