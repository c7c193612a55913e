"""What a training is given; rank 0 hands it to the other processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmake.vits.batches import Clip
from voxmake.vits.spec import TrainMms


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        folder: the training's own: `start/` holds the voice to begin with; checkpoints and `best/` come beside it.
        identity: of the run; a checkpoint of another one is not used.
        language: of the sentences, "" if it is not known.
        recogniser: arguments of `asr.engines.load`.
        loaders: threads that read audio ahead.
        threads: that compute, on a CPU, of all processes together.
    """

    folder: Path
    identity: str
    seed: int
    spec: TrainMms
    rate_hz: int
    train: list[Clip]
    validation: list[Clip]
    sentences: list[str]
    language: str = ""
    recogniser: list[Any] | None = None
    loaders: int = 2
    threads: int = 1
