"""The config sections of training: what both trainers share, `train_mms` and `train_piper`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxmake.run.config import Section

Mode = Literal["mini", "full"]


class Gates(Section):
    """Training of a voice: what both trainers share."""

    validated: bool = Field(True, description="train only on clips that whisper_validate passed; false: on all")
    mode: Mode = Field("full", description="mini: mini_epochs, to see that all of it works; full: num_epochs")
    mini_epochs: int = Field(2, ge=1, description="passes over the data of a mini training")
    sentences: list[str] = Field(
        default_factory=list,
        description="spoken at every evaluation and measured at the end; empty: 5 texts of the validation split",
    )
    max_steps: int | None = Field(None, ge=1, description="optimiser steps after which training ends at the latest")
    patience: int = Field(
        20, ge=1, description="evaluations without a better validation mel after which training stops (mode full)"
    )
    min_improvement: float = Field(0.001, ge=0, description="of the validation mel, that counts as better")
    keep_checkpoints: int = Field(3, ge=1, description="best checkpoints kept by validation mel, and by CER")
    select_by: Literal["mel", "cer"] = Field("mel", description="which best checkpoint becomes the voice")
    evaluate_cer: bool = Field(
        False, description="let validation's recogniser hear the sentences of every evaluation; it takes its time"
    )
    min_free_disk_gb: float = Field(2.0, ge=0, description="GB; with less free, training stops before it writes")
    speaker_clips: int = Field(10, ge=1, description="training clips that the voice's likeness is measured against")
    gate_loss_ratio: float = Field(
        1.0, gt=0, description="gate: the last validation mel over the first one is below this"
    )
    gate_min_level_db: float = Field(-45.0, le=0, description="gate: dBFS RMS that every spoken sentence reaches")
    gate_duration_ratio: float = Field(
        5.0, gt=1, description="gate: no sentence is so many times longer or shorter than the data's speaking rate says"
    )
    gate_max_cer: float | None = Field(
        None, gt=0, description="gate: mean character error rate of the sentences; null: only told"
    )
    gate_min_similarity: float | None = Field(
        None, ge=-1, le=1, description="gate: mean cosine likeness to the speaker's own clips; null: only told"
    )


class TrainMms(Gates):
    """Training of a VITS voice in Hugging Face format, from an MMS base or from scratch."""

    base_model: str | None = Field(
        None,
        description="folder of a VitsModel (facebook/mms-tts-…, or a voice of train_mms), relative to the project's folder; null: from scratch",
    )
    size: Literal["tiny", "small", "full"] = Field(
        "full", description="of a model from scratch: full is MMS's own, small and tiny are for a CPU"
    )
    missing_characters: Literal["drop", "add", "reject"] = Field(
        "drop",
        description="characters that the base's vocabulary lacks: left out of texts, added to it, or their clips rejected",
    )
    stochastic_durations: bool = Field(
        True, description="durations of a model from scratch vary from reading to reading"
    )
    num_epochs: int = Field(250, ge=1, description="passes over the training split")
    learning_rate: float = Field(1e-4, gt=0, description="of generator and discriminator, after the warm-up")
    # VITS: AdamW, betas 0.8 and 0.99, decay 0.999875 an epoch (arXiv 2106.06103, section 3.3)
    lr_decay: float = Field(0.999875, gt=0, le=1, description="factor of the learning rate after every epoch")
    batch_size: int | None = Field(
        None, ge=1, description="clips at once; null: found from free memory at the start, and kept when resuming"
    )
    gradient_accumulation_steps: int = Field(4, ge=1, description="batches of one optimiser step")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "fp16", description="numbers that a GPU computes with; a CPU computes in float32 whatever this says"
    )
    save_steps: int = Field(25, ge=1, description="optimiser steps between checkpoints to resume from")
    logging_steps: int = Field(10, ge=1, description="optimiser steps between lines of the log")
    eval_steps: int | None = Field(None, ge=1, description="optimiser steps between evaluations; null: every epoch")
    warmup_steps: int = Field(500, ge=0, description="optimiser steps over which the learning rate rises")
    segment_samples: int = Field(8192, ge=512, description="samples that are made and judged of each clip")
    mel_weight: float = Field(45.0, ge=0, description="of the log-mel distance; finetune-hf-vits takes 35 for MMS")
    kl_weight: float = Field(1.0, ge=0, description="of the KL divergence; finetune-hf-vits takes 1.5 for MMS")
    duration_weight: float = Field(1.0, ge=0, description="of the duration loss")
    adversarial_weight: float = Field(1.0, ge=0, description="of the adversarial loss")
    # VITS' code doubles it; its paper gives it no weight.
    feature_weight: float = Field(2.0, ge=0, description="of feature matching")
    discriminator_width: float = Field(1.0, gt=0, le=1, description="channels of the discriminators over VITS' own")
    max_grad_norm: float = Field(1000.0, gt=0, description="gradients of a larger norm are scaled down to it")

    @model_validator(mode="after")
    def _consistent(self) -> TrainMms:
        if self.segment_samples % 256:
            raise ValueError("segment_samples must be a multiple of 256, the hop of VITS")
        return self


class TrainPiper(Gates):
    """Training of a Piper voice through piper-tts's own trainer."""

    quality: Literal["small", "low", "medium", "high"] = Field(
        "medium", description="size of the voice: low speaks at 16000 Hz, medium and high at 22050, small is for a CPU"
    )
    espeak_voice: str | None = Field(
        None, description="voice of espeak-ng that reads the texts, as en-us; null: by the dataset's language"
    )
    checkpoint: str | None = Field(
        None, description="Piper .ckpt to begin with, relative to the project's folder; null: from scratch"
    )
    checkpoint_sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="sha256 of that file, which has to be pinned before it is loaded"
    )
    checkpoint_use: Literal["resume", "warm_start"] = Field(
        "warm_start",
        description="resume: go on with its optimisers, all shapes must fit; warm_start: take the weights that fit",
    )
    num_epochs: int = Field(2000, ge=1, description="passes over the training split")
    batch_size: int = Field(32, ge=1, description="clips at once")
    learning_rate: float = Field(2e-4, gt=0, description="of the generator; Piper's")
    discriminator_learning_rate: float = Field(1e-4, gt=0, description="of the discriminator; Piper's")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field(
        "bf16", description="numbers that a GPU computes with; a CPU computes in float32 whatever this says"
    )
    logging_steps: int = Field(10, ge=1, description="batches between lines of the log")
    eval_epochs: int = Field(1, ge=1, description="epochs between evaluations and checkpoints")
    segment_samples: int = Field(8192, ge=512, description="samples that are made and judged of each clip")
    discriminator_width: float = Field(
        1.0, gt=0, le=1, description="channels of the discriminator over Piper's own; below 1 voxmake's take its place"
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrainPiper:
        if self.segment_samples % 256:
            raise ValueError("segment_samples must be a multiple of 256, the hop of Piper")
        if self.checkpoint is not None and self.checkpoint_sha256 is None:
            raise ValueError("checkpoint is a pickle: pin it with checkpoint_sha256 (sha256sum FILE)")
        return self
