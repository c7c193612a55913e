"""How good units are: use of the clusters, runs, bitrate, and agreement with phones where labels are given."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxmake.errors import BadInput

LABEL_COLUMNS = ("id", "start_s", "end_s", "phone")


def runs(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of equal units: the units, and the frames where runs begin with the end appended, one longer."""
    if len(units) == 0:
        return units, np.zeros(1, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(units)) + 1, [len(units)]])
    return units[starts[:-1]], starts


def entropy_bits(counts: np.ndarray) -> float:
    """Shannon entropy of a distribution given by counts, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


@dataclass(frozen=True)
class Phone:
    """One labelled stretch of a recording."""

    start_s: float
    end_s: float
    name: str


def read_labels(path: Path) -> dict[str, list[Phone]]:
    """Phones by id, in time order, from a CSV of id,start_s,end_s,phone.

    Raises:
        BadInput: a row that can't be understood, with its line number.
    """
    found: dict[str, list[Phone]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != LABEL_COLUMNS:
            raise BadInput(f"{path}:1: the first line must be {','.join(LABEL_COLUMNS)}")
        for row in reader:
            try:
                phone = Phone(float(row["start_s"]), float(row["end_s"]), row["phone"])
            except (TypeError, ValueError):
                raise BadInput(f"{path}:{reader.line_num}: start_s and end_s must be numbers") from None
            if not (0 <= phone.start_s < phone.end_s) or not phone.name:
                raise BadInput(f"{path}:{reader.line_num}: needs 0 <= start_s < end_s and a phone")
            found[row["id"]].append(phone)
    return {name: sorted(phones, key=lambda phone: phone.start_s) for name, phones in found.items()}


def phone_at(phones: Sequence[Phone], times_s: np.ndarray) -> np.ndarray:
    """Number of the phone at each time, -1 between phones. Shape as times_s."""
    starts = np.array([phone.start_s for phone in phones])
    ends = np.array([phone.end_s for phone in phones])
    place = np.searchsorted(starts, times_s, side="right") - 1
    return np.where((place >= 0) & (times_s < ends[place.clip(0)]), place, -1)


def pnmi(joint: np.ndarray) -> float:
    """Phone-normalised mutual information, I(phone; unit) / H(phone), of counts [phones, units] (HuBERT, 2106.07447)."""
    phones, units = entropy_bits(joint.sum(axis=1)), entropy_bits(joint.sum(axis=0))
    return (phones + units - entropy_bits(joint.ravel())) / phones if phones > 0 else 0.0


@dataclass
class Boundaries:
    """Boundaries of units against those of phones, within a tolerance; each counts once."""

    hits: int = 0
    found: int = 0
    true: int = 0

    def add(self, found_s: np.ndarray, true_s: np.ndarray, tolerance_s: float) -> None:
        """Match in time order, the earliest that is near enough first."""
        self.found, self.true = self.found + len(found_s), self.true + len(true_s)
        at = 0
        for time_s in true_s:
            while at < len(found_s) and found_s[at] < time_s - tolerance_s - 1e-9:
                at += 1
            if at < len(found_s) and found_s[at] <= time_s + tolerance_s + 1e-9:
                self.hits, at = self.hits + 1, at + 1

    @property
    def precision(self) -> float:
        return self.hits / max(self.found, 1)

    @property
    def recall(self) -> float:
        return self.hits / max(self.true, 1)

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(self.found + self.true, 1)

    @property
    def r_value(self) -> float:
        """1 is perfect; over-segmentation is punished, which F1 forgives (Räsänen et al. 2009)."""
        over = self.found / max(self.true, 1) - 1
        miss = 1 - self.recall
        return 1 - (np.hypot(miss, over) + abs((self.recall - 1 - over) / np.sqrt(2))) / 2
