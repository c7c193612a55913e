"""A voice in ONNX spoken through onnxruntime: MMS's interface and Piper's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SEED = 1  # of the noise in the models


class OnnxVoice:
    """One ONNX file, and beside it tokens.txt (MMS) or <name>.onnx.json (Piper).

    Args:
        threads: of onnxruntime.
    """

    def __init__(self, path: Path, threads: int = 1):
        import onnxruntime

        onnxruntime.set_seed(SEED)  # the noise comes from a generator of the session, seeded when it is made
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.facts = self.session.get_modelmeta().custom_metadata_map
        self.rate_hz = int(self.facts["sample_rate"])
        self.names = [entry.name for entry in self.session.get_inputs()]
        self.is_piper = "scales" in self.names
        self.path = path
        if self.is_piper:
            self.config = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        else:
            lines = path.with_name("tokens.txt").read_text(encoding="utf-8").split("\n")
            self.tokens = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines if line}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        if self.is_piper:
            from piper import PiperVoice  # its phonemizer is what the voice was trained with

            piper = PiperVoice.load(self.path)
            return [number for sentence in piper.phonemize(text) for number in piper.phonemes_to_ids(sentence)]
        known = [self.tokens[character] for character in text.lower() if character in self.tokens]
        if not int(self.facts["add_blank"]):
            return known
        blanked = [0] * (2 * len(known) + 1)
        blanked[1::2] = known
        return blanked

    def speak(self, ids: list[int], speaker: int = 0) -> np.ndarray:
        """Audio of one sentence: float32, -1 to 1, shape (n,)."""
        x, length = np.array([ids], np.int64), np.array([len(ids)], np.int64)
        if self.is_piper:
            scales = self.config["inference"]
            values = [scales["noise_scale"], scales["length_scale"], scales["noise_w"]]
            feed = {"input": x, "input_lengths": length, "scales": np.array(values, np.float32)}
        else:
            scales = {"noise_scale": 0.667, "length_scale": 1.0, "noise_scale_w": 0.8}
            feed = {"x": x, "x_length": length} | {k: np.array([v], np.float32) for k, v in scales.items()}
        if "sid" in self.names:
            feed["sid"] = np.array([speaker], np.int64)
        return self.session.run(None, feed)[0].reshape(-1)
