"""Speech engines behind one Protocol: a piece of text in, samples out.

An engine speaks one piece at a time, so that what it says of a text hangs on that text, its seed and the take alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from voxmake.run.stage import PROJECT_ROOT

if TYPE_CHECKING:
    import numpy as np


class Voice(Protocol):
    """A loaded engine.

    Attributes:
        rate_hz: of what it speaks.
        watermark: what is hidden in its speech to tell that a machine made it; "none" if nothing is.
    """

    rate_hz: int
    watermark: str

    def begin(self, voice: str | None, seed: int, take: int) -> None:
        """Choose who speaks, and how the take draws its random numbers.

        Args:
            voice: of the config; None: the engine's own.
            seed: 0 to 2^31 - 1.
            take: 1, and one more with each retry.

        Raises:
            Failure: there is no such voice.
        """
        ...

    def speak(self, text: str) -> np.ndarray:
        """Mono float32, full scale 1.0, shape (n,).

        Raises:
            Rejected: it can't say this text.
        """
        ...


def load(engine: str, model: str | None, speed: float) -> Voice:
    """The engine of this name, with its model in memory.

    Raises:
        Failure: its package is not installed, or the model is none of its own.
    """
    path = "" if model is None else str(PROJECT_ROOT / model)
    if engine == "piper":
        from voxmake.tts.piper import Piper

        return Piper(path, speed)
    if engine == "mms":
        from voxmake.tts.mms import Mms

        return Mms(path, speed)
    from voxmake.tts.espeak import Espeak

    return Espeak(speed)


def seed_of(run_seed: int, text: str, take: int) -> int:
    """Seed of one take, 0 to 2^31 - 1: the same text is spoken in the same way wherever it stands."""
    return int(hashlib.sha256(f"{run_seed}\0tts\0{text}\0{take}".encode()).hexdigest()[:8], 16) & 0x7FFFFFFF
