"""A vocoder on disk and in use: weights with all that they need to be used rightly, bound to their tokeniser.

`<name>.safetensors` holds the averaged generator, `<name>.json` its config section, speakers, hop and `tokeniser`:
the sha256 of the units it was trained on. Units of another tokeniser are refused; they would sound like nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxmake.errors import BadInput
from voxmake.nets.checkpoint import write_synced
from voxmake.units.features import RATE_HZ
from voxmake.vocoder.spec import VocoderSpec


@dataclass(frozen=True)
class Facts:
    """What belongs to the weights.

    Attributes:
        tokeniser: sha256 of the tokeniser (units/tokeniser.py).
        clusters: its units.
        hop_samples: samples of a unit at 16 kHz.
        speakers: names in the embedding's order; empty: the vocoder has no such input.
        spec: the config section `vocoder`.
    """

    tokeniser: str
    clusters: int
    hop_samples: int
    speakers: list[str]
    spec: VocoderSpec

    def to_json(self, **more: Any) -> str:
        told = {
            "tokeniser": self.tokeniser,
            "clusters": self.clusters,
            "hop_samples": self.hop_samples,
            "rate_hz": RATE_HZ,
            "speakers": self.speakers,
            "vocoder": self.spec.model_dump(mode="json"),
        }
        return json.dumps(told | more, indent=1, ensure_ascii=False) + "\n"

    def generator(self):
        from voxmake.vocoder.generators import Generator

        return Generator(self.clusters, len(self.speakers), self.hop_samples, self.spec)


def write_vocoder(folder: Path, name: str, facts: Facts, weights: dict, **more: Any) -> None:
    """Write weights (a generator's state dict) and facts, each replaced at once."""
    from safetensors.torch import save

    data = save({key: value.detach().cpu().contiguous() for key, value in weights.items()})
    write_synced(folder / f"{name}.safetensors", data)
    write_synced(folder / f"{name}.json", facts.to_json(**more).encode())


class Vocoder:
    """A trained vocoder, ready to speak.

    Args:
        folder: a run of train_vocoder.
        name: which of its weights.
        device: as PyTorch names it.

    Raises:
        BadInput: there is no such vocoder.
    """

    def __init__(self, folder: Path, name: str = "vocoder_final", device: str = "cpu"):
        import torch
        from safetensors.torch import load_file

        try:
            told = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{folder}: has no {name}.json; give the folder of a run of train_vocoder") from None
        self.facts = Facts(
            told["tokeniser"], told["clusters"], told["hop_samples"], told["speakers"], VocoderSpec(**told["vocoder"])
        )
        self.folder, self.device, self.torch = folder, device, torch
        self.model = self.facts.generator()
        self.model.load_state_dict(load_file(folder / f"{name}.safetensors"))
        self.model.eval().to(device)

    def check(self, tokeniser: str, where: str) -> None:
        """Raises BadInput if units come from another tokeniser than the one it was trained with."""
        if tokeniser != self.facts.tokeniser:
            raise BadInput(
                f"{where}: units of tokeniser {tokeniser[:12]}, but {self.folder} speaks those of "
                f"{self.facts.tokeniser[:12]} only; encode with that one, or train a vocoder on these"
            )

    def speak(
        self, units: np.ndarray, tokeniser: str, speaker: str | None = None, pitch: np.ndarray | None = None
    ) -> np.ndarray:
        """Units of a clip to its waveform.

        Args:
            units: shape (frames,).
            tokeniser: sha256 of the tokeniser that made them.
            speaker, pitch: what the vocoder was trained with; pitch as `data.pitch_of` gives it, shape (frames, 3).

        Returns:
            float32 at 16 kHz, shape (frames * hop,).
        """
        self.check(tokeniser, "speak")
        return self._run(units, self._speaker(speaker), pitch)

    def stream(
        self,
        units: np.ndarray,
        tokeniser: str,
        chunk_units: int = 50,
        speaker: str | None = None,
        pitch: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """The same waveform in pieces: each is computed with so many units around it as it depends on, so no seams."""
        self.check(tokeniser, "stream")
        number, hop, context = self._speaker(speaker), self.facts.hop_samples, self.model.context
        for start in range(0, len(units), chunk_units):
            stop = min(start + chunk_units, len(units))
            first, last = max(0, start - context), min(len(units), stop + context)
            around = None if pitch is None else pitch[first:last]
            wave = self._run(units[first:last], number, around)
            yield wave[(start - first) * hop : (stop - first) * hop]

    def _run(self, units: np.ndarray, speaker: int, pitch: np.ndarray | None) -> np.ndarray:
        torch = self.torch
        if self.facts.spec.f0 and pitch is None:
            raise BadInput(f"{self.folder}: was trained with pitch (vocoder.f0) and needs it to speak")
        with torch.inference_mode():
            wave, _ = self.model(
                torch.from_numpy(np.asarray(units, np.int64))[None].to(self.device),
                torch.tensor([speaker], device=self.device),
                None if pitch is None else torch.from_numpy(pitch.T.copy())[None].to(self.device),
            )
        return wave[0, 0].float().cpu().numpy()

    def _speaker(self, name: str | None) -> int:
        if not self.facts.speakers:
            return 0
        if name not in self.facts.speakers:
            raise BadInput(f"{self.folder}: knows no speaker {name!r}; there are {_some(self.facts.speakers)}")
        return self.facts.speakers.index(name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
