"""Whether a take says its text: by listening (`voxmake.asr`) and by its length and its end.

Measured on the demo: pocketsphinx hears espeak's klatt3 with a similarity of 0.46 to 0.84 (mean 0.70), and of a wrong
text never more than 0.36. Names come out as other words, so with it words judge nothing but what is absurd, and pieces
that are missing show in length and similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from rapidfuzz import fuzz

from voxmake.asr.engines import RATE_HZ, Heard
from voxmake.asr.scoring import Score, score
from voxmake.audio.level import rms_db

# A recogniser's features are logarithms, and a machine's silence has none: a quiet room is put under the voice.
_LISTEN_DB = -26.0
_ROOM_DB = -60.0
_END_S = 0.005
_CUT_END_DB = -18.0  # of the last 5 ms below the clip: espeak ends at -24 dB or less, a word cut in two above -18
_JUNK_CHARS, _JUNK_RATIO = 16, 0.35  # heard behind the text: more is more than a misheard ending


@dataclass(frozen=True)
class Tolerance:
    """What a take may differ by.

    Attributes:
        words_count: the recogniser is good enough for words: pieces that are missing or added are faults by themselves.
    """

    max_wer: float
    min_similarity: float
    longest_s: tuple[float, float]
    shortest_s_per_word: float
    words_count: bool


def tolerance(spec, recogniser: str) -> Tolerance:
    """The config's limits, or those that suit the recogniser."""
    poor = recogniser == "pocketsphinx"
    wer = spec.max_wer if spec.max_wer is not None else (2.5 if poor else 0.25)
    similarity = spec.min_similarity if spec.min_similarity is not None else (0.42 if poor else 0.8)
    return Tolerance(wer, similarity, tuple(spec.longest_s), spec.shortest_s_per_word, not poor)


def listenable(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """What a recogniser gets: 16 kHz, one level, and a room's noise from a generator of its own."""
    clip = soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ").astype(np.float32)
    level = rms_db(clip)
    clip *= np.float32(10 ** ((_LISTEN_DB - level) / 20)) if np.any(clip) else np.float32(1)
    clip = np.pad(clip, RATE_HZ // 5)
    room = np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    return clip + np.float32(10 ** (_ROOM_DB / 20)) * room


def ends_abruptly(samples: np.ndarray, rate_hz: int) -> bool:
    """Whether an engine stopped in the middle: what it gave, untrimmed, is still loud at its end."""
    end = samples[-max(1, round(_END_S * rate_hz)) :]
    return len(samples) > 0 and rms_db(end) - rms_db(samples) > _CUT_END_DB


def faults(
    text: str, heard: Heard, duration_s: float, abrupt: bool, language: str, limits: Tolerance
) -> tuple[list[str], Score]:
    """What is wrong with a take, and its score.

    Returns:
        some of: wrong_words, cut_off, tail_junk, too_long, too_short.
    """
    found = score(text, heard, duration_s, language, limits.min_similarity)
    words = len(found.reference.split())
    wrong = []
    if found.wer > limits.max_wer or found.similarity < limits.min_similarity:
        wrong.append("wrong_words")
    if abrupt or (limits.words_count and found.kind in ("cut_start", "cut_end", "missing_words")):
        wrong.append("cut_off")
    if _tail(found) or (limits.words_count and found.kind in ("extra_words", "hallucination")):
        wrong.append("tail_junk")
    if duration_s > limits.longest_s[0] + limits.longest_s[1] * words:
        wrong.append("too_long")
    if duration_s < limits.shortest_s_per_word * words:
        wrong.append("too_short")
    return wrong, found


def _tail(found: Score) -> bool:
    """Whether much was heard behind the place where the text fits best."""
    if not found.reference or len(found.hypothesis) <= len(found.reference):
        return False
    place = fuzz.partial_ratio_alignment(found.reference, found.hypothesis)
    behind = len(found.hypothesis) - place.dest_end
    return behind > max(_JUNK_CHARS, _JUNK_RATIO * len(found.reference))
