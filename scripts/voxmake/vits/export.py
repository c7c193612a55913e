"""A VITS voice as ONNX, with what sherpa-onnx wants to know of it inside."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

OPSET = 15  # Piper's; sherpa-onnx and onnxruntime of years ago read it
# Sherpa-onnx's names for MMS voices (its scripts/mms): one sentence at a time.
INPUTS = ["x", "x_length", "noise_scale", "length_scale", "noise_scale_w"]


def export_onnx(model: Any, tokenizer: Any, path: Path, language: str) -> None:
    """Write <path> and tokens.txt beside it.

    Args:
        model: as `voice.plain_copy` gives it.
        language: of the voice, ISO code or name; "" if it is not known.
    """
    import onnx
    import torch

    class Speaking(torch.nn.Module):
        """VitsModel with its noise and pace as inputs."""

        def __init__(self) -> None:
            super().__init__()
            self.voice = model

        def forward(
            self, x: Any, x_length: Any, noise_scale: Any, length_scale: Any, noise_scale_w: Any, sid: Any = None
        ) -> Any:
            self.voice.noise_scale, self.voice.noise_scale_duration = noise_scale, noise_scale_w
            mask = (torch.arange(x.shape[1])[None] < x_length[:, None]).long()
            # The mask is all ones for one sentence; the text encoder is given none, so that nothing depends on it there.
            spoken = self.voice(x * mask, None, speaker_id=sid, speaking_rate=1 / length_scale)
            return spoken.waveform.unsqueeze(1)

    several = model.config.num_speakers > 1
    ids = torch.randint(1, model.config.vocab_size, (1, 61))  # longer than the attention's window, or that is traced in
    scales = [torch.tensor([value]) for value in (model.config.noise_scale, 1.0, model.config.noise_scale_duration)]
    arguments = (ids, torch.tensor([61]), *scales, *([torch.tensor([0])] if several else []))
    names = [*INPUTS, *(["sid"] if several else [])]
    # `model` keeps its own scales after tracing: they are what pipeline() speaks with.
    kept = model.noise_scale, model.noise_scale_duration
    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, of every size that it meets
        # The exporter of torch 2.9 and later (dynamo) stops at VITS' splines: it can't prove their discriminant >= 0.
        torch.onnx.export(
            Speaking().eval(), arguments, str(path), dynamo=False, opset_version=OPSET, input_names=names,
            output_names=["y"],
            dynamic_axes={"x": {0: "N", 1: "L"}, "x_length": {0: "N"}, "y": {0: "N", 2: "samples"}},
        )  # fmt: skip
    model.noise_scale, model.noise_scale_duration = kept
    loaded = onnx.load(path)
    facts = {
        "model_type": "vits", "comment": "mms", "url": "", "frontend": "characters", "language": language,
        "add_blank": int(tokenizer.add_blank), "n_speakers": model.config.num_speakers,
        "sample_rate": model.config.sampling_rate,
    }  # fmt: skip
    add_metadata(loaded, facts)
    onnx.save(loaded, path)
    lines = [f"{token} {number}" for token, number in sorted(tokenizer.encoder.items(), key=lambda item: item[1])]
    path.with_name("tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def add_metadata(model: Any, facts: dict[str, Any]) -> None:
    """Set metadata_props, which sherpa-onnx reads."""
    del model.metadata_props[:]
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
