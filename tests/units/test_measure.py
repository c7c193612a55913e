"""How good units are: values that can be told by hand."""

import numpy as np
import pytest

from voxmake.units.measure import Boundaries, entropy_bits, pnmi, runs


def test_pnmi():
    """Units that are the phones tell all, units that know nothing tell nothing, one that joins two of four tells half."""
    assert pnmi(np.diag([5, 5, 5, 5])) == pytest.approx(1)
    assert pnmi(np.ones((4, 3))) == pytest.approx(0)
    assert pnmi(np.array([[5, 0], [5, 0], [0, 5], [0, 5]])) == pytest.approx(0.5)  # 1 bit of 2
    # Splitting a phone into two units takes nothing away; shares are what counts, not how many frames there are.
    assert pnmi(np.array([[2, 3, 0], [0, 0, 5]])) == pytest.approx(1)
    uneven = np.array([[6, 2], [1, 7]])
    joint, phones, units = uneven / 16, uneven.sum(1) / 16, uneven.sum(0) / 16
    information = (joint * np.log2(joint / np.outer(phones, units))).sum()
    assert (
        pnmi(uneven)
        == pytest.approx(information / -(phones * np.log2(phones)).sum())
        == pytest.approx(pnmi(9 * uneven))
    )


def test_entropy_and_runs():
    assert entropy_bits(np.array([1, 1, 1, 1, 0])) == 2 and entropy_bits(np.array([7, 0])) == 0
    units, starts = runs(np.array([3, 3, 1, 1, 1, 3]))
    assert units.tolist() == [3, 1, 3] and starts.tolist() == [0, 2, 5, 6]


def test_boundaries_count_once_each():
    found = Boundaries()
    found.add(np.array([0.10, 0.11, 0.30, 0.52]), np.array([0.11, 0.31, 0.70]), 0.02)
    assert (found.hits, found.found, found.true) == (2, 4, 3)
    assert found.precision == 0.5 and found.recall == pytest.approx(2 / 3) and found.f1 == pytest.approx(4 / 7)
    perfect = Boundaries(5, 5, 5)
    assert perfect.r_value == pytest.approx(1) and Boundaries(5, 20, 5).r_value < 0 < Boundaries(5, 20, 5).f1
