"""Cut one recording into utterances: finds speech, reads only what it keeps, loses no sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from voxmake.audio.level import bandwidth_hz, rms_db, to_db, true_peak
from voxmake.audio.silence import Cutting, Silences, cut, find_silences, speech_between
from voxmake.run.stage import PROJECT_ROOT

if TYPE_CHECKING:
    from segment import Segment

_BLOCK_FRAMES = 1 << 18
# Silero VAD v6's own figures (its get_speech_timestamps): window, hysteresis, shortest speech.
_VAD_RATE_HZ, _VAD_WINDOW = 16000, 512
_VAD_HYSTERESIS, _VAD_MIN_SPEECH_S = 0.15, 0.25


@dataclass(frozen=True)
class Utterance:
    """One segment: times within the recording that was cut, its file's bytes, what was measured on it."""

    start_s: float
    end_s: float
    data: bytes
    measured: dict


class Cutter:
    """Finds and cuts utterances as a `segment:` section says; loads the detector once."""

    def __init__(self, spec: Segment):
        self.spec = spec
        if spec.method == "vad":
            from silero_vad import load_silero_vad

            self.detector = load_silero_vad(onnx=True)
        elif spec.method == "pyannote":
            from voxmake.speakers.pyannote import Turns

            self.turns = Turns(str(PROJECT_ROOT / spec.model))

    def place(self, row: dict, start_s: float, end_s: float) -> dict:
        """Where a span stands in the original: preprocess may have trimmed its start."""
        offset_s = float(row["trim_start_s"])
        return {
            "recording": row["id"],
            "start_s": round(start_s + offset_s, 6),
            "end_s": round(end_s + offset_s, 6),
        }

    def find(self, path: Path) -> tuple[list[tuple[int, int]], list[tuple[float, float]]]:
        """Utterances of a mono WAV or FLAC file in samples, and in seconds speech too short to be one."""
        info = soundfile.info(path)
        rate_hz = info.samplerate
        spec = self.spec
        silences = find_silences(_blocks(path), rate_hz, spec.threshold_db, spec.min_silence_s)
        if spec.method == "silence":
            spans = speech_between(silences)
        else:
            spans = self._speech(path, silences) if spec.method == "vad" else self._turns(path)
        how = Cutting(
            rate_hz=rate_hz,
            threshold_db=spec.threshold_db,
            min_length=round(spec.min_duration_s * rate_hz),
            max_length=round(spec.max_duration_s * rate_hz),
            # A turn that joined its neighbour would hold two speakers.
            merge_gap=-1 if spec.method == "pyannote" else round(spec.merge_gap_s * rate_hz),
            pad=round(spec.pad_s * rate_hz),
        )
        segments, dropped = cut(spans, silences, how)
        return segments, [(start / rate_hz, end / rate_hz) for start, end in dropped]

    def utterances(self, path: Path, segments: list[tuple[int, int]]) -> Iterator[Utterance]:
        """Each segment cut out; its samples are the file's own, bit for bit."""
        with soundfile.SoundFile(path) as file:
            for start, end in segments:
                yield _utterance(file, start, end)

    def _turns(self, path: Path) -> list[tuple[int, int]]:
        """Speaker turns; pyannote's pipeline needs the whole recording at once."""
        samples, rate_hz = soundfile.read(path, dtype="float32")
        found = [
            (round(start_s * rate_hz), round(end_s * rate_hz)) for start_s, end_s in self.turns.find(samples, rate_hz)
        ]
        return sorted((max(0, start), min(end, len(samples))) for start, end in found if start < min(end, len(samples)))

    def _speech(self, path: Path, silences: Silences) -> list[tuple[int, int]]:
        """Spans whose speech probability passes the threshold, until it stays below for min_silence_s."""
        probabilities = self._probabilities(path, silences.rate_hz)
        window_s = _VAD_WINDOW / _VAD_RATE_HZ
        low = self.spec.vad_threshold - _VAD_HYSTERESIS
        spans, start, quiet_since = [], None, None
        for index, probability in enumerate([*probabilities, 0.0]):
            last = index == len(probabilities)
            if probability >= self.spec.vad_threshold:
                start, quiet_since = index if start is None else start, None
            elif start is not None and probability < low:
                quiet_since = index if quiet_since is None else quiet_since
            if start is not None and (
                last or (quiet_since is not None and (index - quiet_since) * window_s >= self.spec.min_silence_s)
            ):
                end = index if quiet_since is None else quiet_since
                if (end - start) * window_s >= _VAD_MIN_SPEECH_S:
                    spans.append((start, end))
                start = quiet_since = None
        scale = silences.rate_hz * window_s
        return [(round(a * scale), min(round(b * scale), silences.samples)) for a, b in spans]

    def _probabilities(self, path: Path, rate_hz: int) -> list[float]:
        """Silero's speech probability of each 32 ms."""
        import soxr
        import torch

        self.detector.reset_states()
        resampler = soxr.ResampleStream(rate_hz, _VAD_RATE_HZ, 1, dtype="float32") if rate_hz != _VAD_RATE_HZ else None
        held, found = np.zeros(0, np.float32), []
        for block in _blocks(path, last=True):
            samples = block.astype(np.float32) / (1 << 15)
            if resampler is not None:
                samples = resampler.resample_chunk(samples, last=not len(block))
            elif not len(block):
                samples = np.zeros(-len(held) % _VAD_WINDOW, np.float32)
            held = np.concatenate([held, samples])
            whole = len(held) // _VAD_WINDOW * _VAD_WINDOW
            with torch.inference_mode():
                windows = torch.from_numpy(held[:whole]).view(-1, _VAD_WINDOW)
                found += [float(self.detector(window, _VAD_RATE_HZ)) for window in windows]
            held = held[whole:]
        return found


def _blocks(path: Path, last: bool = False) -> Iterator[np.ndarray]:
    """int16 samples in blocks, shape (n,); with `last`, an empty block marks the end."""
    with soundfile.SoundFile(path) as file:
        while len(block := file.read(_BLOCK_FRAMES, dtype="int16")):
            yield block
    if last:
        yield np.zeros(0, np.int16)


def _utterance(file: soundfile.SoundFile, start: int, end: int) -> Utterance:
    file.seek(start)
    steps = file.read(end - start, dtype="int32")  # exact for 16 and 24 bit
    data = io.BytesIO()
    soundfile.write(data, steps, file.samplerate, format=file.format, subtype=file.subtype)
    samples = (steps / (1 << 31)).astype(np.float32)
    measured = {
        "duration_s": round(len(steps) / file.samplerate, 6),
        "level_after_db": round(rms_db(samples), 2),
        "true_peak_db": round(to_db(true_peak(samples)), 2),
        "bandwidth_hz": round(bandwidth_hz(samples, file.samplerate)),
    }
    return Utterance(start / file.samplerate, end / file.samplerate, data.getvalue(), measured)
