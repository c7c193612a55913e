"""What a process of a training is given, and where a training is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from voxmake.vocoder.data import Clip
from voxmake.vocoder.model import Facts


@dataclass(frozen=True)
class Job:
    """What a process needs to take part.

    Attributes:
        folder: the work folder; rank 0 writes there.
        identity: of data and settings; a checkpoint of others is not used.
        train, validation: clips.
        threads: CPU cores, of all processes of this machine together.
    """

    folder: Path
    facts: Facts
    identity: str
    train: list[Clip]
    validation: list[Clip]
    seed: int
    checkpoint_every_s: float
    threads: int


@dataclass
class Progress:
    """Where a training is; all plain values."""

    epoch: int = 0  # finished ones
    step: int = 0
    in_epoch: int = 0  # steps of the epoch that is under way
    best: float = math.inf  # smoothed validation of what vocoder_final holds
    mark: float = math.inf  # and that of the last one that was better by min_delta
    waited: int = 0  # epochs since then
    adversarial: bool = False  # the discriminators have their whole weight, and weights compete from there on
    stopped: str = ""
    low_steps: int = 0  # steps in a row that the discriminators' loss is below collapse_loss
    high_steps: int = 0  # or not
    discriminator_factor: float = 1.0  # of their learning rate
    discriminator_every: int = 1
    board_bytes: int = 0
