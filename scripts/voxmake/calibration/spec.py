"""The config section `calibrate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxmake.calibration.losses import COMPONENTS
from voxmake.writing.engine import TextModel

Component = Literal["duration", "coverage", "structure", "quality", "rouge"]


class Judge(TextModel):
    """Who judges coverage and quality of calibrated scripts; best another family of models than the writer's."""

    engine: Literal["measures", "openai", "transformers"] = Field(
        "measures", description="measures: named measures, no judge and no model; else a model with this section's keys"
    )
    max_tokens: int = Field(
        4000, ge=1, le=32768, description="tokens of one answer, thinking included; longer is an error"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest word")


class Calibrate(TextModel):
    """A podcast prompt against what people made of the same papers."""

    engine: Literal["grammar", "openai", "transformers"] = Field(
        "grammar",
        description="who writes, classifies and refines. grammar: extracts with lead-ins, rules and a search, no model",
    )
    pairs: str | None = Field(None, description="folder of <id>.pdf and <id>.mp3; relative to the project's folder")
    prompts: str = Field("configs/prompts", description="folder of podcast.j2 and the other podcast prompts")
    hold_out: int = Field(1, ge=0, description="pairs that no trial sees; scored once, at the end; drawn by the seed")
    max_trials: int = Field(5, ge=1, le=100, description="trials at most, the first one included")
    patience: int = Field(2, ge=1, description="trials over which min_gain is asked for")
    min_gain: float = Field(0.05, ge=0, lt=1, description="stop when the best loss falls by less than this share")
    noise_draws: int = Field(
        3, ge=2, le=20, description="times the first prompt is written and measured, each with other seeds"
    )
    weights: dict[Component, float] = Field(
        {"duration": 0.25, "coverage": 0.25, "structure": 0.2, "quality": 0.2, "rouge": 0.1},
        description="of the losses; they need not add up to 1",
    )
    concepts: int = Field(12, ge=1, le=100, description="concepts of each paper that are looked for")
    language: str = Field("en", pattern="^en$", description="language of papers and recordings; the rules know English")
    min_font_pt: float = Field(4.0, ge=0, le=20, description="smaller text is not read: no reader sees it")
    max_pages: int = Field(200, ge=1, description="papers with more pages are rejected")
    max_cpu_s: float = Field(7200.0, ge=1, description="CPU seconds that reading and hearing one pair may take")
    max_tokens: int = Field(
        6000, ge=1, le=32768, description="tokens of one answer, thinking included; longer is an error"
    )

    @model_validator(mode="after")
    def _weighted(self) -> Calibrate:
        if set(self.weights) != set(COMPONENTS) or min(self.weights.values()) < 0 or not sum(self.weights.values()):
            raise ValueError(f"weights: needs one of 0 or more for each of {', '.join(COMPONENTS)}")
        return self
