"""Silence detection against a slow, plain reading of the rule, and the cuts made from it."""

import itertools
import math

import numpy as np
import pytest

from voxmake.audio.silence import Cutting, cut, find_silences, speech_between

RATE = 8000


def recording(pattern: list[tuple[float, float]], rate_hz: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise at levels (dBFS) for seconds, int16."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal(round(s * rate_hz)) * 10 ** (db / 20) * 32768 for s, db in pattern]
    return np.clip(np.concatenate(parts), -32768, 32767).astype(np.int16)


def plain(samples: np.ndarray, rate_hz: int, threshold_db: float, window_ms: int) -> list[tuple[int, int]]:
    """pydub's rule, one window at a time."""
    total_ms = len(samples) * 1000 // rate_hz
    limit = 10 ** (threshold_db / 20) * 32768
    silent = []
    for start in range(total_ms - window_ms + 1):
        window = samples[start * rate_hz // 1000 : (start + window_ms) * rate_hz // 1000].astype(float)
        if int(math.sqrt((window**2).mean())) <= limit:
            silent.append(start)
    ranges: list[list[int]] = []
    for start in silent:
        if ranges and start - ranges[-1][1] <= window_ms:
            ranges[-1][1] = start
        else:
            ranges.append([start, start])
    return [(a * rate_hz // 1000, (b + window_ms) * rate_hz // 1000) for a, b in ranges]


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050])
@pytest.mark.parametrize("seed", range(4))
def test_same_silences_as_the_plain_rule(rate_hz, seed):
    rng = np.random.default_rng(seed)
    pattern = [(rng.uniform(0.02, 0.9), rng.choice([-70.0, -45, -41, -39.5, -30, -20])) for _ in range(14)]
    samples = recording(pattern, rate_hz, seed)
    samples = samples[: len(samples) // rate_hz * rate_hz]  # whole seconds: no broken millisecond at the end
    for window_ms in (100, 250):
        found = find_silences([samples], rate_hz, -40.0, window_ms / 1000)
        assert found.ranges == plain(samples, rate_hz, -40.0, window_ms)
        assert found.samples == len(samples)


def test_the_same_for_any_block_length(monkeypatch):
    monkeypatch.setattr("voxmake.audio.silence._MS_PER_BLOCK", 1000)  # windows straddle blocks
    samples = recording([(0.7, -20), (0.8, -60), (1.3, -20), (0.5, -60), (0.9, -20), (2.2, -60)])
    whole = find_silences([samples], RATE, -40, 0.5)
    assert len(whole.ranges) == 3
    for size in (1, 997, 8000, 20001):
        blocks = [samples[i : i + size] for i in range(0, len(samples), size)]
        found = find_silences(blocks, RATE, -40, 0.5)
        assert found.ranges == whole.ranges
        assert np.array_equal(found.frame_energy, whole.frame_energy)


def test_silence_at_the_end_reaches_the_last_sample():
    samples = recording([(1.0, -20), (1.0, -70)])[: RATE * 2 - 3]
    assert find_silences([samples], RATE, -40, 0.5).ranges[-1][1] == len(samples)


def test_nothing_but_silence_and_nothing_at_all():
    silence = find_silences([np.zeros(RATE * 2, np.int16)], RATE, -40, 0.5)
    assert speech_between(silence) == []
    nothing = find_silences([], RATE, -40, 0.5)
    assert (nothing.samples, nothing.ranges) == (0, [])


def how(**changes) -> Cutting:
    values = {"rate_hz": RATE, "threshold_db": -40, "min_length": RATE, "max_length": 5 * RATE}
    return Cutting(**({**values, "merge_gap": RATE, "pad": RATE // 10} | changes))


def cuts_of(samples: np.ndarray, cutting: Cutting) -> tuple[list, list]:
    silences = find_silences([samples], RATE, -40, 0.5)
    return cut(speech_between(silences), silences, cutting)


def test_padding_stays_in_the_pause():
    samples = recording([(2.0, -20), (0.6, -70), (2.0, -20), (0.55, -70), (2.0, -20)])
    segments, _ = cuts_of(samples, how(pad=RATE))
    assert len(segments) == 3
    assert segments[0][0] == 0
    assert segments[-1][1] == len(samples)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(segments))


def test_short_speech_joins_the_nearer_neighbour_or_is_named():
    samples = recording([(2.0, -20), (0.6, -70), (0.3, -20), (0.9, -70), (2.0, -20), (2.0, -70), (0.3, -20)])
    segments, dropped = cuts_of(samples, how(pad=0))
    assert [round((b - a) / RATE, 1) for a, b in segments] == [2.9, 2.0]
    assert [round((b - a) / RATE, 1) for a, b in dropped] == [0.3]


def test_long_speech_is_cut_at_its_longest_pause():
    samples = recording([(3.0, -20), (0.12, -70), (2.4, -20), (0.3, -70), (3.0, -20), (0.2, -70), (1.5, -20)])
    segments, dropped = cuts_of(samples, how(pad=0))
    assert not dropped
    # first at the pause of 0.3 s; the left part is still too long and is cut at 0.12 s
    assert [round(a / RATE, 1) for a, _ in segments] == [0.0, 3.1, 5.8]
    assert all(b - a <= 5 * RATE for a, b in segments)


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    samples = recording([(4.0, -20), (0.1, -32), (4.9, -20)])
    segments, _ = cuts_of(samples, how(pad=0))
    assert abs(segments[0][1] / RATE - 4.05) < 0.05
    assert segments[0][1] == segments[1][0]
    assert sum(b - a for a, b in segments) == len(samples)


@pytest.mark.parametrize("seed", range(6))
def test_every_sample_is_kept_once_or_silent_or_dropped(seed):
    rng = np.random.default_rng(seed)
    samples = recording([(rng.uniform(0.1, 7), rng.choice([-60.0, -20])) for _ in range(12)], seed=seed)
    segments, dropped = cuts_of(samples, how())
    assert segments == sorted(segments)
    assert all(a < b <= len(samples) for a, b in segments)
    assert all(b - a <= 5.3 * RATE for a, b in segments)
    covered = np.zeros(len(samples), int)
    for a, b in [*segments, *dropped]:
        covered[a:b] += 1
    assert covered.max() <= 1
    for a, b in speech_between(find_silences([samples], RATE, -40, 0.5)):
        frames = covered[a:b].reshape(-1) == 0
        # what is left out of speech is a pause that a cut was made at
        assert np.abs(samples[a:b][frames].astype(float)).mean() < 400 if frames.any() else True
