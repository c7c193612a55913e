"""Texts and recordings that stand in a set more than once, and what of them leaks between splits."""

from __future__ import annotations

import base64
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np


def text_key(text: str) -> str:
    """A text as duplicates are sought: NFKC, case folded, letters, marks and digits only, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in folded).split())


def groups_of(keys: Iterable[Any]) -> list[list[int]]:
    """Indices that share a key, for keys that occur more than once; empty keys are none."""
    found: dict[Any, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        if key:
            found[key].append(index)
    return [group for group in found.values() if len(group) > 1]


def pack(vectors: np.ndarray) -> str:
    """Fingerprint vectors (int16, shape (k, 128)) as text: 344 characters each, for a journal of 20 000 clips."""
    return base64.b64encode(vectors.astype("<i2").tobytes()).decode()


def unpack(text: str, anchors: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<i2").reshape(anchors, -1)


def add_duplicates(
    clips: list[dict[str, Any]], read: Callable[[int], np.ndarray], min_correlation: float | None
) -> dict[str, list[list[int]]]:
    """Add text_copies, audio_copies, near_copies, text_conflicts and leaks to every clip.

    Args:
        clips: with `text`, `split`, `audio_sha256`, `anchor_frames` and `anchor_vectors`.
        read: spectrogram of the clip at an index.
        min_correlation: of near-duplicates; None: don't look for them.

    Returns:
        indices of clips that belong together, by kind: text, audio, near (which holds more than
        one exact copy as well, if there are any beside the near ones).
    """
    keys = [text_key(clip["text"]) for clip in clips]
    texts = groups_of(keys)
    exact = groups_of(clip["audio_sha256"] for clip in clips)
    near = [] if min_correlation is None else _near_groups(clips, exact, read, min_correlation)
    for clip in clips:
        clip |= dict.fromkeys(("text_copies", "audio_copies", "near_copies", "text_conflicts", "leaks"), 0)
    together: dict[int, set[int]] = defaultdict(set)
    for column, groups in (("text_copies", texts), ("audio_copies", exact), ("near_copies", near)):
        for group in groups:
            wordings = Counter(keys[index] for index in group)
            for index in group:
                # Exact copies are told as such; near ones are those beside them.
                others = len(group) - 1 - (clips[index]["audio_copies"] if column == "near_copies" else 0)
                clips[index][column] = others
                if column != "text_copies":
                    differing = len(group) - wordings[keys[index]]
                    clips[index]["text_conflicts"] = max(clips[index]["text_conflicts"], differing)
                together[index].update(group)
    for index, others in together.items():
        clips[index]["leaks"] = sum(clips[other]["split"] != clips[index]["split"] for other in others)
    return {"text": texts, "audio": exact, "near": near}


def surplus(groups: list[list[int]], *, beside: list[list[int]] = ()) -> int:
    """Clips that could go because another one of their group stays; groups inside one of `beside` are counted there."""
    known = {index for group in beside for index in group}
    return sum(len(group) - 1 for group in groups if group[0] not in known)


def _near_groups(
    clips: Sequence[dict], exact: list[list[int]], read: Callable[[int], np.ndarray], min_correlation: float
) -> list[list[int]]:
    from voxmake.quality.fingerprint import near_duplicates

    copies = {index: group for group in exact for index in group}
    first = [index for index in range(len(clips)) if index not in copies or copies[index][0] == index]
    prints = [
        (clips[index]["anchor_frames"], unpack(clips[index]["anchor_vectors"], len(clips[index]["anchor_frames"])))
        for index in first
    ]
    groups = near_duplicates(prints, lambda place: read(first[place]), min_correlation)
    return [sorted(i for place in group for i in copies.get(first[place], [first[place]])) for group in groups]
