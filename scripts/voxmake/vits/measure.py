"""What a new voice is worth: its sentences measured by level, duration, recogniser and likeness to its speaker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxmake.errors import Failure, Rejected

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.vits.batches import Clip
    from voxmake.vits.spec import Gates

COLUMNS = (
    "file", "text", "duration_s", "expected_s", "duration_ratio", "level_db", "cer", "heard", "similarity",
)  # fmt: skip
PEAK = 10 ** (-1 / 20)  # samples are saved at -1 dBFS at most


def resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """Mono float32 at another rate."""
    if rate_hz == wanted_hz:
        return samples
    import soxr

    return soxr.resample(samples, rate_hz, wanted_hz)


class Ear:
    """A recogniser that listens to sentences whose text is known.

    Args:
        recogniser: arguments of `asr.engines.load`.
        language: of the sentences.
    """

    def __init__(self, recogniser: list[Any], language: str):
        from voxmake.asr import engines

        self.engine, self.language, self.rate_hz = engines.load(*recogniser), language, engines.RATE_HZ

    def hear(self, text: str, samples: np.ndarray, rate_hz: int) -> tuple[float, str] | None:
        """Character error rate and what was heard; None if the engine does not know the language."""
        from voxmake.asr.scoring import score

        clip = resampled(samples, rate_hz, self.rate_hz)
        window = self.engine.window_s and round(self.engine.window_s * self.rate_hz)
        try:
            [heard] = self.engine.recognise([clip[:window]], self.language)
        except Rejected:
            return None
        scored = score(text, heard, len(clip) / self.rate_hz, self.language, 0.8)
        return scored.cer, heard.text

    def mean_cer(self, spoken: Iterable[tuple[str, np.ndarray]], rate_hz: int) -> float:
        """Over sentences and their audio; 1 if the engine does not know the language."""
        heard = [self.hear(text, samples, rate_hz) for text, samples in spoken]
        return float(np.mean([1.0 if one is None else one[0] for one in heard]))


class Likeness:
    """Cosine likeness to the mean voice of some clips."""

    def __init__(self, clips: Iterable[Path]):
        import soundfile

        from voxmake.speakers.embed import RATE_HZ, Resemblyzer, unit

        self.embedder, self.rate_hz = Resemblyzer(), RATE_HZ
        own = []
        for path in clips:
            samples, rate_hz = soundfile.read(path, dtype="float32")
            own.append(self.embedder.embed(resampled(samples, rate_hz, RATE_HZ)))
        self.centroid = unit(np.mean(own, axis=0))
        self.own = float(np.mean([vector @ self.centroid for vector in own]))

    def of(self, samples: np.ndarray, rate_hz: int) -> float:
        return float(self.embedder.embed(resampled(samples, rate_hz, self.rate_hz)) @ self.centroid)


def level_db(samples: np.ndarray) -> float:
    """dBFS RMS, -120 for silence."""
    return max(-120.0, 10 * float(np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-30)))


def sample_bytes(samples: np.ndarray, rate_hz: int) -> bytes:
    """A 16-bit WAV; louder than -1 dBFS only as far as that."""
    import io

    import soundfile

    peak = float(np.abs(samples).max(initial=0.0))
    data = io.BytesIO()
    soundfile.write(data, samples * min(1.0, PEAK / max(peak, 1e-9)), rate_hz, format="WAV", subtype="PCM_16")
    return data.getvalue()


def measured(
    run: Run, spoken: list[tuple[str, np.ndarray]], rate_hz: int, clips: list[Clip], spec: Gates,
    recogniser: list[Any] | None, language: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write samples/ and samples.csv, tell stats.json, and set the gate.

    Args:
        spoken: sentences and their audio, by the exported voice.
        clips: of the speaker who speaks, from the training split.
        recogniser: arguments of `asr.engines.load`, or None for not listening.
    """
    pace = float(np.median([len(clip.text) / clip.duration_s for clip in clips]))
    likeness = Likeness(clip.path for clip in sorted(clips, key=lambda clip: clip.id)[: spec.speaker_clips])
    ear = None if recogniser is None else Ear(recogniser, language)
    rows = []
    for number, (text, samples) in enumerate(spoken):
        if not np.isfinite(samples).all():
            raise Failure(
                f"the voice speaks no numbers (NaN) in {text!r}: training went wrong; look at the log's losses"
            )
        name = f"samples/{number + 1:02}.wav"
        run.write_bytes(name, sample_bytes(samples, rate_hz))
        duration_s, expected_s = len(samples) / rate_hz, len(text) / pace
        heard = None if ear is None else ear.hear(text, samples, rate_hz)
        ratio = max(duration_s, 1e-3) / expected_s
        rows.append({
            "file": name, "text": text, "duration_s": round(duration_s, 3), "expected_s": round(expected_s, 3),
            "duration_ratio": round(max(ratio, 1 / ratio), 3), "level_db": round(level_db(samples), 2),
            "cer": None if heard is None else round(heard[0], 4), "heard": None if heard is None else heard[1],
            "similarity": round(likeness.of(samples, rate_hz), 4),
        })  # fmt: skip
    run.write_table("samples.csv", COLUMNS, rows)
    _tell(run, rows, likeness, spec)
    return rows


def _tell(run: Run, rows: list[dict[str, Any]], likeness: Likeness, spec: Gates) -> None:
    level, ratio = min(row["level_db"] for row in rows), max(row["duration_ratio"] for row in rows)
    cers = [row["cer"] for row in rows if row["cer"] is not None]
    cer = round(float(np.mean(cers)), 4) if cers else None
    similarity = round(float(np.mean([row["similarity"] for row in rows])), 4)
    run.stat("sentences", len(rows), "sentences", "spoken by the exported voice")
    run.stat("level_min", level, "dBFS", "RMS of the quietest sentence")
    run.stat("duration_ratio_max", ratio, "ratio", "how far the worst sentence's length is from the speaker's pace")
    run.stat("cer", cer, "ratio", "mean character error rate of the sentences, by validation's recogniser")
    run.stat("similarity", similarity, "cosine", "mean likeness of the sentences to the speaker's own clips")
    run.stat("similarity_own", round(likeness.own, 4), "cosine", "the same of these clips themselves")
    run.check("level_min", level, ">=", spec.gate_min_level_db)
    run.check("duration_ratio_max", ratio, "<", spec.gate_duration_ratio)
    if spec.gate_max_cer is not None:
        if cer is None:
            raise Failure("gate_max_cer is set, and the recogniser does not know the language: set validation.model")
        run.check("cer", cer, "<=", spec.gate_max_cer)
    if spec.gate_min_similarity is not None:
        run.check("similarity", similarity, ">=", spec.gate_min_similarity)
