"""K-means: as good as scikit-learn's, out of core, killed and resumed, on any number of threads to the same bytes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from voxmake.nets.checkpoint import Checkpoint
from voxmake.units.assign import BLOCK, Centroids, labels_of
from voxmake.units.frames import ArrayFrames, FileFrames
from voxmake.units.kmeans import Settings, draw_sample, fit

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def clouds(frames: int, dims: int = 12, sources: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((sources, dims))
    return (centres[rng.integers(sources, size=frames)] + rng.standard_normal((frames, dims))).astype(np.float32)


def files(folder: Path, array: np.ndarray, clips: int = 7) -> FileFrames:
    parts = np.array_split(array.astype(np.float16), clips)
    paths = [folder / f"{number}.frames" for number in range(clips)]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part.tobytes())
    return FileFrames(paths, [len(part) for part in parts], array.shape[1], "float16")


def run(frames, settings, folder, threads=1, every_s=1e9):
    return fit(frames, settings, threads, Checkpoint(folder / "state", "x", every_s))


def inertia(array, centroids) -> float:
    return float(Centroids(centroids).distances(array)[1].mean())


def test_files_read_as_one_array(tmp_path):
    array = clouds(5000)
    frames = files(tmp_path, array)
    stored = array.astype(np.float16).astype(np.float32)
    assert frames.total == 5000
    np.testing.assert_array_equal(frames.block(600, 3333), stored[600:3333])
    chosen = np.sort(np.random.default_rng(0).choice(5000, 300, replace=False))
    np.testing.assert_array_equal(frames.take(chosen), stored[chosen])


def test_the_sample_comes_from_all_recordings(tmp_path):
    array = np.arange(70_000, dtype=np.float32)[:, None]
    sample = draw_sample(ArrayFrames(array), 7000, seed=3)[:, 0]
    assert len(set(sample.tolist())) == 7000
    for part in (sample, sample[:700]):  # and so does its beginning
        share = np.histogram(part, bins=7, range=(0, 70_000))[0] / len(part)
        assert abs(share - 1 / 7).max() < 0.05


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_as_good_as_scikit_learn(tmp_path, method):
    from sklearn.cluster import KMeans

    array = clouds(30_000)
    settings = Settings(40, method=method, sample_frames=10_000, epochs=3)
    found = run(files(tmp_path, array), settings, tmp_path)
    best = KMeans(40, n_init=5, random_state=0).fit(array).inertia_ / len(array)
    assert inertia(array, found.centroids) < best * (1.01 if method == "lloyd" else 1.03)
    labels = labels_of(ArrayFrames(array), found.centroids, threads=2)
    exact = ((array[:500, None].astype(np.float64) - found.centroids[None]) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(labels[:500], exact)


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_threads_change_no_byte(tmp_path, method):
    frames = files(tmp_path, clouds(40_000))
    settings = Settings(30, method=method, sample_frames=9000, epochs=2)
    found = {run(frames, settings, tmp_path, threads).centroids.tobytes() for threads in (1, 2, 5)}
    assert len(found) == 1


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_killed_at_any_block_it_ends_at_the_same_centroids(tmp_path, method):
    array = clouds(40_000)
    frames = files(tmp_path, array)
    settings = Settings(30, method=method, sample_frames=9000, epochs=2, max_iterations=4, batch_frames=1000)
    whole = run(frames, settings, tmp_path).centroids.tobytes()
    program = textwrap.dedent(f"""
        import os, signal, sys
        from pathlib import Path
        from voxmake.units.frames import FileFrames
        from voxmake.nets.checkpoint import Checkpoint
        from voxmake.units.kmeans import Settings, fit
        folder = Path({str(tmp_path)!r})
        frames = FileFrames({[str(p) for p in frames.paths]!r}, {np.diff(frames.offsets).tolist()!r}, 12, "float16")
        class Deadly(Checkpoint):
            saves = 0
            def save(self, *state):
                super().save(*state)
                Deadly.saves += 1
                if Deadly.saves == int(sys.argv[1]):
                    os.kill(os.getpid(), signal.SIGKILL)
        found = fit(frames, {settings!r}, 2, Deadly(folder / "killed", "x", 0.0))
        (folder / "centroids").write_bytes(found.centroids.tobytes())
    """)
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    kills = 0
    for saves in (1, 4, 10**9):  # each goes on from where the one before was killed
        done = subprocess.run([sys.executable, "-c", program, str(saves)], env=environment, check=False)
        kills += done.returncode == -9
    assert kills == 2 and done.returncode == 0
    assert (tmp_path / "centroids").read_bytes() == whole


def test_the_state_of_other_frames_is_not_used(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", "frames a", 0)
    checkpoint.save({"centroids": np.zeros((2, 2))}, {"step": 1})
    assert checkpoint.load()[1] == {"step": 1}
    assert Checkpoint(tmp_path / "state", "frames b", 0).load() is None
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-5])
    assert checkpoint.load() is None


def test_dead_clusters_find_a_new_place(tmp_path):
    # Nine tenths of the frames are one point, as digital silence is; the rest are 29 more.
    array = np.concatenate([np.zeros((20_000, 3)), np.repeat(np.random.default_rng(0).standard_normal((29, 3)), 80, 0)])
    found = run(ArrayFrames(array.astype(np.float32)), Settings(30), tmp_path)
    assert inertia(array.astype(np.float32), found.centroids) < 1e-6
    assert len(set(labels_of(ArrayFrames(array), found.centroids, 1).tolist())) == 30


def test_fewer_different_frames_than_clusters(tmp_path):
    array = np.repeat(np.eye(5, dtype=np.float32), 50, axis=0)
    assert inertia(array, run(ArrayFrames(array), Settings(8), tmp_path).centroids) < 1e-6
    with pytest.raises(ValueError, match="too few"):
        run(ArrayFrames(array[:6]), Settings(8), tmp_path)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_frames(tmp_path):
    """84 hours of 1024 dimensions, 15.1 M frames, must fit in 4 GiB: measured by the slope over frames."""
    program = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from voxmake.units.frames import FileFrames
        from voxmake.nets.checkpoint import Checkpoint
        from voxmake.units.assign import labels_of
        from voxmake.units.kmeans import Settings, fit
        clips = int(sys.argv[2])
        frames = FileFrames([Path(sys.argv[1]) / "clip.frames"] * clips, [8192] * clips, 1024, "float16")
        found = fit(frames, Settings(100, sample_frames=32768, max_iterations=1), 2, Checkpoint(Path("/nowhere"), "x", 1e9))
        labels_of(frames, found.centroids, 2)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """)
    clip = np.random.default_rng(0).standard_normal((8192, 1024)).astype(np.float16)
    (tmp_path / "clip.frames").write_bytes(clip.tobytes())
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    used = {}
    for clips in (8, 40):
        command = [sys.executable, "-c", program, str(tmp_path), str(clips)]
        used[clips] = int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    slope = (used[40] - used[8]) / (32 * BLOCK)  # bytes a frame
    sample = (262144 - 32768) * 1024 * 4  # of the default, beyond the test's
    assert used[40] + sample + max(slope, 2) * 15_120_000 < 4 << 30
