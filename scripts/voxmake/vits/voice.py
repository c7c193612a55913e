"""A VITS voice in Hugging Face format: made anew, loaded, given more characters, saved."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.errors import BadInput, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

# full: the defaults of VitsConfig, which are MMS's. The others are for a CPU: millions of parameters, not tens of.
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {
        "hidden_size": 128, "num_hidden_layers": 4, "ffn_dim": 512, "flow_size": 128, "upsample_initial_channel": 256,
        "posterior_encoder_num_wavenet_layers": 8, "resblock_kernel_sizes": [3, 5, 7],
        "resblock_dilation_sizes": [[1, 3], [1, 3], [1, 3]],
    },
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 3, "ffn_dim": 256, "flow_size": 64, "upsample_initial_channel": 128,
        "posterior_encoder_num_wavenet_layers": 6, "prior_encoder_num_wavenet_layers": 3,
        "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3], [1, 3]],
        "duration_predictor_filter_channels": 64,
    },
}  # fmt: skip
SPEAKER_CHANNELS = 256  # VITS' embedding of several speakers
SPECIAL = ("<pad>", "<unk>")


def new_voice(
    size: str, texts: Iterable[str], language: str, rate_hz: int, speakers: int, stochastic: bool, **more: Any
) -> tuple[Any, Any]:
    """A VitsModel with random weights and a tokenizer of the characters that the texts have.

    Args:
        more: keys of VitsConfig that replace the size's.
    """
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    characters = sorted({character for text in texts for character in text.lower()})
    vocabulary = {token: number for number, token in enumerate((SPECIAL[0], *characters, SPECIAL[1]))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        tokenizer = VitsTokenizer(
            str(file), language=language or None, add_blank=True, normalize=True, phonemize=False, is_uroman=False
        )
    config = VitsConfig(
        vocab_size=len(vocabulary), sampling_rate=rate_hz, num_speakers=speakers, layerdrop=0.0,
        speaker_embedding_size=SPEAKER_CHANNELS if speakers > 1 else 0, use_stochastic_duration_prediction=stochastic,
        **SIZES[size] | more,
    )  # fmt: skip
    model = VitsModel(config)
    _initialise(model)
    return model, tokenizer


def _initialise(model: Any) -> None:
    """VITS' own starting point: PyTorch's defaults, flows that begin as nothing, a quiet decoder.

    transformers begins all convolutions by He's rule, several times as wide: log deviations of 5 and more, a KL
    divergence in the thousands, and a posterior that collapses before the decoder has learnt to listen to it.
    """
    import torch
    from torch.nn.utils import parametrize

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Linear) and not parametrize.is_parametrized(module):
                module.reset_parameters()
        for layer in model.text_encoder.encoder.layers:
            for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                torch.nn.init.xavier_uniform_(projection.weight)
        for layer in model.flow.flows:
            layer.conv_post.weight.zero_()
            layer.conv_post.bias.zero_()
        predictor = model.duration_predictor
        for flow in [*getattr(predictor, "flows", []), *getattr(predictor, "post_flows", [])]:
            if hasattr(flow, "conv_proj"):
                flow.conv_proj.weight.zero_()
                flow.conv_proj.bias.zero_()
        for convolution in [*model.decoder.upsampler, *_convolutions(model.decoder.resblocks)]:
            torch.nn.init.normal_(convolution.weight, 0.0, 0.01)
        embedding = model.text_encoder.embed_tokens
        torch.nn.init.normal_(embedding.weight, 0.0, model.config.hidden_size**-0.5)


def _convolutions(module: Any) -> list[Any]:
    import torch

    return [inner for inner in module.modules() if isinstance(inner, torch.nn.Conv1d)]


def load_voice(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer from a local folder.

    Raises:
        ConfigError: there is no VitsModel, or one that can't be trained here.
    """
    from transformers import VitsModel, VitsTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    for name in ("config.json", "vocab.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"train_mms.base_model: {folder} has no {name}: it must be the folder of a VitsModel")
    if json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type") != "vits":
        raise ConfigError(f"train_mms.base_model: {folder} is no VITS model (model_type in its config.json)")
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(
            f"train_mms.base_model: {folder} has no model.safetensors: voxmake loads no pickled weights; fetch that file"
        )
    model, told = VitsModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(told["missing_keys"]):
        raise ConfigError(f"train_mms.base_model: {folder} lacks {len(missing)} weights, first {missing[0]}")
    tokenizer = VitsTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.phonemize:
        raise ConfigError(f"train_mms.base_model: {folder} reads phonemes; take one that reads characters, as MMS's do")
    return model, tokenizer


# ---------------------------------------------------------------------------- text


@cache
def _uroman() -> Any:
    import uroman

    return uroman.Uroman()  # seconds: once, not for every text as the tokenizer would


def spelled(tokenizer: Any, text: str) -> str:
    """The text as the tokenizer looks at it: lower case where it is, Latin letters where it asks for uroman."""
    if tokenizer.normalize:
        text = tokenizer.normalize_text(text)
    if tokenizer.is_uroman and not text.isascii():
        text = _uroman().romanize_string(text)
    return text


def unknown_characters(tokenizer: Any, text: str) -> set[str]:
    """Characters of a spelled text that the vocabulary lacks."""
    return {character for character in text if character not in tokenizer.encoder}


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Token ids with blanks between them; characters that it lacks are left out. Empty if none is left."""
    known = "".join(character for character in spelled(tokenizer, text) if character in tokenizer.encoder).strip()
    return tokenizer(known).input_ids if known else []


def add_characters(model: Any, tokenizer: Any, characters: Iterable[str]) -> Any:
    """Extend vocabulary and embedding; the new characters start at the mean of the known ones.

    Returns:
        the new tokenizer; the model is changed in place.
    """
    import torch
    from transformers import VitsTokenizer

    vocabulary = dict(tokenizer.encoder)
    # MMS keeps <unk> beside the vocabulary, at the next free id: it gets a row of its own, or two tokens had one id.
    for token in (tokenizer.unk_token, *sorted(set(characters))):
        if token not in vocabulary:
            vocabulary[token] = max(vocabulary.values()) + 1
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        extended = VitsTokenizer(
            str(Path(folder) / "vocab.json"), pad_token=tokenizer.pad_token, unk_token=tokenizer.unk_token,
            language=tokenizer.language, add_blank=tokenizer.add_blank, normalize=tokenizer.normalize,
            phonemize=tokenizer.phonemize, is_uroman=tokenizer.is_uroman,
        )  # fmt: skip
    old = model.text_encoder.embed_tokens
    rows = max(vocabulary.values()) + 1
    new = torch.nn.Embedding(rows, old.embedding_dim, old.padding_idx)
    with torch.no_grad():
        new.weight[:] = old.weight.mean(0)
        new.weight[: old.num_embeddings] = old.weight
    model.text_encoder.embed_tokens = new
    model.config.vocab_size = rows
    return extended


def set_speakers(model: Any, speakers: int) -> None:
    """Give a base of one speaker several; a base of several keeps its number.

    Raises:
        BadInput: the base has fewer speakers than the data.
    """
    if speakers <= model.config.num_speakers:
        return
    raise BadInput(
        f"the data has {speakers} speakers and the base model {model.config.num_speakers}: choose "
        f"{model.config.num_speakers} with dataset.speakers, or train from scratch (train_mms.base_model: null)"
    )


# ---------------------------------------------------------------------------- weights


def apply_weight_norm(model: Any) -> None:
    """The decoder is trained with weight norm; VitsModel keeps it without."""
    from torch.nn.utils.parametrizations import weight_norm

    for convolution in [*model.decoder.upsampler, *_convolutions(model.decoder.resblocks)]:
        weight_norm(convolution)


def plain_copy(model: Any) -> Any:
    """The model as it is saved and speaks: without the decoder's weight norm, on the CPU."""
    import torch
    from transformers import VitsModel

    # Not a deep copy: taking the parametrisation off a copy takes it off the original's class as well.
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("decoder.")}
    for name, module in model.decoder.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            state |= {f"decoder.{name}.weight": module.weight.detach()}
            state |= {f"decoder.{name}.bias": module.bias} if module.bias is not None else {}
    plain = VitsModel(model.config)
    plain.load_state_dict({name: value.cpu() for name, value in state.items()})
    return plain.eval()


def save_voice(model: Any, tokenizer: Any, folder: Path) -> list[str]:
    """Write a folder that VitsModel.from_pretrained and pipeline("text-to-speech") open; returns its file names."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sorted(path.name for path in folder.iterdir())
