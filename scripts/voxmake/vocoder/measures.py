"""How far one waveform is from another: spectrum, pitch, voicing, mel, quality and intelligibility.

Two waveforms at 16 kHz in, numbers out. None where a measure can't be taken (no voiced frame, no speech found).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from voxmake.units.features import RATE_HZ
from voxmake.vocoder.packages import need

WANTED_BY = "evaluate_vocoder"
_FRAME_MS = 5.0
_ORDER, _ALPHA = 23, 0.42  # of mel-cepstra at 16 kHz; with c0 left out and DTW, what most MCD figures are made with
_STFTS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # fft, hop, window: Parallel WaveGAN's (1910.11480)
_STOI_LEAST = 30  # frames of speech that STOI needs; with fewer it says so and gives 1e-5


@dataclass(frozen=True)
class Measure:
    """One measure of the table.

    Attributes:
        unit: of its values.
        better: "lower", "higher", or "" for one that says nothing about quality.
        gated: no vocoder may do worse than another utterance does.
    """

    unit: str
    better: str
    meaning: str
    gated: bool = True


MEASURES = {
    "mcd_db": Measure(
        "dB", "lower", "mel-cepstral distortion: WORLD, order 23, alpha 0.42, 5 ms, without c0, with DTW"
    ),
    "log_f0_rmse": Measure("1", "lower", "log-F0 of frames that are voiced in both, along the same path"),
    "voicing_error": Measure("1", "lower", "frames that are voiced in one only, along the same path"),
    "log_mel_l1": Measure("1", "lower", "HiFi-GAN's log-mel, frame by frame"),
    "stft_distance": Measure("1", "lower", "spectral convergence and log magnitude, mean of 3 resolutions"),
    "pesq_wb": Measure("MOS", "higher", "PESQ wide band, 1 to 4.6; hard on vocoders that choose phases of their own"),
    "stoi": Measure("1", "higher", "short-time objective intelligibility"),
    "estoi": Measure("1", "higher", "the same, extended"),
    "unit_error": Measure(
        "1", "lower", "edit distance of its units, encoded again, to those it was made of; runs joined"
    ),
    "length_ratio": Measure("1", "", "its length by the original's"),
    "wer": Measure("1", "lower", "word error rate of the recogniser"),
    "wer_delta": Measure("1", "lower", "the same, less the original's", gated=False),
    "cer": Measure("1", "lower", "character error rate of the recogniser"),
    "cer_delta": Measure("1", "lower", "the same, less the original's", gated=False),
    "snr_db": Measure("dB", "", "LEGACY: ranks silence above a copy that is 1 ms late; no measure of quality"),
}


@dataclass(frozen=True)
class Analysis:
    """WORLD's view of a waveform: log-F0 (0 unvoiced), shape (n,), and mel-cepstra without c0, shape (n, 23)."""

    log_f0: np.ndarray
    cepstra: np.ndarray


def analyse(wave: np.ndarray) -> Analysis:
    """Harvest and CheapTrick every 5 ms, then mel-cepstra.

    Raises:
        Failure: pyworld or pysptk is not installed.
    """
    pyworld, pysptk = need("pyworld", WANTED_BY), need("pysptk", WANTED_BY)
    x = wave.astype(np.float64)
    f0, times = pyworld.harvest(x, RATE_HZ, frame_period=_FRAME_MS)
    spectrum = pyworld.cheaptrick(x, f0, times, RATE_HZ)
    cepstra = pysptk.sp2mc(spectrum, _ORDER, _ALPHA)[:, 1:]
    return Analysis(np.where(f0 > 0, np.log(np.maximum(f0, 1.0)), 0.0), cepstra)


def compare(reference: np.ndarray, other: np.ndarray, analysed: Analysis | None = None) -> dict[str, float | None]:
    """Every measure that two waveforms alone give.

    Args:
        reference, other: float at 16 kHz, shapes (n,), (m,).
        analysed: of the reference, where it is known.
    """
    fitted = np.zeros(len(reference))
    shared = min(len(reference), len(other))
    fitted[:shared] = other[:shared]
    found = spectrum_and_pitch(analysed or analyse(reference), analyse(other))
    found |= {"log_mel_l1": log_mel_l1(reference, fitted), "stft_distance": stft_distance(reference, fitted)}
    found |= perceived(reference, fitted)
    found |= {"length_ratio": len(other) / len(reference), "snr_db": snr_db(reference, fitted)}
    return found


