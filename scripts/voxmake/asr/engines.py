"""Speech recognisers behind one Protocol: samples in, what was heard out.

Each is imported only when it is chosen, loads a model from a local path, and never asks a network. What it hears
of a clip depends on that clip alone, not on its neighbours in the batch: Whisper's input is always 30 s wide, and
log-mel features are scaled clip by clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from voxmake.errors import Failure, Rejected

if TYPE_CHECKING:
    import numpy as np

RATE_HZ = 16000  # what every engine here listens at
WHISPER_WINDOW_S = 30.0  # arXiv 2212.04356, section 2.2
# Beam search as openai-whisper, faster-whisper and whisperX set it for files; transformers' own default differs.
LENGTH_PENALTY = 1.0


@dataclass(frozen=True)
class Heard:
    """What an engine made of one clip.

    Attributes:
        text: as it came from the engine.
        language: the language it sounds like, ISO 639-1; "" if the engine does not tell.
        probability: of that language, 0 to 1; None if the engine does not tell.
    """

    text: str
    language: str = ""
    probability: float | None = None


class Recogniser(Protocol):
    """An engine.

    Attributes:
        window_s: the longest piece of audio it takes; None: any.
    """

    window_s: float | None

    def recognise(self, clips: list[np.ndarray], language: str) -> list[Heard]:
        """Listen to a batch.

        Args:
            clips: mono float32 at 16 kHz, each of shape (n,), none longer than `window_s`.
            language: ISO 639-1 code of what is spoken; "" if it is not known.

        Raises:
            Rejected: the engine does not know this language.
        """
        ...


def load(engine: str, model: str | None, beam_size: int, compute_type: str) -> Recogniser:
    """The engine of this name, with its model in memory.

    Raises:
        Failure: the package is not installed, or can't compute with this type.
    """
    if engine == "pocketsphinx":
        return Pocketsphinx()
    made = {"whisper": OpenaiWhisper, "transformers": TransformersWhisper, "faster-whisper": FasterWhisper}[engine]
    return made(str(model), beam_size, compute_type)


def identity(engine: str, digest: str | None, beam_size: int, compute_type: str) -> str:
    """Everything that decides what is heard, but for the clip and its language: the key of remembered hypotheses."""
    package = {"whisper": "openai-whisper"}.get(engine, engine)
    if engine == "pocketsphinx":
        return f"{package}-{version(package)}-settings{Pocketsphinx.settings_version}"
    return f"{package}-{version(package)}-{digest}-beam{beam_size}-{compute_type}"


# ---------------------------------------------------------------------------- pocketsphinx


class Pocketsphinx:
    """CMU PocketSphinx with the US English model of its wheel: the default that needs no download.

    One utterance at a time, with cepstral means over the whole utterance (`full_utt`), which gave 0.04 more
    similarity than running means. docs/validation.md has what else was tried.
    """

    window_s = None
    settings_version = 2  # raised by hand when the lines below change what is heard

    def __init__(self) -> None:
        import pocketsphinx

        # Weight of the language model in all three passes; the model's own is 6.5, 8.5 and 9.5, for dictation of news.
        # topn: Gaussians that score a frame; its own is 4. Both chosen on half of a real voice (docs/validation.md).
        weight = 6.0
        self.decoder = pocketsphinx.Decoder(
            samprate=RATE_HZ, lw=weight, fwdflatlw=weight, bestpathlw=weight, topn=8, loglevel="FATAL"
        )

    def recognise(self, clips: list[np.ndarray], language: str) -> list[Heard]:
        if language not in ("", "en"):
            raise Rejected("language_not_known", f"{language}; pocketsphinx knows en")
        return [Heard(self._hear(clip)) for clip in clips]

    def _hear(self, samples: np.ndarray) -> str:
        import numpy as np

        # Its frames are 25.6 ms long; nothing shorter can be searched.
        if len(samples) < RATE_HZ // 10:
            return ""
        data = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        self.decoder.reinit_feat()  # means of the clip before must not decide this one's
        self.decoder.start_utt()
        self.decoder.process_raw(data, full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return "" if hypothesis is None else hypothesis.hypstr


# ---------------------------------------------------------------------------- Whisper


def _device() -> str:
    """The GPU that the engine's process was given (CUDA_VISIBLE_DEVICES), or the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _no_such_type(engine: str, compute_type: str) -> Failure:
    return Failure(f"validation.compute_type: {engine} has no {compute_type}; set float32, or float16 on a GPU")


