"""The config section `dataset:`: which clips are trained on, how they are split, in which formats they are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxmake.run.config import Section

Export = Literal["hf", "audiofolder", "ljspeech", "piper", "coqui", "nemo", "kaldi"]


class Dataset(Section):
    """The clips that are trained on: which ones, in which splits and formats."""

    exports: list[Export] = Field(
        ["hf", "audiofolder", "ljspeech", "piper", "coqui", "nemo", "kaldi"],
        description="formats to write; audio that several of them hold is stored once",
    )
    language: str = Field("", description="language of clips that name none, e.g. en; numbers are spelled in it")
    speakers: list[str] | None = Field(None, description="speakers to keep; null: all")
    speaker_states: list[Literal["definite", "uncertain", "outlier"]] = Field(
        ["definite", "uncertain"], description="how sure diarize must be of a clip's speaker"
    )
    alphabet: str | None = Field(
        None, description="characters a text may have, both cases; null: any. stats/characters.csv lists what there is"
    )
    # 500: finetune-hf-vits' limit on tokens of one clip
    min_text_chars: int = Field(1, ge=1, description="characters; shorter texts are rejected")
    max_text_chars: int = Field(500, ge=1, description="characters; longer texts are rejected")
    min_duration_s: float = Field(0.5, ge=0, description="shorter clips are rejected")
    max_duration_s: float = Field(20.0, gt=0, description="longer clips are rejected")
    min_chars_per_s: float = Field(1.0, ge=0, description="characters a second; slower clips are rejected")
    max_chars_per_s: float = Field(30.0, gt=0, description="characters a second; faster clips are rejected")
    outlier_iqr: float | None = Field(
        1.5, gt=0, description="interquartile ranges beyond its speaker's quartiles of characters a second; null: any"
    )
    outlier_min_clips: int = Field(20, ge=4, description="clips a speaker needs before its outliers are looked for")
    validation_ratio: float = Field(0.1, ge=0, lt=1, description="share of the texts held out for validation")
    test_ratio: float = Field(
        0.0, ge=0, lt=1, description="share of the texts held out for test; training gets the rest"
    )
    min_validation_per_speaker: int = Field(
        1, ge=0, description="texts of each speaker held out for validation at least, if validation_ratio is above 0"
    )
    train_batch_size: int = Field(
        16, ge=1, description="clips of a training batch; fewer clips than that fail the gate"
    )
    segment_s: float = Field(
        0.3716, ge=0, description="seconds that training cuts out of a clip; VITS and Piper: 8192 samples at 22050 Hz"
    )
    min_clips_per_speaker: int = Field(10, ge=1, description="clips; speakers with fewer usable ones are rejected")

    @model_validator(mode="after")
    def _consistent(self) -> Dataset:
        for low, high in (("min_text_chars", "max_text_chars"), ("min_duration_s", "max_duration_s"),
                          ("min_chars_per_s", "max_chars_per_s")):  # fmt: skip
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must not be above {high}")
        if self.validation_ratio + self.test_ratio >= 1:
            raise ValueError("validation_ratio and test_ratio leave nothing to train on")
        if "definite" not in self.speaker_states:
            raise ValueError("speaker_states must hold definite")
        return self