def spectrum_and_pitch(one: Analysis, other: Analysis) -> dict[str, float | None]:
    """MCD, log-F0 RMSE and voicing error along one path of dynamic time warping over the cepstra."""
    from librosa.sequence import dtw
    from scipy.spatial.distance import cdist

    distances = cdist(one.cepstra, other.cepstra)
    _, path = dtw(C=distances)
    left, right = path.T
    # Kubichek 1993: 10 / ln 10 x sqrt(2 x sum of squares).
    mcd = 10 / np.log(10) * np.sqrt(2) * distances[left, right].mean()
    f0, f0_other = one.log_f0[left], other.log_f0[right]
    both = (f0 > 0) & (f0_other > 0)
    rmse = float(np.sqrt(np.mean((f0[both] - f0_other[both]) ** 2))) if both.any() else None
    return {"mcd_db": float(mcd), "log_f0_rmse": rmse, "voicing_error": float(((f0 > 0) != (f0_other > 0)).mean())}


def log_mel_l1(reference: np.ndarray, other: np.ndarray) -> float:
    import torch

    from voxmake.nets.losses import LogMel

    mel = LogMel(RATE_HZ, high_hz=8000.0)
    pair = torch.from_numpy(np.stack([reference, other]).astype(np.float32))
    one, two = mel(pair)
    return float((one - two).abs().mean())


def stft_distance(reference: np.ndarray, other: np.ndarray) -> float:
    """Multi-resolution STFT distance: |Y - X| / |X| plus mean |log Y - log X|."""
    import torch

    found = []
    for fft, hop, window in _STFTS:
        pair = torch.from_numpy(np.stack([reference, other]).astype(np.float32))
        magnitudes = torch.stft(pair, fft, hop, window, torch.hann_window(window), return_complex=True).abs()
        one, two = magnitudes.clamp(min=1e-7**0.5)
        found.append(float((one - two).norm() / one.norm() + (one.log() - two.log()).abs().mean()))
    return sum(found) / len(found)


def perceived(reference: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    """PESQ-WB, STOI and ESTOI of waveforms of one length."""
    pesq, pystoi = need("pesq", WANTED_BY), need("pystoi", WANTED_BY)
    try:
        quality = float(pesq.pesq(RATE_HZ, reference, other, "wb"))
    except (pesq.PesqError, ValueError):  # no utterance found in one of them, or shorter than a quarter second
        quality = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        stoi, estoi = (float(pystoi.stoi(reference, other, RATE_HZ, extended=extended)) for extended in (False, True))
    if any(issubclass(warning.category, RuntimeWarning) for warning in told):
        stoi = estoi = None
    return {"pesq_wb": quality, "stoi": stoi, "estoi": estoi}


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Sample by sample. See MEASURES for what it is worth."""
    error = float(((reference - other) ** 2).sum())
    return float(10 * np.log10(float((reference**2).sum()) / max(error, 1e-20)))


def unit_error(units: np.ndarray, again: np.ndarray) -> float:
    """Edit distance of two sequences of units, runs joined, by the length of the first."""
    from rapidfuzz.distance import Levenshtein

    from voxmake.units.measure import runs

    ours, theirs = (runs(np.asarray(one))[0].tolist() for one in (units, again))
    return Levenshtein.distance(ours, theirs) / len(ours)


# ---------------------------------------------------------------------------- baselines

BASELINES = {
    "world": "copy-synthesis by WORLD: analysed and put together again",
    "griffin_lim": "copy-synthesis by Griffin-Lim: true magnitudes, phases found in 32 rounds",
    "another": "a different utterance, of the same speaker where there is one",
    "noise": "white noise with the original's envelope",
    "silence": "noise of -80 dB of full scale",
}


def baseline(name: str, wave: np.ndarray, seed: list[int]) -> np.ndarray:
    """What a vocoder's output is compared with; "another" is no function of the clip alone.

    Args:
        wave: float32 at 16 kHz, shape (n,).
        seed: of the noise, or of the first phases.
    """
    rng = np.random.default_rng(seed)
    if name == "world":
        pyworld = need("pyworld", WANTED_BY)
        x = wave.astype(np.float64)
        f0, times = pyworld.harvest(x, RATE_HZ, frame_period=_FRAME_MS)
        parts = pyworld.cheaptrick(x, f0, times, RATE_HZ), pyworld.d4c(x, f0, times, RATE_HZ)
        return _fitted(pyworld.synthesize(f0, *parts, RATE_HZ, frame_period=_FRAME_MS), len(wave))
    if name == "griffin_lim":
        from librosa import griffinlim, stft

        magnitudes = np.abs(stft(wave, n_fft=1024, hop_length=256))
        return _fitted(griffinlim(magnitudes, hop_length=256, n_fft=1024, random_state=rng), len(wave))
    noise = rng.standard_normal(len(wave))
    if name == "silence":
        return (1e-4 * noise).astype(np.float32)
    from scipy.ndimage import uniform_filter1d

    envelope = np.sqrt(uniform_filter1d(wave.astype(np.float64) ** 2, 320))  # 20 ms
    return (envelope * noise).astype(np.float32)


def _fitted(wave: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wave[:length], (0, max(0, length - len(wave)))).astype(np.float32)
