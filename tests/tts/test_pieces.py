"""Cutting text for speech, the lexicon, and joining what was spoken."""

import numpy as np
import pytest

from voxmake.errors import ConfigError
from voxmake.tts.pieces import Piece, cut, join, read_lexicon, spoken, trimmed


def test_sentences_and_parts_that_are_short_enough():
    assert cut("One here. Two there! Three?", 280) == [Piece(s, True) for s in ("One here.", "Two there!", "Three?")]
    text = "First comes this, and then comes that, which is long; at last it ends"
    pieces = cut(text, 40)
    assert " ".join(piece.text for piece in pieces) == text
    assert all(len(piece.text) <= 40 for piece in pieces) and len(pieces) > 1
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert [piece.text for piece in cut("a" * 100, 40)] == ["a" * 100]  # nowhere to cut
    words = "word " * 200
    assert max(len(piece.text) for piece in cut(words, 280)) <= 280
    assert " ".join(piece.text for piece in cut(words, 280)) == words.strip()
    assert cut("", 40) == []


def test_lexicon_is_for_speech_only(tmp_path):
    path = tmp_path / "lexicon.yaml"
    path.write_text("Featherstonehaugh: Fanshaw\nSt. Ives: Saint Ives\n")
    lexicon = read_lexicon(path)
    assert spoken("At 3 featherstonehaugh left St. Ives.", "en", lexicon) == "At three Fanshaw left Saint Ives."
    assert spoken("Featherstonehaughs stay.", "en", lexicon) == "Featherstonehaughs stay."
    assert read_lexicon(None) == {}
    for text in ("- a list\n", "word: 3\n", "word: ''\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"lexicon.yaml:1: must read word"):
            read_lexicon(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_lexicon(tmp_path / "none.yaml")


def test_gaps_between_sentences_and_crossfades_inside():
    rate = 1000
    tone = np.ones(1000, np.float32)
    two = join([(Piece("a", True), tone), (Piece("b", True), tone)], rate, gap_s=0.25, crossfade_s=0.02)
    assert len(two) == 2250
    assert not two[1000:1250].any()
    assert two[0] == 0 and abs(two[999]) < 1e-6 and (two[20:980] == 1).all()
    inside = join([(Piece("a", False), tone), (Piece("b", True), tone)], rate, gap_s=0.25, crossfade_s=0.02)
    assert len(inside) == 1980
    assert inside[980:1000].min() > 0.9  # equal power: no hole between the parts
    assert len(join([], rate, 0.25, 0.02)) == 0
    assert len(join([(Piece("a", True), tone[:3])], rate, 0.25, 0.2)) == 3


def test_silence_at_the_ends_goes():
    clip = np.concatenate([np.zeros(500), np.ones(100), np.zeros(700)]).astype(np.float32)
    assert len(trimmed(clip, 1000)) == 100 + 2 * 20
    assert len(trimmed(np.zeros(100, np.float32), 1000)) == 0
