"""The config section `tts`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxmake.run.config import Section


class Tts(Section):
    """Who speaks the scripts that passed, how they sound, and what a clip must be like."""

    engine: Literal["espeak", "piper", "mms"] = Field(
        "espeak",
        description="espeak: in the wheel, no model; piper: a voice's .onnx (environment piper); mms: a VITS folder of transformers",
    )
    model: str | None = Field(
        None, description="file (piper) or folder (mms) of the voice, relative to the project's folder"
    )
    voice: str | None = Field(
        None, description="espeak: name and variant, null: en-us+klatt3; piper: name or number of a speaker; mms: none"
    )
    voices: dict[str, str] = Field({}, description="voice of single hosts, by id, instead of `voice`")
    speed: float = Field(1.0, ge=0.5, le=2, description="rate of speech, times the voice's own")
    lexicon: str | None = Field(
        None, description="YAML of word: how to say it, for speech only; relative to the project's folder"
    )
    max_chunk_chars: int = Field(
        280, ge=40, le=1000, description="most characters spoken at once; longer sentences are cut"
    )
    gap_s: float = Field(0.25, ge=0, le=3, description="silence between two sentences")
    crossfade_s: float = Field(
        0.02, ge=0, le=0.2, description="fade at the ends of each piece, and overlap inside a sentence"
    )
    target_lufs: float = Field(-16.0, ge=-40, le=-5, description="integrated loudness (ITU-R BS.1770-4), in LUFS")
    max_true_peak_db: float = Field(-1.0, ge=-9, le=0, description="highest true peak, in dBTP; a limiter keeps it")
    file_format: Literal["wav", "mp3", "opus"] = Field("wav", description="wav: 16 bit; opus: in Ogg")
    bitrate_kbps: int = Field(96, ge=16, le=320, description="of mp3 and opus")
    retries: int = Field(2, ge=0, le=10, description="more takes of a clip whose check fails, each with another seed")
    max_wer: float | None = Field(
        None,
        ge=0,
        description="most word errors per word of the text; null: 0.25, and 2.5 where pocketsphinx listens, which mishears "
        "every other word of a synthetic voice",
    )
    min_similarity: float | None = Field(
        None, ge=0, le=1, description="least similarity of text and what was heard; null: 0.8, with pocketsphinx 0.42"
    )
    longest_s: tuple[float, float] = Field(
        (1.5, 0.75), description="longest clip: so many seconds, and so many more for each word"
    )
    shortest_s_per_word: float = Field(0.1, ge=0, description="shortest clip, in seconds for each word")

    @model_validator(mode="after")
    def _consistent(self) -> Tts:
        if self.engine == "espeak" and self.model is not None:
            raise ValueError("model: espeak has none; take it out, or set engine")
        if self.engine != "espeak" and self.model is None:
            raise ValueError(f"model: engine {self.engine} needs one")
        if self.engine == "mms" and (self.voice or self.voices):
            raise ValueError("voice: an mms voice has one speaker; take voice and voices out")
        return self
