"""Clips to an engine in batches: audio read ahead, long clips in windows, smaller batches when memory is short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from voxmake.asr.engines import RATE_HZ, Heard, Recogniser
from voxmake.errors import Rejected

if TYPE_CHECKING:
    import numpy as np

_SEARCH_S = 5.0  # a window ends at the quietest place of its last so many seconds
_FRAME_S = 0.05


def read_clip(path: Path) -> np.ndarray:
    """Mono float32 at 16 kHz, shape (n,)."""
    import soundfile
    import soxr

    try:
        with path.open("rb") as stream:
            samples, rate_hz = soundfile.read(stream, dtype="float32")
    except FileNotFoundError:
        raise Rejected("missing_file", path.name) from None
    except soundfile.LibsndfileError as error:
        raise Rejected("undecodable", error.error_string) from None
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    return samples if rate_hz == RATE_HZ else soxr.resample(samples, rate_hz, RATE_HZ)


def windows(samples: np.ndarray, window_s: float | None) -> list[np.ndarray]:
    """A clip in pieces of at most `window_s`, cut where it is quietest."""
    import numpy as np

    pieces = []
    while window_s is not None and len(samples) > window_s * RATE_HZ:
        last, frame = round(window_s * RATE_HZ), round(_FRAME_S * RATE_HZ)
        begin = last - round(min(_SEARCH_S, window_s / 2) * RATE_HZ)
        frames = samples[begin : begin + (last - begin) // frame * frame].reshape(-1, frame)
        cut = begin + frame * int(np.argmin((frames**2).mean(axis=1))) + frame // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


class Batches:
    """Feeds an engine. A batch that does not fit into memory is halved, and so are those after it."""

    def __init__(self, recogniser: Recogniser, batch_size: int):
        self.recogniser, self.batch_size = recogniser, batch_size

    def hear(self, clips: Iterable[tuple[np.ndarray | Rejected, str]]) -> Iterator[Heard | Rejected]:
        """Recognise clips, in their order.

        Args:
            clips: (samples, language) of each; a Rejected in place of samples goes through as it is.
        """
        waiting: list[tuple[np.ndarray | Rejected, str]] = []
        for clip in clips:
            waiting.append(clip)
            if len(waiting) == self.batch_size:
                yield from self._batch(waiting)
                waiting = []
        yield from self._batch(waiting)

    def _batch(self, clips: list[tuple[np.ndarray | Rejected, str]]) -> list[Heard | Rejected]:
        answers: list[Heard | Rejected] = [Heard("")] * len(clips)
        audible = [index for index, (samples, _) in enumerate(clips) if not isinstance(samples, Rejected)]
        for index, (samples, _) in enumerate(clips):
            if isinstance(samples, Rejected):
                answers[index] = samples
        for language, members in groupby(sorted(audible, key=lambda index: clips[index][1]), lambda i: clips[i][1]):
            chosen = list(members)
            pieces = [windows(clips[index][0], self.recogniser.window_s) for index in chosen]
            try:
                heard = iter(self._fitting([piece for each in pieces for piece in each], language))
            except Rejected as rejection:  # the language, or not even one clip fits into memory
                if len(chosen) > 1 and rejection.reason == "memory_limit":
                    for index in chosen:
                        answers[index] = self._batch([clips[index]])[0]
                else:
                    for index in chosen:
                        answers[index] = rejection
                continue
            for index, each in zip(chosen, pieces, strict=True):
                answers[index] = _joined([next(heard) for _ in each])
        return answers

    def _fitting(self, pieces: list[np.ndarray], language: str) -> list[Heard]:
        heard: list[Heard] = []
        while len(heard) < len(pieces):
            batch = pieces[len(heard) : len(heard) + self.batch_size]
            found = self._try(batch, language)
            if found is not None:
                heard += found
            elif len(batch) == 1:
                raise Rejected("memory_limit", f"{len(batch[0]) / RATE_HZ:.1f} s on the GPU")
            else:
                self.batch_size = len(batch) // 2
        return heard

    def _try(self, batch: list[np.ndarray], language: str) -> list[Heard] | None:
        """None if memory was short. The exception is gone by the return: it would hold the frames' tensors."""
        try:
            return self.recogniser.recognise(batch, language)
        except (RuntimeError, MemoryError) as error:
            # torch.OutOfMemoryError is a RuntimeError; CTranslate2 raises a plain one that says so.
            if not (isinstance(error, MemoryError) or "out of memory" in str(error)):
                raise
        _free_cache()
        return None


def _free_cache() -> None:
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()  # does nothing where there is no GPU


def _joined(pieces: list[Heard]) -> Heard:
    """The windows of a clip: texts in a row, the language of the first."""
    return Heard(" ".join(piece.text for piece in pieces if piece.text), pieces[0].language, pieces[0].probability)
