"""Piper voices: an .onnx with its .onnx.json beside it, spoken by the package piper-tts (GPL, group `piper`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from voxmake.errors import Failure, Rejected

if TYPE_CHECKING:
    import numpy as np


class Piper:
    """A voice of Piper, or one that this tool released in Piper's format."""

    watermark = "none"

    def __init__(self, model: str, speed: float):
        try:
            from piper import PiperVoice, SynthesisConfig
        except ImportError:
            raise Failure(
                "tts.engine: piper-tts is not installed; run `python3 docker/setup.py --group piper`"
            ) from None
        beside = Path(f"{model}.json")
        if not beside.is_file():
            raise Failure(f"tts.model: {beside} is not there; copy it from where the voice came from")
        self.model, self.speed, self.settings = model, speed, SynthesisConfig
        facts = json.loads(beside.read_text(encoding="utf-8"))
        self.speakers: dict[str, int] = facts.get("speaker_id_map") or {}
        self.count: int = facts.get("num_speakers", 1)
        self.voice = PiperVoice.load(model, config_path=str(beside))
        self.rate_hz: int = self.voice.config.sample_rate

    def begin(self, voice: str | None, seed: int, take: int) -> None:
        import onnxruntime

        speaker = 0 if voice is None else self.speakers.get(voice, int(voice) if voice.isdigit() else self.count)
        if speaker >= self.count:
            raise Failure(
                f"tts.voice: {voice} is no speaker of this voice; there are: {' '.join(self.speakers) or self.count}"
            )
        self.speaker = speaker if self.count > 1 else None
        # The noise is drawn inside the graph, from a generator that starts with the session and goes on with each call.
        onnxruntime.set_seed(seed)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        provider = (
            "CUDAExecutionProvider"
            if "CUDAExecutionProvider" in onnxruntime.get_available_providers()
            else "CPUExecutionProvider"
        )
        self.voice.session = onnxruntime.InferenceSession(self.model, options, providers=[provider])

    def speak(self, text: str) -> np.ndarray:
        import numpy as np

        length = self.voice.config.length_scale / self.speed
        settings = self.settings(speaker_id=self.speaker, length_scale=length, normalize_audio=False)
        parts = [chunk.audio_float_array for chunk in self.voice.synthesize(text, syn_config=settings)]
        if not parts:
            raise Rejected("speech_failed", "no sound that the voice knows")
        return np.concatenate(parts).astype(np.float32)
