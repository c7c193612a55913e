"""Rows of `make bench` on units: k-means and assignment against scikit-learn, both vocoders, and their training.

One core throughout: ratios of one core are ratios of many, and other work on the machine disturbs less.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from voxmake.bench.measuring import row

_FRAMES, _HELD_OUT, _CLUSTERS = 300_000, 20_000, 100
_EPOCHS, _BATCH = 10, 10_000
# Settings from the cheapest to the default, (frames in memory, passes over all): the first that is good enough counts.
_LADDER = ((16384, 1), (65536, 1), (131072, 1), (262144, 2), (262144, 30))


def rows() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return [*clustering(39), *clustering(1024), *synthesis(), *training()]


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def _frames(dims: int, count: int, seed: int) -> np.ndarray:
    """A mixture of 400 clusters of unequal size and spread: like speech, it has no 100 true ones."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((400, dims)).astype(np.float32)
    spreads = rng.uniform(0.3, 1.2, 400).astype(np.float32)
    weights = rng.dirichlet(np.full(400, 0.7))
    rng = np.random.default_rng(seed)
    own = rng.choice(400, count, p=weights)
    return centres[own] + spreads[own, None] * rng.standard_normal((count, dims), dtype=np.float32)


def clustering(dims: int) -> list[dict[str, Any]]:
    """Time to the held-out inertia of ten epochs of partial_fit, the default's time, and assignment by itself."""
    from sklearn.cluster import MiniBatchKMeans

    from voxmake.nets.checkpoint import Checkpoint
    from voxmake.units.assign import Centroids, labels_of
    from voxmake.units.frames import ArrayFrames
    from voxmake.units.kmeans import Settings, fit

    array, held_out = _frames(dims, _FRAMES, 1), _frames(dims, _HELD_OUT, 2)
    name = f"{_FRAMES // 1000}k x {dims}"

    def inertia(centroids: np.ndarray) -> float:
        return float(Centroids(centroids).distances(held_out)[1].mean(dtype=np.float64))

    def partial_fit() -> np.ndarray:
        model = MiniBatchKMeans(_CLUSTERS, batch_size=_BATCH, random_state=1, reassignment_ratio=0.0, n_init=1)
        for epoch in range(_EPOCHS):
            order = np.random.default_rng(epoch).permutation(_FRAMES)
            for start in range(0, _FRAMES, _BATCH):
                model.partial_fit(array[order[start : start + _BATCH]])
        return model.cluster_centers_.astype(np.float32)

    def ours(sample: int, passes: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            state = Checkpoint(Path(folder) / "state", "", 1e9)
            settings = Settings(_CLUSTERS, sample_frames=sample, max_iterations=passes, seed=1)
            return fit(ArrayFrames(array), settings, 1, state).centroids

    usual_s, usual = _timed(partial_fit)
    wanted, found = inertia(usual), []
    for settings in _LADDER:
        took_s, centroids = _timed(lambda settings=settings: ours(*settings))
        if inertia(centroids) <= wanted:
            found.append(
                row(f"k-means {name}: as good as", "s", took_s, "partial_fit, 10 epochs", usual_s, usual_s / took_s)
            )
            break
    full_s, full = _timed(lambda: ours(*_LADDER[-1]))
    gain = 100 * (1 - inertia(full) / wanted)
    found.append(
        row(
            f"k-means {name}: {gain:.2f} % lower inertia",
            "s",
            full_s,
            "partial_fit, 10 epochs",
            usual_s,
            usual_s / full_s,
        )
    )
    frames, half = ArrayFrames(array), np.ascontiguousarray(full.T)
    pairs = [
        (
            _timed(lambda: labels_of(frames, full, 1))[0],
            _timed(lambda: [array[start : start + 8192] @ half for start in range(0, _FRAMES, 8192)])[0],
        )
        for _ in range(5)
    ]
    assigned, product = (statistics.median(side) for side in zip(*pairs, strict=True))
    found.append(row(f"assignment {name}", "s", assigned, "the matrix product alone", product, product / assigned))
    return found


def synthesis() -> list[dict[str, Any]]:
    """Real-time factors of the default generators, whole and in chunks of a second; how far chunks are from the whole."""
    import torch

    from voxmake.vocoder.model import Facts, Vocoder, write_vocoder
    from voxmake.vocoder.spec import VocoderSpec

    torch.set_num_threads(1)
    units = np.random.default_rng(0).integers(0, 100, 500)  # 10 s
    found, speeds = [], {}
    for kind in ("vocos", "hifigan"):
        with tempfile.TemporaryDirectory() as folder:
            facts = Facts("0" * 64, 100, 320, [], VocoderSpec(generator=kind))
            write_vocoder(Path(folder), "vocoder_final", facts, facts.generator().state_dict())
            vocoder = Vocoder(Path(folder))
        vocoder.speak(units[:50], "0" * 64)
        speeds[kind], whole = _timed(lambda vocoder=vocoder: vocoder.speak(units, "0" * 64))
        chunked, pieces = _timed(lambda vocoder=vocoder: list(vocoder.stream(units, "0" * 64)))
        apart = float(np.abs(np.concatenate(pieces) - whole).max() / np.abs(whole).max())
        found.append(
            row(
                f"{kind}: RTF in chunks of 1 s",
                "RTF",
                chunked / 10,
                "the whole at once",
                speeds[kind] / 10,
                speeds[kind] / chunked,
            )
        )
        found.append(
            {
                "what": f"{kind}: chunks differ from the whole by",
                "unit": "of peak",
                "voxmake": float(f"{apart:.2g}"),
                "limit": 1e-4,
            }
        )
    ratio = speeds["hifigan"] / speeds["vocos"]
    return [
        row("10 s by vocos (13 M)", "RTF", speeds["vocos"] / 10, "HiFi-GAN V1 (14 M)", speeds["hifigan"] / 10, ratio),
        *found,
    ]


def training() -> list[dict[str, Any]]:
    """Steps a second of the default training against HiFi-GAN V1 with its own discriminators, batch 2."""
    import torch

    from voxmake.nets.world import World
    from voxmake.vocoder.data import Clip
    from voxmake.vocoder.model import Facts
    from voxmake.vocoder.spec import VocoderSpec
    from voxmake.vocoder.training import Job, Trainer

    speeds = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (np.random.default_rng(0).standard_normal(200 * 320) * 3000).astype("<i2").tofile(folder / "clip.wave")
        clips = [Clip("clip", np.arange(200).astype(np.int16) % 100, folder / "clip.wave")]
        for kind, parts in (
            ("vocos", {}),
            ("hifigan", {"resolutions": [], "scales": 3, "front_layers": 1, "layers": 1}),
        ):
            spec = VocoderSpec(generator=kind, batch_size=2, crop_units=28, mel_only_steps=0, **parts)
            trainer = Trainer(World(1), Job(folder, Facts("", 100, 320, [], spec), "", clips, clips, 1, 1e9, 1), print)
            trainer._step()
            took = [_timed(trainer._step)[0] for _ in range(3)]
            speeds[kind] = 1 / statistics.median(took)
            torch.set_num_threads(1)
    return [
        row(
            "training steps, batch 2 x 28 units",
            "1/s",
            speeds["vocos"],
            "HiFi-GAN V1, MPD and MSD",
            speeds["hifigan"],
            speeds["vocos"] / speeds["hifigan"],
        )
    ]
