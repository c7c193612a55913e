"""A human's MP3 as utterances: cut at the pauses, heard by an engine of voxmake.asr, each with its place in time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.asr.engines import RATE_HZ, Recogniser
from voxmake.audio.spec import AudioSpec
from voxmake.errors import Rejected

if TYPE_CHECKING:
    import numpy as np

# What lies so far below the loudest sample is a pause; podcasts are levelled, so the loudest sample is a measure.
_PAUSE_DB = -40.0
_PAUSE_S = 0.25  # shorter ones stand inside sentences
_LONGEST_S, _SHORTEST_S, _PAD_S = 20.0, 0.3, 0.1  # of an utterance
_PEAK = 0.9


def hear(path: Path, recogniser: Recogniser, language: str, batch_size: int) -> dict[str, Any]:
    """Listen to a recording.

    Args:
        language: ISO 639-1; "" if it is not known.

    Returns:
        duration_s, speech_s, pauses_s (the lengths of the pauses between utterances), utterances: start_s, end_s, text.

    Raises:
        Rejected: the file can't be decoded, is silent, or nothing was understood in it (no_speech).
    """
    import numpy as np

    from voxmake.asr.batches import Batches
    from voxmake.audio.silence import Cutting, cut, find_silences, speech_between

    samples = read_mono(path, AudioSpec())
    scaled = np.round(samples * (_PEAK / np.abs(samples).max()) * 32767).astype(np.int16)
    silences = find_silences([scaled], RATE_HZ, _PAUSE_DB, _PAUSE_S)
    how = Cutting(
        RATE_HZ, _PAUSE_DB, *(round(seconds * RATE_HZ) for seconds in (_SHORTEST_S, _LONGEST_S, _PAUSE_S, _PAD_S))
    )
    spans = speech_between(silences)
    pieces, _ = cut(spans, silences, how)
    found = Batches(recogniser, batch_size).hear((samples[start:end], language) for start, end in pieces)
    utterances = []
    for (start, end), heard in zip(pieces, found, strict=True):
        if isinstance(heard, Rejected):
            raise heard
        if text := heard.text.strip():
            utterances.append({"start_s": round(start / RATE_HZ, 3), "end_s": round(end / RATE_HZ, 3), "text": text})
    if not utterances:
        raise Rejected("no_speech", "nothing was understood")
    gaps = [b - a for (_, a), (b, _) in itertools.pairwise(spans)]
    return {
        "duration_s": round(len(samples) / RATE_HZ, 3),
        "speech_s": round(sum(end - start for start, end in spans) / RATE_HZ, 3),
        "pauses_s": [round(gap / RATE_HZ, 3) for gap in gaps],
        "utterances": utterances,
    }


def read_mono(path: Path, spec: AudioSpec) -> np.ndarray:
    """A recording, checked as every recording is: mono float32 at 16 kHz, shape (n,).

    Raises:
        Rejected: it can't be decoded, or nothing in it is louder than spec.silence_db.
    """
    import numpy as np
    import soxr

    from voxmake.audio.decode import Decoded
    from voxmake.audio.probe import probe

    decoded = Decoded(path, spec, probe(path, spec))
    blocks = list(decoded)
    if not blocks:
        raise Rejected("no_samples")
    samples = np.concatenate(blocks)
    if np.abs(samples).max() < 10 ** (spec.silence_db / 20):
        raise Rejected("silent", f"no sample above {spec.silence_db:g} dBFS")
    return soxr.resample(samples, decoded.sample_rate_hz, RATE_HZ)
