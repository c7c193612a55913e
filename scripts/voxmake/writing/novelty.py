"""What only shows in a batch: repeated openers and near-duplicates, in less than quadratic time.

Scripts are compared within one host and kind, in the order of their ids, so that the first of a group stays
and later ones are found. Near-duplicates: Jaccard similarity of three-word shingles; candidates come from
MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3),
and each candidate is then compared exactly, so a hash never decides.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

_OPENER_WORDS = 4
_OPENER_SHARE = 10  # in a large group one tenth may begin alike: there are only so many ways to tell the time
_SHINGLE_WORDS = 3
_BANDS, _ROWS = 20, 4  # a pair of similarity 0.7 is missed once in 230, of 0.8 once in 35 000
_PRIME = np.uint64((1 << 31) - 1)


def repeated(
    scripts: Iterable[tuple[str, str, str]], most_same_opener: int, similarity: float
) -> dict[str, list[tuple[str, str]]]:
    """Findings by script id.

    Args:
        scripts: (id, group, text); only scripts of one group are compared.
        most_same_opener: scripts of a group that may begin with the same four words; a tenth of a large group may.
        similarity: Jaccard similarity from which two scripts are nearly the same, 0 to 1.

    Returns:
        id -> [(rule id, evidence), …]; scripts without a finding are not in it.
    """
    groups: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for item, group, text in sorted(scripts):
        groups[group].append((item, re.findall(r"[\w']+", text.lower())))
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for members in groups.values():
        openers: dict[tuple[str, ...], int] = defaultdict(int)
        most = max(most_same_opener, len(members) // _OPENER_SHARE)
        for item, tokens in members:
            opener = tuple(tokens[:_OPENER_WORDS])
            openers[opener] += 1
            if len(opener) == _OPENER_WORDS and openers[opener] > most:
                found[item].append(("repeated_opener", " ".join(opener)))
        for item, twin in _near_duplicates(members, similarity).items():
            found[item].append(("near_duplicate", twin))
    return dict(found)


def _near_duplicates(members: list[tuple[str, list[str]]], similarity: float) -> dict[str, str]:
    """Later script -> the earlier one that it is like."""
    shingles = [_shingles(tokens) for _, tokens in members]
    twins: dict[str, str] = {}
    dropped: set[int] = set()
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for later, signature in enumerate(_signatures(shingles)):
        keys = [(band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()) for band in range(_BANDS)]
        for earlier in sorted({one for key in keys for one in buckets[key]} - dropped):
            common = len(shingles[earlier] & shingles[later])
            if common >= similarity * len(shingles[earlier] | shingles[later]):
                twins[members[later][0]] = members[earlier][0]
                dropped.add(later)
                break
        if later not in dropped:  # a copy of a copy is found by the original: buckets stay small
            for key in keys:
                buckets[key].append(later)
    return twins


def _shingles(tokens: list[str]) -> frozenset[int]:
    count = max(1, len(tokens) - _SHINGLE_WORDS + 1)
    return frozenset(zlib.crc32(" ".join(tokens[at : at + _SHINGLE_WORDS]).encode()) for at in range(count))


def _signatures(shingles: list[frozenset[int]]) -> np.ndarray:
    """MinHash, shape (scripts, bands * rows), uint64."""
    rng = np.random.default_rng(0)  # which hash functions: no choice of a run
    factors = rng.integers(1, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
    shifts = rng.integers(0, int(_PRIME), _BANDS * _ROWS, dtype=np.uint64)
    signatures = np.empty((len(shingles), _BANDS * _ROWS), np.uint64)
    for row, one in enumerate(shingles):
        values = np.fromiter(one, np.uint64, len(one)) % _PRIME
        signatures[row] = ((values[:, None] * factors + shifts) % _PRIME).min(axis=0)
    return signatures