class OpenaiWhisper:
    """openai-whisper: a .pt file with `dims` and `model_state_dict`. 30 s windows, no timestamps, temperature 0.

    Args:
        model: the file; its sha256 has been compared with the pinned one. Tensors are all that is unpickled.
    """

    window_s = WHISPER_WINDOW_S

    def __init__(self, model: str, beam_size: int, compute_type: str):
        import torch
        import whisper

        if compute_type not in ("float32", "float16"):
            raise _no_such_type("whisper", compute_type)
        self.whisper, self.fp16 = whisper, compute_type == "float16"
        self.beam_size = beam_size if beam_size > 1 else None
        # Not whisper.load_model: it takes the name of a public model for a file and downloads it.
        weights = torch.load(model, map_location="cpu", weights_only=True)
        self.model = whisper.model.Whisper(whisper.model.ModelDimensions(**weights["dims"]))
        self.model.load_state_dict(weights["model_state_dict"])
        self.model = self.model.to(_device()).eval()

    def recognise(self, clips: list[np.ndarray], language: str) -> list[Heard]:
        import torch
        from whisper.tokenizer import LANGUAGES, get_tokenizer

        _check_language(language, set(LANGUAGES) if self.model.is_multilingual else {"en"})
        mels = [
            self.whisper.log_mel_spectrogram(
                self.whisper.pad_or_trim(clip), self.model.dims.n_mels, device=self.model.device
            )
            for clip in clips
        ]
        mel = torch.stack(mels)
        with torch.inference_mode():
            features = self.model.encoder(mel.half() if self.fp16 else mel)
            languages: list[dict[str, float]] = [{"en": 1.0}] * len(clips)
            if self.model.is_multilingual:
                tokenizer = get_tokenizer(True, num_languages=self.model.num_languages)
                languages = self.model.detect_language(features, tokenizer)[1]
            sounds = [max(probabilities.items(), key=lambda pair: pair[1]) for probabilities in languages]
            heard: list[Heard] = [Heard("")] * len(clips)
            # One call for each language; each clip by itself with beams, since version 20250625 searches beams of
            # one clip only. The encoder, which takes most of the time of short clips, has seen the whole batch.
            spoken = [language or code for code, _ in sounds]
            together: list[tuple[str, list[int]]] = [(code, [index]) for index, code in enumerate(spoken)]
            if self.beam_size is None:
                together = [(c, [i for i, code in enumerate(spoken) if code == c]) for c in sorted(set(spoken))]
            for code, members in together:
                options = self.whisper.DecodingOptions(
                    language=code, beam_size=self.beam_size, length_penalty=LENGTH_PENALTY if self.beam_size else None,
                    without_timestamps=True, fp16=self.fp16,
                )  # fmt: skip
                decoded = self.whisper.decode(self.model, features[members], options)
                for index, result in zip(members, decoded, strict=True):
                    told = sounds[index] if self.model.is_multilingual else ("", None)
                    heard[index] = Heard(result.text, told[0], _rounded(told[1]))
        return heard


