"""Which clips are trained on. Every clip is either kept or rejected with one reason.

First what people said, then the speaker, the text, the length, and last what only a whole speaker tells.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from voxmake.dataset.spec import Dataset
from voxmake.errors import Rejected
from voxmake.review import Corrections
from voxmake.text.normalise import normalise


@dataclass(frozen=True)
class Clip:
    """A clip that may be trained on; `row` is its row in the clips' metadata.csv."""

    row: dict[str, str]
    text: str
    language: str
    speaker: str
    state: str  # how sure diarize is of the speaker
    distance: str  # cosine distance to the speaker's centroid, as diarize wrote it
    duration_s: float
    good: bool  # somebody heard it and said so: statistics don't reject it

    @property
    def chars_per_s(self) -> float:
        return len(self.text) / self.duration_s


@dataclass(frozen=True)
class Refused:
    row: dict[str, str]
    reason: str
    detail: str


def choose(
    rows: list[dict[str, str]], speakers: dict[str, dict[str, str]], corrections: Corrections, spec: Dataset
) -> tuple[list[Clip], list[Refused]]:
    """Sort clips into those that are trained on and those that are not.

    Args:
        rows: of the clips' metadata.csv.
        speakers: rows of diarize's speakers.csv, by clip id.

    Returns:
        both in the order of `rows`.
    """
    clips: list[Clip] = []
    refused: list[Refused] = []
    for row in rows:
        try:
            clips.append(_checked(row, speakers.get(row["id"]), corrections, spec))
        except Rejected as rejected:
            refused.append(Refused(row, rejected.reason, rejected.detail))
    for unusual in (_rate_outliers, _small_speakers):
        reasons = unusual(clips, spec)
        refused += [Refused(clip.row, *reasons[clip.row["id"]]) for clip in clips if clip.row["id"] in reasons]
        clips = [clip for clip in clips if clip.row["id"] not in reasons]
    return clips, refused


def _checked(row: dict[str, str], found: dict[str, str] | None, corrections: Corrections, spec: Dataset) -> Clip:
    """The clip, or `Rejected` for what can be told from it alone."""
    clip_id = row["id"]
    if clip_id in corrections.rejected:
        raise Rejected("rejected_by_review", corrections.rejected[clip_id])
    good = clip_id in corrections.good
    speaker, state, distance = _speaker(found, good, spec)
    language = row["language"] or spec.language
    text = _text(corrections.texts.get(clip_id, row["transcription"]), language, spec)
    clip = Clip(row, text, language, speaker, state, distance, float(row["duration_s"]), good)
    _check_duration(clip, spec)
    return clip


def _speaker(found: dict[str, str] | None, good: bool, spec: Dataset) -> tuple[str, str, str]:
    """Name, state and distance."""
    if found is None:
        raise Rejected("no_speaker", "diarize does not list it")
    if not found["speaker"]:
        if found["reviewed"]:
            raise Rejected("rejected_by_review", "its speaker was rejected")
        raise Rejected("no_speaker", found["state"])
    if spec.speakers is not None and found["speaker"] not in spec.speakers:
        raise Rejected("speaker_not_chosen", found["speaker"])
    if not good and found["state"] not in spec.speaker_states:
        reason = "speaker_outlier" if found["state"] == "outlier" else "speaker_uncertain"
        raise Rejected(reason, f"{found['speaker']}, distance {found['distance']}, next {found['nearest']}")
    return found["speaker"], found["state"], found["distance"]


def _text(raw: str, language: str, spec: Dataset) -> str:
    from voxmake.sources.checks import check_text

    if not raw:
        raise Rejected("no_transcript")
    text = normalise(check_text(raw), language)
    if len(text) < spec.min_text_chars:
        raise Rejected("text_too_short" if text else "empty_text", f"{len(text)} characters")
    if len(text) > spec.max_text_chars:
        raise Rejected("text_too_long", f"{len(text)} characters, at most {spec.max_text_chars} are allowed")
    if spec.alphabet is not None and (strange := set(text.lower()) - set(spec.alphabet.lower()) - {" "}):
        raise Rejected("text_alphabet", " ".join(sorted(strange)))
    return text


def _check_duration(clip: Clip, spec: Dataset) -> None:
    if clip.duration_s < spec.segment_s:
        raise Rejected("shorter_than_segment", f"{clip.duration_s:.3f} s, the segment is {spec.segment_s:g} s")
    if clip.duration_s < spec.min_duration_s:
        raise Rejected("too_short", f"{clip.duration_s:.3f} s, dataset.min_duration_s is {spec.min_duration_s:g}")
    if clip.duration_s > spec.max_duration_s:
        raise Rejected("too_long", f"{clip.duration_s:.3f} s, dataset.max_duration_s is {spec.max_duration_s:g}")
    if not spec.min_chars_per_s <= clip.chars_per_s <= spec.max_chars_per_s:
        raise Rejected("chars_per_s_impossible", f"{clip.chars_per_s:.1f} characters/s")


def _by_speaker(clips: list[Clip]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        found[clip.speaker].append(clip)
    return found


def _rate_outliers(clips: list[Clip], spec: Dataset) -> dict[str, tuple[str, str]]:
    """Tukey's fences on characters a second, of each speaker by itself.

    A free detector of wrong transcripts: Emilia's pipeline uses it for each source file, rhasspy's
    filter_utterances.py for each speaker.
    """
    if spec.outlier_iqr is None:
        return {}
    import numpy as np

    reasons = {}
    for own in _by_speaker(clips).values():
        if len(own) < spec.outlier_min_clips:
            continue
        first, third = np.percentile([clip.chars_per_s for clip in own], [25, 75])
        low, high = first - spec.outlier_iqr * (third - first), third + spec.outlier_iqr * (third - first)
        for clip in own:
            if not clip.good and not low <= clip.chars_per_s <= high:
                detail = f"{clip.chars_per_s:.1f} characters/s, {clip.speaker}'s range is {low:.1f} to {high:.1f}"
                reasons[clip.row["id"]] = ("chars_per_s_outlier", detail)
    return reasons


def _small_speakers(clips: list[Clip], spec: Dataset) -> dict[str, tuple[str, str]]:
    return {
        clip.row["id"]: ("speaker_too_small", f"{clip.speaker} has {len(own)} usable clips")
        for own in _by_speaker(clips).values()
        if len(own) < spec.min_clips_per_speaker
        for clip in own
    }
