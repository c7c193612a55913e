"""Piper voices: an .onnx with its .onnx.json beside it, spoken by the package piper-tts.

piper-tts is GPL, so it runs in a process of its own, in the environment `piper` (docker/setup.py --env piper). The two
speak through pipes: a line of JSON in, a line of JSON and so many bytes of samples out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from voxmake.errors import Failure, Rejected

_SCRIPTS = Path(__file__).resolve().parents[2]


class Piper:
    """A voice of Piper, or one that this tool released in Piper's format."""

    watermark = "none"

    def __init__(self, model: str, speed: float):
        from voxmake.run.stage import PROJECT_ROOT

        folder = Path(os.environ.get("VOXMAKE_ENVS") or PROJECT_ROOT / ".venv")
        python = folder / "piper" / "bin" / "python"
        beside = Path(f"{model}.json")
        if not beside.is_file():
            raise Failure(f"tts.model: {beside} is not there; copy it from where the voice came from")
        if not python.exists():
            raise Failure("tts.engine: piper-tts is not installed; run `python3 docker/setup.py --env piper`")
        facts = json.loads(beside.read_text(encoding="utf-8"))
        self.speakers: dict[str, int] = facts.get("speaker_id_map") or {}
        self.count: int = facts.get("num_speakers", 1)
        self.rate_hz: int = facts["audio"]["sample_rate"]
        # It ends with this process: its stdin is closed then.
        self.child = subprocess.Popen(
            [python, "-m", "voxmake.tts.piper", model, str(speed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_SCRIPTS), os.environ.get("PYTHONPATH")]))},
        )

    def begin(self, voice: str | None, seed: int, take: int) -> None:
        speaker = 0 if voice is None else self.speakers.get(voice, int(voice) if voice.isdigit() else self.count)
        if speaker >= self.count:
            there = " ".join(self.speakers) or self.count
            raise Failure(f"tts.voice: {voice} is no speaker of this voice; there are: {there}")
        self._ask({"begin": seed, "speaker": speaker if self.count > 1 else None})

    def speak(self, text: str) -> Any:
        import numpy as np

        samples = np.frombuffer(self._ask({"text": text}), "<f4")
        if not len(samples):
            raise Rejected("speech_failed", "no sound that the voice knows")
        return samples

    def _ask(self, question: dict) -> bytes:
        try:
            self.child.stdin.write(json.dumps(question).encode() + b"\n")
            self.child.stdin.flush()
            answer = self.child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise Failure("tts.engine: piper-tts ended by itself; what it said is in the run's log")
        return self.child.stdout.read(json.loads(answer)["bytes"])


def serve(model: str, speed: float) -> None:
    """The other end: answer one line after the other."""
    import numpy as np
    import onnxruntime
    from piper import PiperVoice, SynthesisConfig

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get among the samples
    voice = PiperVoice.load(model, config_path=f"{model}.json")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    there = onnxruntime.get_available_providers()
    provider = "CUDAExecutionProvider" if "CUDAExecutionProvider" in there else "CPUExecutionProvider"
    settings = SynthesisConfig(length_scale=voice.config.length_scale / speed, normalize_audio=False)
    for line in sys.stdin:
        asked, data = json.loads(line), b""
        if "text" in asked:
            parts = [chunk.audio_float_array for chunk in voice.synthesize(asked["text"], syn_config=settings)]
            data = b"".join(part.astype(np.float32).tobytes() for part in parts)
        else:
            settings.speaker_id = asked["speaker"]
            # The noise is drawn inside the graph, from a generator that starts with the session and goes on with each call.
            onnxruntime.set_seed(asked["begin"])
            voice.session = onnxruntime.InferenceSession(model, options, providers=[provider])
        answers.write(json.dumps({"bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]))
