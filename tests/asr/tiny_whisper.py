"""Whisper models small enough for tests, with random weights, each in its engine's own file format."""

import json
from pathlib import Path

import numpy as np
import torch

STATE = 32
torch.set_num_threads(1)  # as in a worker; threads of so small a model would only wait for each other
LANGUAGES = ("en", "de", "fr")


def openai(folder: Path, multilingual: bool = True) -> Path:
    """A .pt file as OpenAI publishes them."""
    from whisper.model import ModelDimensions, Whisper

    torch.manual_seed(1)
    dims = ModelDimensions(80, 1500, STATE, 2, 1, 51865 if multilingual else 51864, 32, STATE, 2, 1)
    model = _loud(Whisper(dims))
    path = folder / ("tiny.pt" if multilingual else "tiny.en.pt")
    torch.save({"dims": vars(dims), "model_state_dict": model.state_dict()}, path)
    return path


def _loud(model):
    """Random weights of a size that makes another text of every sound."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def transformers(folder: Path, multilingual: bool = True) -> Path:
    """A folder as save_pretrained writes it, with a byte-level tokenizer."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = folder / ("hf" if multilingual else "hf.en")
    folder.mkdir()
    letters = {letter: number for number, letter in enumerate(bytes_to_unicode().values())}
    end = len(letters)
    (folder / "vocab.json").write_text(json.dumps(letters | {"<|endoftext|>": end}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = ["<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES if multilingual)]
    special += [
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
    tokenizer = WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([f"<|{number * 0.02:.2f}|>" for number in range(1501)])
    numbers = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    torch.manual_seed(2)
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=STATE, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=STATE, decoder_ffn_dim=STATE,
        max_target_positions=448, decoder_start_token_id=numbers["<|startoftranscript|>"], pad_token_id=end,
        bos_token_id=end, eos_token_id=end
    )  # fmt: skip
    model = _loud(WhisperForConditionalGeneration(config))
    settings = GenerationConfig(
        max_length=24, decoder_start_token_id=numbers["<|startoftranscript|>"], pad_token_id=end, bos_token_id=end,
        eos_token_id=end, is_multilingual=multilingual, no_timestamps_token_id=numbers["<|notimestamps|>"],
        suppress_tokens=[*range(32), *range(94, end), *range(end + 1, len(tokenizer))], begin_suppress_tokens=[end],
    )  # fmt: skip
    model.generation_config = settings
    if multilingual:
        settings.lang_to_id = {f"<|{code}|>": numbers[f"<|{code}|>"] for code in LANGUAGES}
        settings.task_to_id = {task: numbers[f"<|{task}|>"] for task in ("transcribe", "translate")}
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)  # preprocessor_config.json, as published checkpoints have it
    return folder


def faster(folder: Path) -> Path:
    """The transformers model as CTranslate2 converts it."""
    from ctranslate2.converters import TransformersConverter

    source = transformers(folder)  # which CTranslate2 takes for one of English alone, small as it is
    TransformersConverter(str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(
        str(folder / "ct2")
    )
    return folder / "ct2"


def clips(count: int) -> list[np.ndarray]:
    """Sounds of 1 to 4 s, each of its own pitch and rhythm."""
    made = []
    for number in range(count):
        t = np.arange(round(16000 * (1 + 3 * number / count))) / 16000
        tone = np.sin(2 * np.pi * 80 * 1.17**number * t) * (np.sin(2 * np.pi * (1 + number) * t) > 0)
        made.append((0.2 * tone + 0.01 * np.random.default_rng(number).standard_normal(t.size)).astype(np.float32))
    return made
