"""Measures: known values, and an order of baselines that anybody would agree with."""

import sys

import numpy as np
import pytest
import soundfile

from voxmake.errors import Failure
from voxmake.vocoder.measures import BASELINES, MEASURES, baseline, compare, snr_db, spectrum_and_pitch, unit_error

for _package in ("pysptk", "pyworld", "pesq", "pystoi"):
    pytest.importorskip(_package, reason="not installed: docker/setup.py --group vocoder")


@pytest.fixture(scope="module")
def rows(request):
    """Every baseline against two real sentences of one voice, mean of both."""
    from conftest import REAL

    from voxmake.units.features import to_16k

    if not REAL.is_dir():
        pytest.skip(f"no real recordings at {REAL}")
    files = sorted((REAL / "ljspeech_en").rglob("*.wav"))[:2]
    waves = [to_16k(*soundfile.read(file, dtype="float32"))[: 16000 * 3] for file in files]
    found = {}
    for name in BASELINES:
        made = [waves[1 - n] if name == "another" else baseline(name, wave, [1, n]) for n, wave in enumerate(waves)]
        both = [compare(*pair) for pair in zip(waves, made, strict=True)]
        found[name] = {key: [one[key] for one in both] for key in both[0]}
    found["itself"] = {key: [value] for key, value in compare(waves[0], waves[0]).items()}
    found["late"] = {key: [value] for key, value in compare(waves[0], np.roll(waves[0], 16)).items()}
    return found


def test_measures_order_the_baselines(rows):
    """Copies, then other speech, then no speech; a measure that can't be taken counts as the worst."""

    def mean(name, key):
        values = rows[name][key]
        worst = np.inf if MEASURES[key].better == "lower" else -np.inf
        return float(np.mean([worst if value is None else value for value in values]))

    for key in rows["world"]:
        sign = {"lower": 1, "higher": -1, "": 0}[MEASURES[key].better]
        for copy in ("world", "griffin_lim") if sign else ():
            for bad in ("another", "noise", "silence"):
                if (key, bad) == ("voicing_error", "silence"):  # pauses of both agree; see below
                    continue
                assert sign * mean(copy, key) < sign * mean(bad, key), (key, copy, bad)
            assert sign * mean("itself", key) <= sign * mean(copy, key), (key, copy)
    assert mean("silence", "mcd_db") > mean("another", "mcd_db") and mean("noise", "mcd_db") > mean("another", "mcd_db")
    assert mean("silence", "voicing_error") > mean("world", "voicing_error")
    # What SNR makes of the same: why it is a legacy number.
    assert mean("silence", "snr_db") > mean("world", "snr_db") and mean("silence", "snr_db") > mean("late", "snr_db")


def test_values_that_are_known(rows):
    itself = {key: values[0] for key, values in rows["itself"].items()}
    assert itself["mcd_db"] == itself["log_f0_rmse"] == itself["voicing_error"] == itself["log_mel_l1"] == 0
    assert itself["stft_distance"] == 0 and itself["length_ratio"] == 1
    assert itself["pesq_wb"] > 4.6 and itself["stoi"] == pytest.approx(1) and itself["estoi"] == pytest.approx(1)
    assert 2 < np.mean(rows["world"]["mcd_db"]) < 4.5 and 0.9 < np.mean(rows["world"]["stoi"]) < 1
    assert rows["another"]["length_ratio"][0] * rows["another"]["length_ratio"][1] == pytest.approx(1)


def test_mcd_by_hand():
    """Cepstra that differ by 0.1 in one place: 10 / ln 10 x sqrt 2 x 0.1 dB."""
    from voxmake.vocoder.measures import Analysis

    rng = np.random.default_rng(0)
    cepstra = 5 * rng.standard_normal((50, 23))
    moved = cepstra.copy()
    moved[:, 7] += 0.1
    f0 = np.where(np.arange(50) < 30, np.log(120.0), 0.0)
    found = spectrum_and_pitch(Analysis(f0, cepstra), Analysis(np.where(f0 > 0, f0 + 0.05, 0), moved))
    assert found["mcd_db"] == pytest.approx(10 / np.log(10) * np.sqrt(2) * 0.1)
    assert found["log_f0_rmse"] == pytest.approx(0.05) and found["voicing_error"] == 0
    # Spoken at half the speed, it is the same to DTW.
    slow = spectrum_and_pitch(Analysis(f0, cepstra), Analysis(np.repeat(f0, 2), np.repeat(cepstra, 2, axis=0)))
    assert slow["mcd_db"] == pytest.approx(0) and slow["voicing_error"] == 0
    assert snr_db(np.ones(100), np.full(100, 0.9)) == pytest.approx(20)


def test_unit_error():
    assert unit_error(np.array([1, 1, 2, 3, 3]), np.array([1, 2, 2, 2, 3])) == 0
    assert unit_error(np.array([1, 2, 3, 4]), np.array([1, 5, 3])) == 0.5


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(
        Failure, match=r"evaluate_vocoder: pyworld is not installed; run `python3 docker/setup.py --group vocoder`"
    ):
        baseline("world", np.zeros(1600, np.float32), [0])
