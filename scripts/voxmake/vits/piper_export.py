"""A voice of Piper's trainer as ONNX, with the inputs that Piper and its players expect."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from voxmake.vits.piper_adapter import Voice, read_checkpoint

OPSET = 15  # Piper's


def load_for_speech(path: Path) -> Voice:
    """A voice of `fit`, ready to speak."""
    found = read_checkpoint(path)
    voice = Voice(**found["hyper_parameters"])
    voice.load_state_dict(found["state_dict"])
    return voice.eval()


def export(voice: Voice, path: Path) -> None:
    """Write <path>: input, input_lengths, scales, and sid where there are speakers. Closes the adapter's fault 4."""
    generator = voice.model_g.eval()
    generator.dec.remove_weight_norm()

    class Speaking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = generator

        def forward(self, ids: Any, lengths: Any, scales: Any, sid: Any = None) -> Any:
            made = self.generator.infer(
                ids, lengths, sid=sid, noise_scale=scales[0], length_scale=scales[1], noise_scale_w=scales[2]
            )
            return made[0].unsqueeze(1)

    several = generator.n_speakers > 1
    torch.manual_seed(0)
    arguments = (torch.randint(1, generator.n_vocab, (1, 50)), torch.tensor([50]), torch.tensor([0.667, 1.0, 0.8]))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's
        torch.onnx.export(
            Speaking().eval(), (*arguments, *([torch.tensor([0])] if several else [])), str(path), dynamo=False,
            opset_version=OPSET, input_names=["input", "input_lengths", "scales", *(["sid"] if several else [])],
            output_names=["output"],
            dynamic_axes={
                "input": {0: "batch_size", 1: "phonemes"}, "input_lengths": {0: "batch_size"},
                "output": {0: "batch_size", 2: "time"},
            },
        )  # fmt: skip
