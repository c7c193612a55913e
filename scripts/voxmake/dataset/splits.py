"""Train, validation and test: decided by a hash of the text, so that added clips move nothing.

The same words never stand on both sides, whoever speaks them: a model that has trained on a sentence is no
witness of how well it reads new ones. So it is the text that is hashed, not the clip's id, and every clip of a
text shares its split. A text is held out when its hash, a number in [0, 1), is below the wanted share; each
speaker then has about that share, and exactly that share of no set. This is the price of a split that a growing
set leaves alone: quotas would move clips with every addition.

One rule looks at a set as a whole: a speaker with too few held-out texts gives those with the next hashes. If
better ones arrive later, such a text goes back to training, at most `min_validation_per_speaker` of one speaker.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from voxmake.dataset.spec import Dataset

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


def text_key(text: str) -> str:
    """What two texts share that sound the same: letters and digits in lower case, words apart."""
    plain = "".join(c if c.isalnum() or c in "\u200c\u200d" else " " for c in text.casefold().replace("'", ""))
    return " ".join(plain.split()) or text


def assign_splits(spoken: Iterable[tuple[str, str]], seed: int, spec: Dataset) -> dict[str, str]:
    """Which split each text goes to.

    Args:
        spoken: speaker and `text_key` of every clip, in any order.

    Returns:
        text key -> split.
    """
    texts_of: dict[str, set[str]] = defaultdict(set)
    for speaker, key in spoken:
        texts_of[speaker].add(key)
    place = {key: _place(key, seed) for keys in texts_of.values() for key in keys}
    # validation from the low end, test from the high one: what a speaker has to add to validation comes from training
    splits = {
        key: VALIDATION if at < spec.validation_ratio else TEST if at >= 1 - spec.test_ratio else TRAIN
        for key, at in place.items()
    }
    if spec.validation_ratio > 0:
        for keys in texts_of.values():
            wanted = min(spec.min_validation_per_speaker, len(keys) // 2)
            for key in sorted(keys, key=place.__getitem__)[:wanted]:
                splits[key] = VALIDATION
    return splits


def _place(key: str, seed: int) -> float:
    """A number in [0, 1) that only the seed and the text decide."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
