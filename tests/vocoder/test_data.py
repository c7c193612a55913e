"""Crops on the units' grid, every unit used in every round, and clips that are held out."""

import numpy as np
import pytest

from voxmake.vocoder.data import Batch, Clip, Crops, held_out, middle

HOP = 320


def clip_of(folder, number, frames):
    """A clip whose samples tell which unit they belong to: unit u, sample by sample, has the value u."""
    units = (np.arange(frames) + 100 * number).astype(np.int16)
    path = folder / f"{number}.wave"
    np.repeat(units, HOP).astype("<i2").tofile(path)
    return Clip(str(number), units, path)


def test_every_unit_in_every_round_and_samples_with_their_units(tmp_path):
    clips = [clip_of(tmp_path, number, frames) for number, frames in enumerate((10, 24, 25, 80, 91))]
    crops = Crops(clips, 24, HOP, seed=5)
    orders = []
    for round_ in range(3):
        seen, order = set(), []
        for number in range(crops.round_size):
            crop = crops.draw(round_ * crops.round_size + number)
            assert crop.units.shape == (24,) and crop.wave.shape == (24 * HOP,)
            assert np.array_equal(crop.wave * 32768, np.repeat(crop.units, HOP))
            seen |= set(crop.units.tolist())
            order.append(int(crop.units[0]))
        assert seen == {int(unit) for clip in clips for unit in clip.units}
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    # A draw is told by its number alone, wherever one begins.
    fresh = Crops(clips, 24, HOP, seed=5)
    assert np.array_equal(fresh.draw(17).units, crops.draw(17).units)


def test_batches_and_middles(tmp_path):
    clips = [clip_of(tmp_path, number, 50) for number in range(2)]
    batch = Batch.of([middle(clip, 20, HOP) for clip in clips])
    assert batch.units.shape == (2, 20) and batch.wave.shape == (2, 20 * HOP)
    assert batch.units[0].tolist() == list(range(15, 35))
    assert middle(clips[0], 200, HOP).units.shape == (50,)


def test_held_out_clips_stay_when_others_come():
    ids = [f"c{number}" for number in range(60)]
    part = held_out(ids, 20, 20, seed=1)
    counts = [list(part.values()).count(name) for name in ("validation", "test", "train")]
    assert counts == [6, 6, 48] and set(part) == set(ids)
    assert held_out(ids[::-1], 20, 20, seed=1) == part != held_out(ids, 20, 20, seed=2)
    assert sorted(held_out(ids[:3], 20, 20, seed=1).values()) == ["test", "train", "validation"]
    with pytest.raises(ValueError, match="are the least"):
        held_out(ids[:2], 20, 20, seed=1)