class TransformersWhisper:
    """Any Whisper checkpoint of transformers: a folder with config.json, tokenizer, preprocessor and safetensors."""

    window_s = WHISPER_WINDOW_S

    def __init__(self, model: str, beam_size: int, compute_type: str):
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        if compute_type.startswith("int8"):
            raise _no_such_type("transformers", compute_type)
        self.beam_size = beam_size
        self.processor = WhisperProcessor.from_pretrained(model, local_files_only=True)
        self.model = WhisperForConditionalGeneration.from_pretrained(
            model, local_files_only=True, use_safetensors=True, dtype=getattr(torch, compute_type)
        )
        self.model = self.model.to(_device()).eval()
        self.languages: dict[str, int] = {
            token.strip("<|>"): number
            for token, number in (getattr(self.model.generation_config, "lang_to_id", None) or {}).items()
        }

    def recognise(self, clips: list[np.ndarray], language: str) -> list[Heard]:
        import torch

        _check_language(language, set(self.languages) or {"en"})
        inputs = self.processor(
            clips, sampling_rate=RATE_HZ, return_tensors="pt", return_attention_mask=True, padding="max_length"
        )
        with torch.inference_mode():
            encoded = self.model.model.encoder(inputs.input_features.to(self.model.device, self.model.dtype))
            sounds = self._sounds_like(encoded, len(clips))
            options: dict[str, Any] = {}
            if self.languages:
                options = {"language": [language or code for code, _ in sounds], "task": "transcribe"}
            tokens = self.model.generate(
                encoder_outputs=encoded, attention_mask=inputs.attention_mask.to(self.model.device),
                num_beams=self.beam_size, length_penalty=LENGTH_PENALTY, do_sample=False, return_timestamps=False,
                force_unique_generate_call=True,  # one window, one answer: else it seeks on after a timestamp token
                **options,
            )  # fmt: skip
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [Heard(text.strip(), *told) for text, told in zip(texts, sounds, strict=True)]

    def _sounds_like(self, encoded: Any, clips: int) -> list[tuple[str, float | None]]:
        """The most probable language of each clip: the decoder's first step, over the language tokens."""
        import torch

        if not self.languages:
            return [("", None)] * clips
        first = torch.full((clips, 1), self.model.config.decoder_start_token_id, device=self.model.device)
        logits = self.model(encoder_outputs=encoded, decoder_input_ids=first).logits[:, -1]
        codes = list(self.languages)
        probabilities = logits[:, [self.languages[code] for code in codes]].float().softmax(-1).cpu()
        best = probabilities.max(-1)
        return [
            (codes[index], _rounded(value))
            for index, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


class FasterWhisper:
    """faster-whisper (CTranslate2): a folder with model.bin, config.json, vocabulary and tokenizer.json.

    The optional group `faster-whisper` brings it. Features and prompts are faster-whisper's; its batched pipeline is
    not used, since that cuts by voice activity and takes one language for all.
    """

    window_s = WHISPER_WINDOW_S

    def __init__(self, model: str, beam_size: int, compute_type: str):
        try:
            from faster_whisper import WhisperModel
        except ImportError:
            raise Failure(
                "validation.engine: faster-whisper is not installed; run `python3 docker/setup.py --group faster-whisper`"
            ) from None

        if not (Path(model) / "tokenizer.json").is_file():  # it would be looked for on the hub
            raise Failure(f"validation.model: {model} has no tokenizer.json; copy it from the model that was converted")
        self.beam_size = beam_size
        self.model = WhisperModel(
            model, device=_device(), compute_type=compute_type, cpu_threads=1, local_files_only=True
        )
        self.codes = set(self.model.supported_languages)

    def recognise(self, clips: list[np.ndarray], language: str) -> list[Heard]:
        import numpy as np
        from faster_whisper.audio import pad_or_trim
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self.model.model.is_multilingual
        _check_language(language, self.codes if multilingual else {"en"})
        encoded = self.model.encode(
            np.stack([pad_or_trim(self.model.feature_extractor(clip)[..., :-1]) for clip in clips])
        )
        sounds: list[tuple[str, float | None]] = [("", None)] * len(clips)
        if multilingual:
            found = [best[0] for best in self.model.model.detect_language(encoded)]
            sounds = [(token[2:-2], _rounded(probability)) for token, probability in found]
        tokenizers = [
            Tokenizer(self.model.hf_tokenizer, multilingual, task="transcribe", language=language or code or "en")
            for code, _ in sounds
        ]
        prompts = [[*tokenizer.sot_sequence, tokenizer.no_timestamps] for tokenizer in tokenizers]
        results = self.model.model.generate(
            encoded, prompts, beam_size=self.beam_size, length_penalty=LENGTH_PENALTY, max_length=self.model.max_length
        )
        return [
            Heard(tokenizer.decode(result.sequences_ids[0]).strip(), *told)
            for tokenizer, result, told in zip(tokenizers, results, sounds, strict=True)
        ]


def _check_language(language: str, known: set[str]) -> None:
    if language and language not in known:
        raise Rejected("language_not_known", f"{language}; the model knows {len(known)} others")


def _rounded(probability: float | None) -> float | None:
    """Rounded so far that the order of additions, which batches change, does not show."""
    return None if probability is None else round(probability, 3)
