"""Why a clip is suspect: one table of rules, and the score that ranks the clips.

A rule compares one metric of a clip with a threshold of the config. At the threshold its severity
is the rule's weight, and it grows by the weight for each `step` beyond, up to three times; a
clip's score is the sum over the rules it breaks. So a clip with two faults comes before a clip
with one, and a gross fault before a slight one. Thresholds for single clips are where careful
recordings of one voice end (docs/quality.md has the measurements).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from voxmake.quality.spec import Quality

_CAP = 3.0
_MIN_GROUP = 10  # clips of a speaker that make a distribution of their own; fewer are compared with the whole set
_MAD_TO_SIGMA = 1.4826  # of a normal distribution (Leys et al. 2013, "Detecting outliers")
# Spread below which a distribution is not believed: it would make outliers of nothing.
_MIN_SIGMA_RATE, _MIN_SIGMA_DISTANCE, _MIN_SIGMA_SNR_DB = 0.05, 0.02, 2.0
_ABOVE_NOISE_DB = 6.0


@dataclass(frozen=True)
class Rule:
    """One reason.

    Attributes:
        metric: a column of clips.csv.
        relation: ">=" or "<=": which side of the threshold is suspect.
        limit: key of the section `quality`, or a number.
        step: how far beyond the threshold one more severity lies, in the metric's unit.
    """

    code: str
    metric: str
    relation: str
    limit: str | float
    step: float
    weight: float
    meaning: str
    remedy: str

    def threshold(self, spec: Quality) -> float:
        return float(getattr(spec, self.limit)) if isinstance(self.limit, str) else self.limit

    def severity(self, value: float | None, spec: Quality) -> float:
        """0 if the clip keeps the rule or was not measured."""
        if value is None:
            return 0.0
        beyond = value - self.threshold(spec) if self.relation == ">=" else self.threshold(spec) - value
        return self.weight * min(1 + beyond / self.step, _CAP) if beyond >= 0 else 0.0


RULES = (
    Rule("duplicate_audio", "audio_copies", ">=", 1, 10, 2.0,
         "another clip holds the same samples", "keep one of them"),
    Rule("near_duplicate", "near_copies", ">=", 1, 10, 2.0,
         "another clip holds the same recording, cut, levelled or encoded otherwise", "keep the better one"),
    Rule("conflicting_text", "text_conflicts", ">=", 1, 1, 2.0,
         "the same recording stands elsewhere with another text", "listen, and reject the clip with the wrong text"),
    Rule("leak", "leaks", ">=", 1, 10, 1.0,
         "its text or recording is in another split too", "prepare the set anew: its split keeps texts together"),
    Rule("duplicate_text", "text_copies", ">=", 1, 10, 0.5,
         "another clip has the same text; if it was not read twice, one of the texts is wrong", "listen to both"),
    Rule("no_text", "chars", "<=", 0, 1, 2.0,
         "has no text, while other clips have one", "write it, or reject the clip"),
    Rule("too_fast", "rate_z", ">=", "max_rate_z", 2.0, 1.0,
         "more text than its speaker says in that time: wrong text, or the audio is cut", "listen and compare the text"),
    Rule("too_slow", "rate_low_z", ">=", "max_rate_z", 2.0, 1.0,
         "less text than its speaker says in that time: wrong or shortened text, or other speech beside it",
         "listen and compare the text"),
    Rule("asr_mismatch", "asr_shortfall", ">=", 1e-6, 0.2, 1.5,
         "recognition hears something else: by asr_shortfall less alike than validation.min_similarity",
         "listen and compare the text; asr_sample.tsv has what was heard"),
    Rule("long_text", "chars", ">=", "max_text_chars", 100, 1.0,
         "text longer than a clip should have", "split the clip"),
    Rule("other_speaker", "speaker_z", ">=", "max_speaker_z", 2.0, 1.5,
         "its voice is far from its speaker's other clips", "listen; move the clip to its speaker, or reject it"),
    Rule("clipped", "clipped_ratio", ">=", "max_clipped_ratio", 0.002, 1.0,
         "the recording has runs of samples at its limit", "record again at a lower gain, or reject the clip"),
    Rule("noisy", "snr_db", "<=", "min_snr_db", 4.0, 1.0,
         "little distance between speech and the quiet moments: noise, music, or no pause at all", "listen; reject or denoise"),
    Rule("noisier", "noise_z", ">=", "max_noise_z", 3.0, 1.0,
         "much noisier than its speaker's other clips", "listen; reject or denoise"),
    Rule("low_dnsmos", "dnsmos_ovrl", "<=", "min_dnsmos", 0.5, 1.0,
         "listeners would rate its sound low, says DNSMOS", "listen; reject or record again"),
    Rule("cut_start", "cut_start_db", ">=", "max_edge_db", 6.0, 1.0,
         "begins at speech level: the first word is cut", "cut it anew from the recording, or reject it"),
    Rule("cut_end", "cut_end_db", ">=", "max_edge_db", 6.0, 1.0,
         "ends at speech level: the last word is cut", "cut it anew from the recording, or reject it"),
    Rule("narrow_band", "bandwidth_share", "<=", "min_bandwidth_share", 0.2, 1.0,
         "lacks the high frequencies of its speaker's other clips: telephone, low bit rate", "find the original recording"),
    Rule("level_off", "level_off_db", ">=", "max_level_off_db", 6.0, 0.5,
         "much louder or quieter than its speaker's other clips", "see peak_guard in preprocess; record again"),
    Rule("dc", "dc_off_ratio", ">=", "max_dc_ratio", 0.02, 0.5,
         "the signal's mean is not zero", "set audio.remove_dc"),
    Rule("mostly_silence", "silence_ratio", ">=", "max_silence_ratio", 0.2, 1.0,
         "more silence than speech", "trim it: audio.trim_silence"),
    Rule("long_head", "head_s", ">=", "max_edge_silence_s", 1.0, 0.5,
         "long silence before the speech", "trim it: audio.trim_silence"),
    Rule("long_tail", "tail_s", ">=", "max_edge_silence_s", 1.0, 0.5,
         "long silence after the speech", "trim it: audio.trim_silence"),
    Rule("long_pause", "pause_s", ">=", "max_pause_s", 1.0, 0.5,
         "long silence inside the speech", "segment the recording, or reject the clip"),
    Rule("short", "duration_s", "<=", "min_duration_s", 0.25, 1.0,
         "too short to learn from", "reject it, or join it with its neighbour"),
    Rule("long", "duration_s", ">=", "max_duration_s", 10.0, 0.5,
         "longer than trainers take", "segment it, or let prepare_dataset leave it out"),
)  # fmt: skip


def add_relative(clips: list[dict[str, Any]]) -> None:
    """Add what only the other clips can tell (rate_z, speaker_z, noise_z, level_off_db, bandwidth_share) and what rules read.

    Robust z = (value - median) / (1.4826 * median absolute deviation), among the speaker's clips.
    """
    for clip in clips:
        spoken_s = clip["duration_s"] * (1 - clip["silence_ratio"])
        rate = clip["chars"] / spoken_s if clip["chars"] and spoken_s > 0 else None
        clip["spoken_s"] = round(spoken_s, 3)
        clip["chars_per_s"] = None if rate is None else round(rate, 2)
        clip["log_rate"] = None if rate is None else math.log(rate)
        clip["clipped_ratio"] = max(clip["clipping_ratio"] or 0.0, clip["flat_top_ratio"])
        for edge in ("edge_start_db", "edge_end_db"):
            # An edge as loud as the noise is no word: edge and noise floor are both relative to speech.
            heard = clip[edge] + clip["snr_db"] >= _ABOVE_NOISE_DB
            clip[edge.replace("edge", "cut")] = clip[edge] if heard else None
        clip["edge_db"] = max(clip["edge_start_db"], clip["edge_end_db"])
        clip["dc_off_ratio"] = abs(clip["dc_ratio"])
    rates = _groups(clips, "log_rate")
    distances = _groups(clips, "speaker_distance")
    quiet = _groups(clips, "snr_db")
    levels, bands = _groups(clips, "rms_db"), _groups(clips, "bandwidth_hz")
    for clip in clips:
        clip["rate_z"] = rates.z(clip, _MIN_SIGMA_RATE)
        clip["rate_low_z"] = None if clip["rate_z"] is None else -clip["rate_z"]
        clip["speaker_z"] = distances.z(clip, _MIN_SIGMA_DISTANCE)
        clip["noise_z"] = -quiet.z(clip, _MIN_SIGMA_SNR_DB)
        clip["level_off_db"] = round(abs(clip["rms_db"] - levels.median(clip)), 2)
        if clip["bandwidth_hz"] is None:
            clip["bandwidth_share"] = None
        else:
            clip["bandwidth_share"] = round(clip["bandwidth_hz"] / max(bands.median(clip), 1.0), 3)


class _Spread:
    """Median and robust sigma of a metric, by speaker."""

    def __init__(self, metric: str, values: dict[str, list[float]]):
        self.metric = metric
        everyone = [value for found in values.values() for value in found]
        self.whole = _median_and_sigma(everyone)
        self.of = {name: _median_and_sigma(found) for name, found in values.items() if len(found) >= _MIN_GROUP}

    def median(self, clip: dict) -> float:
        return self.of.get(clip["speaker"], self.whole)[0]

    def z(self, clip: dict, min_sigma: float) -> float | None:
        if clip[self.metric] is None:
            return None
        median, sigma = self.of.get(clip["speaker"], self.whole)
        return round((clip[self.metric] - median) / max(sigma, min_sigma), 2)


def _groups(clips: list[dict], metric: str) -> _Spread:
    values: dict[str, list[float]] = defaultdict(list)
    for clip in clips:
        if clip[metric] is not None:
            values[clip["speaker"]].append(clip[metric])
    return _Spread(metric, values)


def _median_and_sigma(values: Iterable[float]) -> tuple[float, float]:
    import numpy as np

    found = np.array(list(values), float)
    if not len(found):
        return 0.0, 0.0
    median = float(np.median(found))
    return median, _MAD_TO_SIGMA * float(np.median(np.abs(found - median)))


def judge(clips: list[dict[str, Any]], spec: Quality) -> list[dict[str, Any]]:
    """Add `score` and `reasons` (worst first) to every clip; returns the suspects, worst first."""
    with_text = any(clip["chars"] for clip in clips)
    for clip in clips:
        found = []
        for rule in RULES:
            if rule.code == "no_text" and not with_text:
                continue  # a set without transcripts: nothing is missing
            severity = rule.severity(clip[rule.metric], spec)
            if severity:
                found.append((-severity, rule.code))
        if clip["speaker_state"] == "outlier" and all(code != "other_speaker" for _, code in found):
            found.append((-1.5, "other_speaker"))  # diarize has said so, by limits of its own
        clip["reasons"] = [code for _, code in sorted(found)]
        clip["score"] = round(-sum(severity for severity, _ in found), 3)
    return sorted((clip for clip in clips if clip["reasons"]), key=lambda clip: (-clip["score"], clip["id"]))
