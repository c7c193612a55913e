"""VITS voices of transformers: Meta's MMS, and every folder that `VitsModel.save_pretrained` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxmake.errors import Rejected

if TYPE_CHECKING:
    import numpy as np


class Mms:
    """A folder with config.json, tokenizer and safetensors; nothing is downloaded."""

    watermark = "none"

    def __init__(self, folder: str, speed: float):
        import torch
        from transformers import VitsModel, VitsTokenizer

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = VitsTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = VitsModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(self.device)
        self.model.eval()
        self.model.speaking_rate *= speed
        self.rate_hz: int = self.model.config.sampling_rate
        self.romanise = None
        if self.tokenizer.is_uroman:
            from uroman import Uroman

            self.romanise = Uroman().romanize_string

    def begin(self, voice: str | None, seed: int, take: int) -> None:
        self.seed = seed

    def speak(self, text: str) -> np.ndarray:
        import torch

        if self.romanise is not None:
            text = self.romanise(text)
        inputs = self.tokenizer(text, return_tensors="pt").to(self.device)
        if inputs["input_ids"].shape[1] < 2:
            raise Rejected("speech_failed", "no letter that the voice's tokenizer knows")
        torch.manual_seed(self.seed)  # for each piece: what was said before must not decide it
        with torch.inference_mode():
            return self.model(**inputs).waveform[0].float().cpu().numpy()
