"""Segments, profiles and the recording's utterances."""

import numpy as np
import pytest
import soundfile
from conftest import voice
from test_losses import DOCUMENT, REFERENCE, SHUFFLED

from voxmake.asr.engines import Heard
from voxmake.calibration import segments
from voxmake.calibration.listen import hear
from voxmake.calibration.words import sentences
from voxmake.errors import Rejected


def test_segments_by_cues_place_and_likeness():
    told = (
        "Hello and welcome. Old bridges rust unseen. How did they test it? A drone took photographs. We found cracks. "
    )
    told += "By the way, I once fell off a ladder. Thank you for listening."
    kinds = segments.classify(sentences(told), DOCUMENT)
    assert kinds == ["intro", "problem", "method", "method", "finding", "tangent", "conclusion"]
    assert segments.classify([], DOCUMENT) == []


def test_structure_profile():
    found = segments.structure(["a b", "c d", "e f g h"], ["intro", "intro", "method"], [(0, 1), (1.5, 2), (3, 5)])
    assert found["order"] == ["intro", "method"]
    assert found["shares"] == {"intro": 0.5, "method": 0.5}
    assert found["durations_s"] == {"intro": 2, "method": 2}
    assert [one["text"] for one in found["segments"]] == ["a b c d", "e f g h"]
    turned = segments.script_structure(SHUFFLED, DOCUMENT)
    assert turned["shares"] == segments.script_structure(REFERENCE, DOCUMENT)["shares"]


def test_style_profile():
    heard = {
        "duration_s": 10.0, "speech_s": 8.0, "pauses_s": [0.4, 0.6, 0.8],
        "utterances": [{"text": "how did they do it"}, {"text": "a drone took photographs of a bridge"}],
    }  # fmt: skip
    assert segments.style(heard) == {
        "words": 12, "words_per_s": 1.2, "words_per_sentence": 6.0, "questions": 0.5,
        "vocabulary": round(11 / 12, 4), "pause_share": 0.2, "pause_s": 0.6,
    }  # fmt: skip


def test_aggregated_profile():
    def reference(order, duration_s, rate):
        shares = {kind: 1 / len(order) for kind in order}
        return {
            "structure": {"order": order, "shares": shares},
            "duration_s": duration_s,
            "style": {"words_per_s": rate},
        }

    found = segments.aggregate(
        [
            reference(["intro", "problem", "method"], 100, 2.0),
            reference(["intro", "problem", "method"], 120, 3.0),
            reference(["intro", "tangent", "method", "problem"], 140, 2.5),
        ]
    )
    assert found["order"] == ["intro", "problem", "method"]  # what most do; a tangent of one is none of all
    assert found["duration_s"] == 120
    assert found["style"] == {"words_per_s": 2.5}
    assert found["shares"]["tangent"] == pytest.approx(0.25 / 3, abs=1e-4)


class Counting:
    """A recogniser that says how long each clip is."""

    window_s = None

    def recognise(self, clips, language):
        return [Heard(f"{len(clip) / 16000:.1f}") for clip in clips]


def test_utterances_have_their_times(tmp_path):
    gap = np.zeros(8000, np.float32)
    said = np.abs(voice(2.0, 16000)) + 0.05  # no pause inside
    soundfile.write(tmp_path / "x.mp3", np.concatenate([gap, said, gap, said[:16000], gap]), 16000)
    found = hear(tmp_path / "x.mp3", Counting(), "en", 2)
    assert len(found["utterances"]) == 2
    first, second = found["utterances"]
    assert (first["start_s"], first["end_s"]) == pytest.approx((0.4, 2.6), abs=0.1)
    assert (second["start_s"], second["end_s"]) == pytest.approx((2.9, 4.1), abs=0.1)
    assert found["pauses_s"] == pytest.approx([0.5], abs=0.1)
    assert found["speech_s"] == pytest.approx(3.0, abs=0.2)
    assert found["duration_s"] == pytest.approx(4.5, abs=0.1)


def test_silence_is_named(tmp_path):
    soundfile.write(tmp_path / "x.mp3", np.zeros(32000, np.float32), 16000)
    with pytest.raises(Rejected) as caught:
        hear(tmp_path / "x.mp3", Counting(), "en", 1)
    assert caught.value.reason == "silent"
