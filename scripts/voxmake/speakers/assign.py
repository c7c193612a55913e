"""From clusters and people's corrections to named speakers, with how sure each clip is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from voxmake.errors import BadInput
from voxmake.review import Corrections, Row
from voxmake.speakers.cluster import NOISE, centroid, cluster
from voxmake.speakers.embed import Distances

DEFINITE, UNCERTAIN, OUTLIER, UNASSIGNED = "definite", "uncertain", "outlier", "noise"


@dataclass
class Clip:
    """One clip's speaker: `name` is empty for noise, which is no speaker."""

    id: str
    name: str
    reviewed: bool = False  # a person said so
    state: str = UNASSIGNED
    distance: float | None = None  # cosine, to the speaker's centroid
    nearest: str = ""
    nearest_distance: float | None = None


@dataclass
class Speakers:
    """All clips of a run with their speakers.

    Attributes:
        vectors: shape (n, d), in the order of `clips`.
        unknown: clip ids that corrections speak of and the run doesn't have.
    """

    clips: list[Clip]
    vectors: np.ndarray
    unknown: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        return sorted({clip.name for clip in self.clips if clip.name})

    def of(self, name: str) -> list[int]:
        return [index for index, clip in enumerate(self.clips) if clip.name == name]


def name_clusters(ids: list[str], vectors: np.ndarray, labels: np.ndarray) -> Speakers:
    """Speakers S01, S02, … by falling number of clips."""
    width = max(2, len(str(labels.max() + 1)))
    names = ["" if label == NOISE else f"S{label + 1:0{width}}" for label in labels]
    return Speakers([Clip(item, name) for item, name in zip(ids, names, strict=True)], vectors)


def correct(speakers: Speakers, corrections: Corrections) -> None:
    """Apply what people said: speakers first, in the order of the file, then single clips.

    Raises:
        BadInput: a row names a speaker that isn't there.
    """
    for row in corrections.speakers:
        members = speakers.of(row.id)
        if not members:
            known = ", ".join(speakers.names())
            raise BadInput(f"{corrections.path}:{row.line}: no speaker {row.id}; there are: {known}")
        if row.action == "split":
            _split(speakers, row, members)
            continue
        if row.action == "merge" and not speakers.of(row.value):
            raise BadInput(f"{corrections.path}:{row.line}: no speaker {row.value} to merge {row.id} into")
        for index in members:
            speakers.clips[index].name = "" if row.action == "reject" else row.value
            speakers.clips[index].reviewed |= row.action == "reject"
    by_id = {clip.id: clip for clip in speakers.clips}
    for item, name in corrections.moved.items():
        if item in by_id:
            by_id[item].name, by_id[item].reviewed = name, True
    for item in corrections.good & by_id.keys():
        by_id[item].reviewed = by_id[item].name != ""
    speakers.unknown = sorted({*corrections.moved, *corrections.good, *corrections.rejected} - by_id.keys())


def _split(speakers: Speakers, row: Row, members: list[int]) -> None:
    """One speaker becomes several, named after it: S04a, S04b, …"""
    parts = min(int(row.value), len(members))
    labels = cluster(speakers.vectors[members], "agglomerative", 0.0, parts, parts).labels
    for index, label in zip(members, labels, strict=True):
        speakers.clips[index].name = f"{row.id}{chr(ord('a') + label)}" if parts <= 26 else f"{row.id}-{label + 1}"


def measure(speakers: Speakers, bounds: Distances) -> None:
    """Distances of every clip to its own and the next speaker's centroid, and what they say of it."""
    names = speakers.names()
    if not names:
        return
    centroids = np.stack([centroid(speakers.vectors[speakers.of(name)]) for name in names])
    distances = 1.0 - speakers.vectors.astype(np.float64) @ centroids.T
    position = {name: index for index, name in enumerate(names)}
    for clip, row in zip(speakers.clips, distances, strict=True):
        own = position.get(clip.name)
        others = [index for index in range(len(names)) if index != own]
        if others:
            nearest = min(others, key=lambda index: row[index])
            clip.nearest, clip.nearest_distance = names[nearest], round(float(row[nearest]), 4)
        if own is None:
            clip.state = UNASSIGNED
            continue
        clip.distance = round(float(row[own]), 4)
        clip.state = _state(clip, bounds)


def _state(clip: Clip, bounds: Distances) -> str:
    if clip.reviewed:
        return DEFINITE
    if clip.distance > bounds.outlier:
        return OUTLIER
    nearer_to_another = clip.nearest_distance is not None and clip.nearest_distance < clip.distance
    return UNCERTAIN if clip.distance > bounds.uncertain or nearer_to_another else DEFINITE
