"""The config section `vocoder`."""

from __future__ import annotations

from math import prod
from typing import Literal

from pydantic import Field, model_validator

from voxmake.run.config import Section


class VocoderSpec(Section):
    """Training of a vocoder: units to a waveform at 16 kHz."""

    generator: Literal["vocos", "hifigan"] = Field(
        "vocos",
        description="vocos: everything at the units' rate and an inverse STFT, fast on a CPU; hifigan: V1, transposed convolutions",
    )
    dim: int = Field(512, ge=16, le=4096, description="channels at the units' rate")
    layers: int = Field(
        8,
        ge=1,
        le=64,
        description="ConvNeXt blocks at the units' rate, `front_layers` among them; hifigan has only these",
    )
    front_layers: int = Field(2, ge=1, le=64, description="blocks before the auxiliary mel head")
    embedding: int = Field(256, ge=4, le=4096, description="dimensions of a unit's embedding")
    fft: int = Field(1280, ge=320, le=8192, description="vocos: samples of the inverse STFT's window; 4 hops overlap")
    upsample_rates: list[int] = Field(
        default=[5, 4, 4, 2, 2], description="hifigan: their product is the samples of a unit, 320"
    )
    upsample_channels: int = Field(512, ge=32, le=2048, description="hifigan: channels before the first upsampling")
    speakers: bool = Field(False, description="the speaker of each clip is an input, so one vocoder has all voices")
    f0: bool = Field(False, description="pitch and voicing are inputs; needs the package group vocoder")

    periods: list[int] = Field(
        default=[2, 3, 5, 7, 11], description="parts of the multi-period discriminator; empty: none"
    )
    resolutions: list[int] = Field(
        default=[2048, 1024, 512], description="windows of the multi-resolution discriminator, in samples; empty: none"
    )
    scales: int = Field(
        0, ge=0, le=8, description="parts of the multi-scale discriminator; HiFi-GAN has 3 and no resolutions"
    )
    discriminator_width: float = Field(1.0, gt=0, le=2, description="multiplier of the discriminators' channels")

    epochs: int = Field(500, ge=1, description="epochs, at most")
    batch_size: int = Field(16, ge=1, le=1024, description="crops in one step, over all processes together")
    lr: float = Field(2e-4, gt=0, le=1, description="learning rate of AdamW (betas 0.8 and 0.99)")
    lr_decay: float = Field(0.999, gt=0, le=1, description="the learning rate's factor each epoch")
    samples_per_epoch: int = Field(
        10_000, ge=1, description="crops in one epoch; an epoch goes on where the last one ended"
    )
    crop_units: int = Field(40, ge=16, le=1000, description="units of a crop; 50 are a second")
    patience: int = Field(50, ge=1, description="epochs without a better validation before training ends")
    min_delta: float = Field(
        0.5, ge=0, description="by so much 45 x the validation's log-mel L1, mean of 3 epochs, must fall to be better"
    )
    save_every: int = Field(20, ge=1, description="epochs between vocoder_epoch_XXXX and sample_epoch_XXXX.wav")
    validation_clips: int = Field(20, ge=1, description="clips held out for early stopping; a tenth of all at most")
    test_clips: int = Field(20, ge=1, description="clips held out for evaluate_vocoder; a tenth of all at most")
    validation_s: float = Field(4.0, ge=0.5, description="seconds of each validation clip, from its middle")

    mel_weight: float = Field(45.0, ge=0, description="weight of the log-mel L1 (80 bands, 1024 samples)")
    feature_weight: float = Field(2.0, ge=0, description="weight of feature matching")
    auxiliary_weight: float = Field(60.0, ge=0, description="weight of the mel that the front's head tells from units")
    auxiliary_steps: int = Field(200_000, ge=0, description="steps after which that head has no weight any more")
    mel_only_steps: int = Field(2000, ge=0, description="steps before the discriminators begin")
    ramp_steps: int = Field(2000, ge=1, description="steps over which their weight then grows from 0 to 1")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="of the averaged generator, which is the one that is kept")
    gradient_clip: float = Field(500.0, gt=0, description="gradients' norm is cut to this")
    collapse_loss: float = Field(
        0.02,
        ge=0,
        description="the discriminators have won where their loss, mean of parts, stays below; 0.5 is a draw",
    )
    collapse_steps: int = Field(
        2000, ge=1, description="so many steps below: their lr is halved, they take every 2nd step"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="what the networks compute in; bfloat16 is for GPUs. Losses are always float32"
    )

    @model_validator(mode="after")
    def _consistent(self) -> VocoderSpec:
        if not (self.periods or self.resolutions or self.scales):
            raise ValueError("periods, resolutions and scales: one at least must be there")
        if self.front_layers > self.layers:
            raise ValueError("front_layers: are among `layers`, so no more than these")
        if self.generator == "hifigan" and self.upsample_channels % 2 ** len(self.upsample_rates):
            raise ValueError("upsample_channels: are halved at each of upsample_rates, so must be divisible that often")
        return self

    def hop(self) -> int | None:
        """Samples of a unit that the generator is made for; None: any."""
        return prod(self.upsample_rates) if self.generator == "hifigan" else None
