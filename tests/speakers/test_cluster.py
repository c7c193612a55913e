"""Speakers from vectors: synthetic ones whose distances are those measured on real voices."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from voxmake.speakers.cluster import NOISE, centroid, cluster

SAME = 0.32


def voices(sizes: list[int], within: float = 0.18, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around non-negative centres: about `within` apart in a voice, 0.5 between two."""
    rng = np.random.default_rng(seed)
    centres = np.maximum(rng.standard_normal((len(sizes), 128)), 0)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    spread = rng.standard_normal((len(labels), 128)) * np.sqrt(within / 128)
    vectors = centres[labels] + spread
    order = rng.permutation(len(labels))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[order], labels[order]


@pytest.mark.parametrize("sizes", [[30], [40, 40], [60, 7, 25], [12] * 9, [300, 20, 20, 20]])
def test_the_count_is_found(sizes):
    vectors, truth = voices(sizes)
    found = cluster(vectors, "agglomerative", SAME)
    assert adjusted_rand_score(truth, found.labels) == 1.0
    assert found.labels.max() + 1 == len(sizes)
    assert (found.silhouette is None) == (len(sizes) == 1)


@pytest.mark.parametrize("method", ["agglomerative", "kmeans"])
def test_the_count_is_given(method):
    vectors, truth = voices([25, 25, 25, 25])
    for count in (1, 2, 4, 7):
        labels = cluster(vectors, method, SAME, count, count).labels
        assert len(np.unique(labels)) == count
    assert adjusted_rand_score(truth, cluster(vectors, method, SAME, 4, 4).labels) == 1.0


@pytest.mark.parametrize("method", ["agglomerative", "kmeans"])
def test_the_count_stays_within_bounds(method):
    vectors, _ = voices([20] * 6)
    assert cluster(vectors, method, SAME, fewest=8).labels.max() + 1 >= 8
    assert cluster(vectors, method, SAME, most=3).labels.max() + 1 <= 3
    assert cluster(voices([40])[0], method, SAME, fewest=2).labels.max() + 1 >= 2


def test_speakers_are_numbered_by_size():
    vectors, _ = voices([10, 40, 20])
    labels = cluster(vectors, "agglomerative", SAME).labels
    assert list(np.bincount(labels)) == [40, 20, 10]


def test_stray_clips_are_no_speakers():
    vectors, truth = voices([60, 60])
    rng = np.random.default_rng(3)
    strays = vectors[:3] + rng.standard_normal((3, 128)).astype(np.float32) * 0.05
    strays /= np.linalg.norm(strays, axis=1, keepdims=True)
    labels = cluster(np.concatenate([vectors, strays]), "agglomerative", SAME).labels
    assert labels.max() == 1
    assert adjusted_rand_score(np.concatenate([truth, truth[:3]]), labels) == 1.0


def test_hdbscan_leaves_noise_without_a_speaker():
    vectors, truth = voices([40, 40])
    far = np.eye(128, dtype=np.float32)[:3] * -1.0
    labels = cluster(np.concatenate([vectors, far]), "hdbscan", SAME).labels
    assert set(labels[-3:]) == {NOISE}
    assert adjusted_rand_score(truth[labels[:80] >= 0], labels[:80][labels[:80] >= 0]) == 1.0


def test_many_clips_are_clustered_through_stand_ins():
    vectors, truth = voices([400, 800, 300, 500, 900])
    found = cluster(vectors, "agglomerative", SAME)
    assert adjusted_rand_score(truth, found.labels) > 0.999
    again = cluster(vectors, "agglomerative", SAME)
    assert np.array_equal(found.labels, again.labels)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("method", ["agglomerative", "kmeans", "hdbscan"])
def test_very_few_clips(method, count):
    labels = cluster(voices([count])[0], method, SAME).labels
    assert len(labels) == count


def test_the_centroid_is_not_pulled_by_strays():
    vectors, _ = voices([20])
    stray = np.eye(128, dtype=np.float32)[0] * -1
    with_strays = np.concatenate([vectors, np.repeat(stray[None], 8, axis=0)])
    assert float(centroid(vectors) @ centroid(with_strays)) > 0.97
