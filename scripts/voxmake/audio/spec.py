"""The config section `audio:`: the one format that every clip is brought to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from voxmake.run.config import Section


class AudioSpec(Section):
    """One format for every clip: rate, level, length. Read by preprocess, and by collect in its one-pass mode."""

    sample_rate_hz: int = Field(16000, ge=8000, le=192000, description="rate of the clips; 16000 and 22050 are common")
    channels: Literal[1] = Field(1, description="channels of the clips; speech models take one")
    bit_depth: Literal[16, 24] = Field(16, description="bits of a sample, rounded, not dithered")
    file_format: Literal["wav", "flac"] = Field("wav", description="container; FLAC is the same audio at half the size")
    normalize: bool = Field(True, description="bring every clip to target_db")
    level_mode: Literal["rms", "lufs", "peak"] = Field(
        "rms", description="what target_db means: dBFS RMS, LUFS by ITU-R BS.1770-4, or dBFS sample peak"
    )
    target_db: float = Field(-20.0, ge=-60, le=0, description="level of the clips, in dBFS or LUFS by level_mode")
    true_peak_limit_db: float = Field(
        -1.0, ge=-20, le=0, description="dBTP; where a peak would pass it, the gain is lowered"
    )
    remove_dc: bool = Field(True, description="subtract the mean of the clip")
    trim_silence: bool = Field(False, description="cut silence at the start and the end")
    trim_threshold_db: float = Field(
        -40.0, ge=-90, lt=0, description="dB below the loudest 10 ms that count as silence"
    )
    trim_pad_s: float = Field(0.1, ge=0, le=10, description="seconds of silence that trimming leaves on each side")
    min_duration_s: float = Field(0.1, ge=0, description="shorter recordings are rejected")
    max_duration_s: float = Field(14400.0, gt=0, le=86400, description="longer recordings are rejected")
    max_channels: int = Field(8, ge=1, le=64, description="recordings with more channels are rejected")
    silence_db: float = Field(
        -70.0, ge=-120, lt=0, description="recordings whose peak stays below this, in dBFS, are rejected"
    )
    max_cpu_s: float = Field(600.0, ge=1, description="CPU seconds that one recording may take")
    max_memory_mb: int = Field(4096, ge=1024, description="address space of the process that decodes a recording")
