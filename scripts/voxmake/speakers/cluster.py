"""From speaker embeddings to speakers, with the count given or found.

Vectors have norm 1 and are compared by cosine distance, which is what speaker encoders are trained
on. `agglomerative` is average linkage; above a few thousand clips it works on the centroids of
small k-means clusters, in memory that grows with the number of clips and not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOISE = -1
_EXACT = 2000  # up to so many vectors, linkage is over all of them
_MICRO = 1000  # small clusters that stand for more
_MOST_SPEAKERS = 400  # counts that are tried when none is given
_NO_STRUCTURE = 0.25  # silhouettes below it: "no substantial structure" (Kaufman and Rousseeuw 1990, table 4)


@dataclass(frozen=True)
class Clustering:
    """Which speaker each clip has.

    Attributes:
        labels: shape (n,), 0 to k-1 by falling size; NOISE: no speaker.
        chosen_by: how the count came about, in words.
        silhouette: of the labels, -1 to 1; None for a single speaker.
    """

    labels: np.ndarray
    chosen_by: str
    silhouette: float | None


def cluster(
    vectors: np.ndarray,
    method: str,
    same_speaker: float,
    fewest: int | None = None,
    most: int | None = None,
    min_clips: int = 5,
    seed: int = 0,
) -> Clustering:
    """Group vectors by speaker.

    Args:
        vectors: shape (n, d), norm 1.
        method: agglomerative, kmeans or hdbscan.
        same_speaker: mean cosine distance below which two groups are one voice.
        fewest, most: bounds on the count; equal: the count. hdbscan finds its own count.
        min_clips: clips that a speaker should have: hdbscan's smallest cluster; where the count is
            looked for, smaller groups join a near one. In sets below ten times it, a tenth of the set.
    """
    count = len(vectors)
    most = min(most or count, count)
    fewest = min(fewest or 1, most)
    if count == 1 or most == 1:
        return Clustering(np.zeros(count, int), "one clip" if count == 1 else "given", None)
    min_clips = max(1, min(min_clips, count // 10))  # a set of twenty may hold a speaker with two clips
    if method == "hdbscan":
        from sklearn.cluster import HDBSCAN

        found = HDBSCAN(min_cluster_size=max(2, min_clips), copy=True).fit_predict(vectors)
        return Clustering(_by_size(found), "density (HDBSCAN)", None)
    small, weights, member = _stand_ins(vectors, seed)
    if method == "kmeans":
        return _kmeans(vectors, small, weights, member, fewest, most, seed)
    return _agglomerative(vectors, small, weights, member, fewest, most, same_speaker, min_clips, seed)


def _stand_ins(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors to link, how many clips each stands for, and which one each clip belongs to."""
    if len(vectors) <= _EXACT:
        return vectors, np.ones(len(vectors)), np.arange(len(vectors))
    from sklearn.cluster import KMeans

    fit = KMeans(_MICRO, init="random", n_init=1, max_iter=8, tol=0, random_state=seed).fit(vectors)
    used, member, weights = np.unique(fit.labels_, return_inverse=True, return_counts=True)
    return _normalised(fit.cluster_centers_[used]), weights.astype(float), member


