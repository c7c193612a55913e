"""The config section `quality:`: what makes a clip suspect, and what makes a whole set fail."""

from __future__ import annotations

from pydantic import Field

from voxmake.run.config import Section


class Quality(Section):
    """What makes a clip suspect, and what makes the whole set fail the gate."""

    sample_count: int = Field(
        30, ge=0, description="clips in samples.tsv, for listening: drawn by the seed, equally by speaker"
    )
    suspect_top: int = Field(100, ge=0, description="rows of suspects.tsv and of the page; clips.csv has all clips")
    dnsmos: bool = Field(
        True, description="score clips by DNSMOS P.835 and P.808; 0.4 s a clip and core, more over 9 s"
    )
    dnsmos_sample: int | None = Field(
        None, ge=1, description="score so many clips only, drawn by the seed, equally by speaker; null: all"
    )
    asr_sample: int | None = Field(
        None,
        ge=1,
        description="recognise so many clips and compare them with their texts, drawn by the seed, equally by speaker; by the engine and the gate_sample_ limits of `validation`; null: none",
    )
    near_duplicates: bool = Field(True, description="look for the same recording cut, levelled or encoded otherwise")
    near_duplicate_correlation: float = Field(
        0.85, gt=0, le=1, description="of two clips' spectrograms laid over each other, that makes them one recording"
    )

    # A clip beyond one of these is suspect; voxmake/quality/rules.py says what each means.
    min_duration_s: float = Field(0.5, ge=0, description="shorter clips are suspect")
    max_duration_s: float = Field(20.0, gt=0, description="longer clips are suspect; trainers skip or cut them")
    max_text_chars: int = Field(300, ge=1, description="longer texts are suspect")
    max_rate_z: float = Field(
        3.0, gt=0, description="robust z of a clip's speaking rate (log of characters per second) among its speaker's"
    )
    max_speaker_z: float = Field(
        3.5, gt=0, description="robust z of a clip's distance from its speaker's centroid among the speaker's clips"
    )
    max_clipped_ratio: float = Field(
        0.0005, ge=0, le=1, description="share of clipped samples, in the source or the clip"
    )
    min_snr_db: float = Field(20.0, ge=0, description="speech level over noise floor, in dB")
    max_noise_z: float = Field(
        5.0, gt=0, description="robust z of how much nearer a clip's noise is to its speech than among its speaker's"
    )
    min_dnsmos: float = Field(2.5, ge=1, le=5, description="DNSMOS P.835 OVRL, 1 to 5")
    max_edge_db: float = Field(
        -20.0, le=0, description="level of the first or last 20 ms over the speech level, in dB; higher looks cut"
    )
    max_silence_ratio: float = Field(0.6, ge=0, le=1, description="share of a clip that is silence")
    max_edge_silence_s: float = Field(2.0, ge=0, description="seconds of silence before or after the speech")
    max_pause_s: float = Field(1.5, ge=0, description="seconds of silence inside the speech")
    max_level_off_db: float = Field(
        6.0, ge=0, description="dB that a clip's RMS level may differ from its speaker's median"
    )
    min_bandwidth_share: float = Field(
        0.7, ge=0, le=1, description="bandwidth of a clip as a share of its speaker's median bandwidth"
    )
    max_dc_ratio: float = Field(0.01, ge=0, le=1, description="mean of the samples as a share of full scale")

    # The gate, of the whole set; null: not checked.
    gate_text_p95_chars: float | None = Field(300, gt=0, description="gate: 95th percentile of text length stays below")
    gate_duplicate_text_ratio: float | None = Field(
        0.05, ge=0, le=1, description="gate: share of clips whose text another clip has already stays below"
    )
    gate_duplicate_audio_ratio: float | None = Field(
        0.01, ge=0, le=1, description="gate: share of clips whose recording another clip is already"
    )
    gate_leaked_clips: int | None = Field(
        0, ge=0, description="gate: clips of validation or test whose text or recording is in train too"
    )
    gate_duration_spike_ratio: float | None = Field(
        0.10,
        ge=0,
        le=1,
        description="gate: share of clips as long as the longest, or as short as the shortest, within 1 %",
    )
    gate_suspect_ratio: float | None = Field(None, ge=0, le=1, description="gate: share of suspect clips")
    gate_dnsmos_median: float | None = Field(None, ge=1, le=5, description="gate: median DNSMOS OVRL, at least")
    gate_bandwidth_median_hz: float | None = Field(None, ge=0, description="gate: median bandwidth, at least")
    gate_min_hours: float | None = Field(None, ge=0, description="gate: hours of audio, at least")
