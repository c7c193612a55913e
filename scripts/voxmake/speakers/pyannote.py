"""pyannote.audio's models and pipelines from local folders: no hub, no telemetry, no pickled code.

Checkpoints of pyannote are pickles and its loader asks PyTorch to trust them. Here PyTorch is told
to refuse everything but tensors and pyannote's own few record types, whatever the caller asks for.
Needs the group `pyannote` (python3 docker/setup.py --group pyannote).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from voxmake.errors import ConfigError
from voxmake.speakers.embed import RATE_HZ, unit

MODEL, PIPELINE = "pytorch_model.bin", "config.yaml"


def _load(what: str, folder: str):
    """A Model or a Pipeline of pyannote.audio from a folder."""
    os.environ |= {"PYANNOTE_METRICS_ENABLED": "0", "HF_HUB_OFFLINE": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}
    wanted = Path(folder) / (MODEL if what == "Model" else PIPELINE)
    if not wanted.is_file():
        raise ConfigError(f"{wanted} is not there; download the model into this folder once, then try again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of codecs that are not used: samples are passed in
        try:
            import pyannote.audio
        except ImportError as error:
            raise ConfigError(
                f"pyannote.audio is missing ({error}); run python3 docker/setup.py --group pyannote"
            ) from None
        import torch
        from pyannote.audio.core.task import Problem, Resolution, Specifications

        known = [torch.torch_version.TorchVersion, Problem, Resolution, Specifications]
        with torch.serialization.safe_globals(known):
            return getattr(pyannote.audio, what).from_pretrained(folder)


def _as_file(samples: np.ndarray, rate_hz: int) -> dict:
    import torch

    return {"waveform": torch.from_numpy(samples)[None], "sample_rate": rate_hz}


class Embedder:
    """A pyannote speaker embedding (wespeaker-voxceleb-resnet34-LM, embedding of a pipeline's folder …)."""

    def __init__(self, folder: str):
        model = _load("Model", folder)
        from pyannote.audio import Inference

        self.inference = Inference(model, window="whole")

    def embed(self, samples: np.ndarray) -> np.ndarray:
        return unit(self.inference(_as_file(samples, RATE_HZ)))


class Turns:
    """A pyannote diarization pipeline (speaker-diarization-community-1, -3.1 …), for the turns in a recording."""

    def __init__(self, folder: str):
        self.pipeline = _load("Pipeline", folder)

    def find(self, samples: np.ndarray, rate_hz: int) -> list[tuple[float, float]]:
        """Turns as (start_s, end_s), one speaker at a time: where two overlap, the likelier one has it."""
        found = self.pipeline(_as_file(samples, rate_hz)).exclusive_speaker_diarization
        return [(turn.start, turn.end) for turn in found.itersegments()]
