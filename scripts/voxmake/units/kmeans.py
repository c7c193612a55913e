"""K-means over more frames than memory holds, resumable at any block, to the same bytes on any number of cores.

Lloyd's iterations climb a ladder of samples: a few thousand frames, then four times as many, up to
`sample_frames` that stay in memory, and at last all frames, streamed from disk in blocks. So most of the
way is gone on little data, and the passes over everything are few. Every block is one matrix product in
one thread; sums of blocks are added in the blocks' order, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxmake.nets.checkpoint import Checkpoint
from voxmake.units.assign import BLOCK, Centroids, block_of, in_order
from voxmake.units.frames import ArrayFrames, Frames

# Frames that k-means++ chooses from; 8192 keep the distances of all pairs in 256 MiB.
_INIT_PER_CLUSTER, _INIT_LEAST, _INIT_MOST = 32, 2048, 8192
_INIT_ITERATIONS = 5  # Lloyd's, before inits are compared
_LADDER = 4  # each sample is so many times as large as the one before
_LADDER_TOLERANCE, _LADDER_ITERATIONS = 2e-3, 10
_SPLIT_FRAMES = 65536  # of the sample, in which an empty cluster finds its new place


@dataclass(frozen=True)
class Settings:
    """What decides the centroids.

    Attributes:
        clusters: how many.
        method: "lloyd" or "minibatch" (scikit-learn's partial_fit).
        n_init: k-means++ draws; the best goes on.
        max_iterations: passes over all frames, at most.
        tolerance: a pass that lowers the inertia by less than this part is the last.
        sample_frames: frames in memory.
        epochs, batch_frames: of minibatch.
        seed: of every draw.
    """

    clusters: int
    method: str = "lloyd"
    n_init: int = 8
    max_iterations: int = 30
    tolerance: float = 1e-4
    sample_frames: int = 262144
    epochs: int = 10
    batch_frames: int = 10000
    seed: int = 42


@dataclass
class Fit:
    """Centroids [K, D] float32; mean squared distance of a frame after each pass over all frames; passes of each step."""

    centroids: np.ndarray
    inertia: list[float] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)


def fit(
    frames: Frames,
    settings: Settings,
    threads: int,
    checkpoint: Checkpoint,
    say: Callable[[str], None] = lambda line: None,
) -> Fit:
    """Cluster all frames.

    Args:
        threads: blocks worked on at once; no part of the result.
        checkpoint: where it goes on from, and saves to.

    Raises:
        ValueError: fewer frames than clusters.
    """
    from threadpoolctl import threadpool_limits

    if frames.total < settings.clusters:
        raise ValueError(f"{frames.total} frames are too few for {settings.clusters} clusters")
    sample = draw_sample(frames, min(settings.sample_frames, frames.total), settings.seed)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        if settings.method == "minibatch":
            return _minibatch(frames, sample, settings, pool, checkpoint, say)
        return _lloyd(frames, sample, settings, pool, checkpoint, say)


def draw_sample(frames: Frames, count: int, seed: int) -> np.ndarray:
    """Frames drawn from all recordings alike, in random order: any first part is a sample too. Shape (count, D)."""
    rng = np.random.default_rng([seed, 1])
    chosen = np.sort(rng.choice(frames.total, count, replace=False, shuffle=False))
    place = rng.permutation(count)
    sample = np.empty((count, frames.dims), np.float32)
    for start in range(0, count, BLOCK):
        sample[place[start : start + BLOCK]] = frames.take(chosen[start : start + BLOCK])
    return sample


# ---------------------------------------------------------------------------- Lloyd


@dataclass
class _State:
    """Where Lloyd's iterations are: the step of the ladder, its pass, the next block, and the pass's sums."""

    centroids: np.ndarray
    step: int = 0
    iteration: int = 0
    cursor: int = 0
    sums: np.ndarray = None
    counts: np.ndarray = None
    best: float = 0.0  # sum of x·c - |c|²/2
    square: float = 0.0  # sum of |x|², of the step's first pass
    inertia: float = 0.0  # of the pass before
    history: list[float] = field(default_factory=list)
    passes: dict[str, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.cursor, self.best = 0, 0.0
        self.sums = np.zeros(self.centroids.shape, np.float64)
        self.counts = np.zeros(len(self.centroids), np.int64)

    _ARRAYS = ("centroids", "sums", "counts")
    _FACTS = ("step", "iteration", "cursor", "best", "square", "inertia", "history", "passes")

    def save(self, checkpoint: Checkpoint, seed: int) -> None:
        facts = {name: getattr(self, name) for name in self._FACTS}
        # Every draw is over before the first pass, each with a generator of (seed, purpose): this is all its state.
        checkpoint.save({name: getattr(self, name) for name in self._ARRAYS}, facts | {"random": [seed]})

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> _State | None:
        found = checkpoint.load()
        if found is None:
            return None
        arrays, facts = found
        facts.pop("random")
        return cls(**arrays, **facts)


def _lloyd(frames: Frames, sample: np.ndarray, settings: Settings, pool, checkpoint: Checkpoint, say) -> Fit:
    ladder = _ladder(len(sample), settings.clusters)
    steps: list[Frames] = [ArrayFrames(sample[:size]) for size in ladder]
    if frames.total > len(sample):
        steps.append(frames)
    state = _State.load(checkpoint)
    if state is None:
        state = _State(_initial(sample[: ladder[0]], settings))
        state.clear()
    else:
        say(f"k-means goes on at step {state.step + 1} of {len(steps)}, pass {state.iteration + 1}")
    while state.step < len(steps):
        last = state.step == len(steps) - 1
        at_most = settings.max_iterations if last else _LADDER_ITERATIONS
        tolerance = settings.tolerance if last else _LADDER_TOLERANCE
        current = steps[state.step]
        while state.iteration < at_most:
            _pass(current, state, settings.seed, pool, checkpoint)
            inertia = max(state.square - 2 * state.best, 0.0) / current.total
            before, state.inertia = state.inertia, inertia
            _move(state, sample)
            state.iteration += 1
            if last:
                state.history.append(inertia)
            say(f"k-means over {current.total} frames, pass {state.iteration}: {inertia:.6g} a frame")
            settled = state.iteration > 1 and before - inertia <= tolerance * before
            if checkpoint.due() and not settled:
                state.save(checkpoint, settings.seed)
            if settled:
                break
        state.passes[f"{current.total} frames"] = state.iteration
        state.step, state.iteration, state.square = state.step + 1, 0, 0.0
    return Fit(state.centroids.astype(np.float32), state.history, state.passes)


def _ladder(most: int, clusters: int) -> list[int]:
    sizes = [min(most, min(max(_INIT_PER_CLUSTER * clusters, _INIT_LEAST), _INIT_MOST))]
    sizes[0] = min(most, max(sizes[0], clusters))
    while sizes[-1] < most:
        larger = sizes[-1] * _LADDER
        sizes.append(larger if larger * 2 <= most else most)
    return sizes


def _pass(frames: Frames, state: _State, seed: int, pool: ThreadPoolExecutor, checkpoint: Checkpoint) -> None:
    """Add up the frames nearest to each centroid, from the state's cursor to the end."""
    compared = Centroids(state.centroids)
    first = state.iteration == 0

    def add_up(start: int) -> tuple[np.ndarray, np.ndarray, float, float]:
        block = block_of(frames, start)
        square = float(np.einsum("nd,nd->n", block, block).sum(dtype=np.float64)) if first else 0.0
        return *compared.add_up(block), square

    for sums, counts, best, square in in_order(pool, add_up, range(state.cursor, frames.total, BLOCK)):
        state.sums += sums
        state.counts += counts
        state.best += best
        state.square += square
        state.cursor += BLOCK
        if checkpoint.due():
            state.save(checkpoint, seed)


def _move(state: _State, sample: np.ndarray) -> None:
    """Centroids to the means of their frames; one that has none splits the most spread cluster of the sample."""
    alive = state.counts > 0
    state.centroids = state.centroids.astype(np.float64)
    state.centroids[alive] = state.sums[alive] / state.counts[alive, None]
    state.centroids = state.centroids.astype(np.float32)
    if not alive.all():
        _reseed(state.centroids, np.flatnonzero(~alive), sample[:_SPLIT_FRAMES])
    state.clear()


def _reseed(centroids: np.ndarray, dead: np.ndarray, sample: np.ndarray) -> None:
    """Put each dead centroid into the cluster with the largest sum of squared distances: at its farther half's mean."""
    compared = Centroids(centroids)
    labels, distances = (
        np.concatenate(part)
        for part in zip(*(compared.distances(sample[i : i + BLOCK]) for i in range(0, len(sample), BLOCK)), strict=True)
    )
    spread = np.bincount(labels, distances, minlength=len(centroids))
    spread[dead] = 0
    for cluster in dead:
        widest = int(spread.argmax())
        if spread[widest] <= 0:  # fewer different frames than clusters
            return
        own = np.flatnonzero(labels == widest)
        far = own[np.argsort(distances[own], kind="stable")[len(own) // 2 :]]
        centroids[cluster] = sample[far].mean(axis=0, dtype=np.float64)
        spread[widest] = 0


# ---------------------------------------------------------------------------- k-means++


def _initial(sample: np.ndarray, settings: Settings) -> np.ndarray:
    """The best of n_init k-means++ draws after a few of Lloyd's iterations. Shape (K, D), float32."""
    squares = np.einsum("nd,nd->n", sample, sample)
    # All pairs at once: every draw is then a look-up, not a pass over the sample.
    pairs = sample @ sample.T
    pairs *= -2
    pairs += squares
    pairs += squares[:, None]
    np.maximum(pairs, 0, out=pairs)
    candidates = []
    for draw in range(settings.n_init):
        chosen = _plus_plus(pairs, settings.clusters, np.random.default_rng([settings.seed, 2, draw]))
        state = _State(sample[chosen].copy())
        state.clear()
        for _ in range(_INIT_ITERATIONS):
            sums, counts, _ = Centroids(state.centroids).add_up(sample)
            state.sums += sums
            state.counts += counts
            _move(state, sample)
        candidates.append((-Centroids(state.centroids).add_up(sample)[2], draw, state.centroids))
    return min(candidates, key=lambda one: one[:2])[2]


def _plus_plus(pairs: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007, with 2 + log k trials as in their own code) over all pairs.

    Args:
        pairs: squared distances, shape (n, n).

    Returns:
        numbers of the chosen frames, shape (clusters,).
    """
    trials = 2 + int(np.log(clusters))
    chosen = [int(rng.integers(len(pairs)))]
    nearest = pairs[chosen[0]]
    while len(chosen) < clusters:
        total = np.cumsum(nearest, dtype=np.float64)
        draws = np.searchsorted(total, rng.random(trials) * total[-1], side="right").clip(0, len(pairs) - 1)
        left = np.minimum(nearest, pairs[draws])
        best = int(left.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(draws[best]))
        nearest = left[best]
    return np.array(chosen)


# ---------------------------------------------------------------------------- minibatch


def _minibatch(frames: Frames, sample: np.ndarray, settings: Settings, pool, checkpoint: Checkpoint, say) -> Fit:
    """scikit-learn's MiniBatchKMeans.partial_fit over shuffled batches.

    Each epoch takes the blocks in an order of its own, and shuffles the frames of a dozen blocks together. No
    centroid is moved at random in between (reassignment_ratio 0, as HuBERT's recipe has it).
    """
    from sklearn.cluster import MiniBatchKMeans

    start = _initial(sample[: _ladder(len(sample), settings.clusters)[0]], settings)
    model = MiniBatchKMeans(
        settings.clusters, init=start, n_init=1, batch_size=settings.batch_frames, reassignment_ratio=0.0,
        random_state=settings.seed,
    )  # fmt: skip
    together = max(1, 12 * settings.batch_frames // BLOCK)
    blocks = -(-frames.total // BLOCK)
    epoch, cursor = 0, 0
    if (found := checkpoint.load()) is not None:
        arrays, facts = found
        epoch, cursor = facts["epoch"], facts["cursor"]
        _restore(model, arrays, facts, sample[: settings.clusters])
        say(f"k-means goes on at epoch {epoch + 1}")
    while epoch < settings.epochs:
        order = np.random.default_rng([settings.seed, 3, epoch]).permutation(blocks)
        while cursor < blocks:
            mixed = np.concatenate(
                [block_of(frames, int(number) * BLOCK) for number in order[cursor : cursor + together]]
            )
            np.random.default_rng([settings.seed, 4, epoch, cursor]).shuffle(mixed)
            for begin in range(0, len(mixed), settings.batch_frames):
                model.partial_fit(mixed[begin : begin + settings.batch_frames])
            cursor += together
            if checkpoint.due():
                checkpoint.save(*_kept(model, epoch, cursor))
        epoch, cursor = epoch + 1, 0
        say(f"k-means, epoch {epoch} of {settings.epochs}")
    return Fit(model.cluster_centers_.astype(np.float32), [], {f"{frames.total} frames": settings.epochs})


def _kept(model, epoch: int, cursor: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All that partial_fit goes on from: centroids, counts of frames so far, its random state."""
    name, keys, *rest = model._random_state.get_state()
    return (
        {"centroids": model.cluster_centers_, "counts": model._counts, "keys": keys},
        {"epoch": epoch, "cursor": cursor, "random": [name, *rest], "since": int(model._n_since_last_reassign)},
    )


def _restore(model, arrays: dict[str, np.ndarray], facts: dict[str, Any], some: np.ndarray) -> None:
    model.partial_fit(some)  # makes the attributes that the next lines set
    model.cluster_centers_, model._counts = arrays["centroids"], arrays["counts"]
    model._n_since_last_reassign = facts["since"]
    name, *rest = facts["random"]
    model._random_state.set_state((name, arrays["keys"], *rest))