def _agglomerative(vectors, small, weights, member, fewest, most, same_speaker, min_clips, seed) -> Clustering:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distances = _distances(small)
    tree = linkage(squareform(distances, checks=False), method="average")
    if fewest == most:
        # A few odd clips can take whole groups of the tree: then k-means has the better silhouette.
        tries = fcluster(tree, most, "maxclust"), _votes(_kmeans_labels(vectors, most, seed), member, len(small))
        labels = max(tries, key=lambda labels: _silhouette(distances, weights, labels))
        chosen_by = "given"
    elif fewest == 1 and (apart := _widest_merge(tree, weights, min_clips)) < same_speaker:
        labels, chosen_by = np.ones(len(small), int), f"one voice: groups are at most {apart:.2f} apart"
    else:
        upper = max(fewest, 2, min(most, len(vectors) // min_clips, len(small) - 1, _MOST_SPEAKERS))
        scores = _silhouettes(distances, weights, fcluster(tree, upper, "maxclust"), tree, max(2, fewest))
        best = max(scores, key=lambda k: (scores[k], -k))
        if scores[best] >= _NO_STRUCTURE:
            labels, chosen_by = fcluster(tree, best, "maxclust"), f"best silhouette, {scores[best]:.2f}"
        else:
            labels = fcluster(tree, same_speaker, "distance")
            chosen_by = f"distance {same_speaker:g}; no count stands out (best silhouette {scores[best]:.2f})"
            if not fewest <= labels.max() <= most:
                labels = fcluster(tree, min(max(labels.max(), fewest), most), "maxclust")
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels[member]
    if len(small) < len(vectors):
        labels = _settle(vectors, labels)
    if fewest < most:
        labels = _absorb(vectors, labels, min_clips, same_speaker, fewest)
    labels = _by_size(labels)
    return Clustering(labels, chosen_by, _silhouette_of(vectors, labels))


def _kmeans(vectors, small, weights, member, fewest, most, seed) -> Clustering:
    if fewest == most:
        labels = _by_size(_kmeans_labels(vectors, most, seed))
        return Clustering(labels, "given", _silhouette_of(vectors, labels))
    distances = _distances(small)
    counts = range(max(fewest, 2), max(fewest, 2, min(most, len(small) - 1, 30)) + 1)
    fits = {count: _kmeans_labels(vectors, count, seed) for count in counts}
    scores = {k: _silhouette(distances, weights, _votes(fit, member, len(small))) for k, fit in fits.items()}
    best = max(scores, key=lambda k: (scores[k], -k))
    labels = _by_size(fits[best])
    told = f"best silhouette, {scores[best]:.2f}, of {counts[0]} to {counts[-1]} speakers"
    return Clustering(labels, told, _silhouette_of(vectors, labels))


def _kmeans_labels(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    # norm 1: the order of Euclidean distances is that of cosine distances
    return KMeans(count, n_init=5, random_state=seed).fit(vectors).labels_


def _votes(labels: np.ndarray, member: np.ndarray, stand_ins: int) -> np.ndarray:
    """The label that most clips of each stand-in have."""
    votes = np.zeros((stand_ins, labels.max() + 1))
    np.add.at(votes, (member, labels), 1)
    return votes.argmax(axis=1)


def _settle(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every clip to its nearest centroid, until nothing changes or five times over."""
    for _ in range(5):
        centroids = np.stack([_normalised(vectors[labels == k].mean(axis=0)) for k in range(labels.max() + 1)])
        nearest = (vectors @ centroids.T).argmax(axis=1)
        if len(np.unique(nearest)) < len(centroids) or np.array_equal(nearest, labels):
            return labels
        labels = nearest
    return labels


def _absorb(vectors: np.ndarray, labels: np.ndarray, min_clips: int, same_speaker: float, fewest: int) -> np.ndarray:
    """Odd clips of a voice are no voice: small groups join a large one that is near enough."""
    sizes = np.bincount(labels)
    large = np.flatnonzero(sizes >= min_clips)
    labels = labels.copy()
    for group in sorted(np.flatnonzero(sizes < min_clips), key=lambda k: sizes[k]):
        if not len(large) or len(np.unique(labels)) <= fewest:
            break
        here = _normalised(vectors[labels == group].mean(axis=0))
        apart = [1.0 - float(here @ _normalised(vectors[labels == k].mean(axis=0))) for k in large]
        if min(apart) < same_speaker:
            labels[labels == group] = large[int(np.argmin(apart))]
    return np.unique(labels, return_inverse=True)[1]


def _widest_merge(tree: np.ndarray, weights: np.ndarray, min_clips: int) -> float:
    """Distance of the widest merge of two groups that both are large enough to be a speaker."""
    sizes, widest = list(weights), 0.0
    for left, right, height, _ in tree:
        a, b = sizes[int(left)], sizes[int(right)]
        sizes.append(a + b)
        if min(a, b) >= min_clips:
            widest = max(widest, float(height))
    return widest


def _by_size(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, … by falling size, then by first member; noise stays noise."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = sorted((k for k in range(len(names)) if names[k] != NOISE), key=lambda k: (-sizes[k], first[k]))
    new = {names[k]: position for position, k in enumerate(order)} | {NOISE: NOISE}
    return np.array([new[label] for label in labels])


def _distances(vectors: np.ndarray) -> np.ndarray:
    distances = 1.0 - vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(distances, 0.0)
    return np.clip((distances + distances.T) / 2, 0.0, None)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


# ---------------------------------------------------------------------------- silhouettes


def _silhouettes(distances, weights, labels, tree, fewest) -> dict[int, float]:
    """Mean silhouette (Rousseeuw 1987) of every cut of the tree, from that of `labels` down to `fewest` groups.

    Walks up the tree: one merge adds two columns of the sums of distances to groups.
    """
    names, labels = np.unique(labels, return_inverse=True)
    members = np.zeros((len(labels), len(names)))
    members[np.arange(len(labels)), labels] = weights
    sums, sizes = distances @ members, members.sum(axis=0)
    # which column each tree node under the cut is in: the nodes above it are merged one by one
    column = {leaf: int(label) for leaf, label in enumerate(labels)}
    scores = {}
    alive = np.ones(len(names), bool)
    for node, (left, right) in enumerate(tree[:, :2].astype(int), start=len(labels)):
        a, b = column.pop(left), column.pop(right)
        if a != b:
            if (count := int(alive.sum())) <= fewest - 1:
                break
            scores[count] = _score(sums[:, alive], sizes[alive], weights, np.cumsum(alive)[labels] - 1)
            sums[:, a] += sums[:, b]
            sizes[a] += sizes[b]
            alive[b] = False
            labels = np.where(labels == b, a, labels)
            column = {key: a if value == b else value for key, value in column.items()}
        column[node] = a
    return {count: score for count, score in scores.items() if count >= fewest}


def _silhouette(distances, weights, labels) -> float:
    names, labels = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return -1.0
    members = np.zeros((len(labels), len(names)))
    members[np.arange(len(labels)), labels] = weights
    return _score(distances @ members, members.sum(axis=0), weights, labels)


def _score(sums, sizes, weights, labels) -> float:
    rows = np.arange(len(labels))
    own_size = sizes[labels]
    inner = sums[rows, labels] / np.maximum(own_size - 1, 1e-12)
    means = sums / sizes
    means[rows, labels] = np.inf
    outer = means.min(axis=1)
    value = np.where(own_size > 1, (outer - inner) / np.maximum(np.maximum(outer, inner), 1e-12), 0.0)
    return float((value * weights).sum() / weights.sum())


def _silhouette_of(vectors: np.ndarray, labels: np.ndarray) -> float | None:
    """Silhouette of at most 2 000 clips, evenly taken."""
    if labels.max() < 1:
        return None
    chosen = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), _EXACT)).astype(int))
    return round(_silhouette(_distances(vectors[chosen]), np.ones(len(chosen)), labels[chosen]), 4)


# ---------------------------------------------------------------------------- centroids


def centroid(vectors: np.ndarray) -> np.ndarray:
    """The middle of a speaker's closest half, so that strays don't pull it (TTSizer's refinement)."""
    first = _normalised(vectors.mean(axis=0))
    nearest = np.argsort(1.0 - vectors @ first, kind="stable")[: (len(vectors) + 1) // 2]
    return _normalised(vectors[nearest].mean(axis=0))
