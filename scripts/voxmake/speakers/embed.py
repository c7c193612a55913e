"""Speaker embeddings: one vector for each clip, near for one voice and far for two.

Engines are classes with the same two things: `identity`, which names model and version for the
cache, and `embed(samples)`. Vectors are float32, L2-normalised, so a cosine distance is 1 - a·b.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np

RATE_HZ = 16000  # what every engine here listens at


@dataclass(frozen=True)
class Distances:
    """Cosine distances that mean something to one engine's vectors.

    Attributes:
        same_speaker: the mean distance between two groups of clips below which they are one voice.
        uncertain, outlier: distance of a clip to its speaker's centroid where doubt begins, and
            where it is more likely another voice.
    """

    same_speaker: float
    uncertain: float
    outlier: float


# resemblyzer: measured on read speech of 8 voices, clips of 2 to 10 s (docs/speakers.md). The others: TTSizer's
# bounds for 0.60 and 0.70, and pyannote's clustering threshold for embedding-3.1 (0.7045654963945799).
DISTANCES = {
    "resemblyzer": Distances(0.32, 0.20, 0.28),
    "transformers": Distances(0.70, 0.60, 0.70),
    "pyannote": Distances(0.70, 0.60, 0.70),
}


class Embedder(Protocol):
    """An engine that turns speech into a vector."""

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Mono float32 at 16 kHz, shape (n,), to a float32 vector of norm 1, shape (d,)."""
        ...


class Resemblyzer:
    """The encoder of Generalized End-to-End Loss for Speaker Verification (arXiv 1710.10467), 256 dimensions.

    Its weights are in the resemblyzer wheel. Trained on English; partial utterances of 1.6 s.
    """

    identity = f"resemblyzer-{version('Resemblyzer')}"

    def __init__(self) -> None:
        import warnings

        with warnings.catch_warnings():  # its imports are older than today's scipy and setuptools
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder, preprocess_wav

        self.preprocess = preprocess_wav
        self.encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, samples: np.ndarray) -> np.ndarray:
        voiced = self.preprocess(samples)
        # Its voice activity detection may leave nothing of a short word: then the clip as it is.
        voiced = voiced if len(voiced) >= RATE_HZ // 10 else samples
        return unit(self.encoder.embed_utterance(voiced))


class XVector:
    """Any x-vector model of transformers: WavLMForXVector, Wav2Vec2ForXVector, UniSpeechSatForXVector …

    Args:
        folder: a local folder with config.json, preprocessor_config.json and model.safetensors.
    """

    def __init__(self, folder: str):
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        self.extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForAudioXVector.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.model = model.eval()

    def embed(self, samples: np.ndarray) -> np.ndarray:
        import torch

        inputs = self.extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt")
        with torch.inference_mode():
            return unit(self.model(**inputs).embeddings[0].numpy())


def load(engine: str, model: str | None) -> Embedder:
    """The engine that the config names."""
    if engine == "pyannote":
        from voxmake.speakers.pyannote import Embedder as Pyannote

        return Pyannote(model)
    return XVector(model) if engine == "transformers" else Resemblyzer()


def unit(vector: np.ndarray) -> np.ndarray:
    """float32, scaled to norm 1."""
    vector = np.asarray(vector, np.float64)
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
