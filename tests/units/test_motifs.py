"""Motifs: units survive the round trip, merges happen and stop in time, silences bound them."""

import numpy as np
import pytest

from voxmake.units.motifs import discover, sequence, silent_units, summary, text_of, train, units_of


def chain(frames: int, seed: int = 0, kinds: int = 30) -> np.ndarray:
    """Units in which some follow others far more often than chance."""
    rng = np.random.default_rng(seed)
    follow = np.array([rng.dirichlet(np.full(kinds, 0.05)) for _ in range(kinds)])
    units = [0]
    for _ in range(frames - 1):
        units.append(int(rng.choice(kinds, p=follow[units[-1]])))
    return np.array(units)


def test_round_trip_of_every_unit():
    every = np.arange(4096)
    assert (units_of(text_of(every)) == every).all()
    sentences = [text_of(np.random.default_rng(n).permutation(4096)[:1500]) for n in range(4)]
    bpe = train(sentences, 5000, 16)
    for sentence, ids in zip(sentences, bpe.encode(sentences), strict=True):
        assert "".join(bpe.pieces[piece] for piece in ids) == sentence


def test_merges_cross_units():
    """The public pipeline's 1.000: numbers between spaces. Ours merges, and the planted motif is one piece."""
    units = chain(6000)
    units[::60], units[1::60], units[2::60] = 31, 32, 33
    sentences = [text_of(part) for part in np.split(units, 50)]
    found = discover(sentences, 300, 16, 2)
    told = summary(found, 6000, 6000, 0, 120.0, 300)
    assert told["compression_raw"] > 2 and told["size"] == 300 and told["adjusted"] == ""
    assert any(units_of(piece)[:3].tolist() == [31, 32, 33] for piece in found.bpe.pieces[1:])
    assert sum(len(found.bpe.pieces[piece]) for ids in found.encoded for piece in ids) == 6000
    assert told["tokens"] == sum(map(len, found.encoded))


def test_long_sentences_are_not_dropped():
    """SentencePiece leaves out lines of more than 4192 bytes by default, and says so to nobody."""
    units = chain(30_000)
    (ids,) = train([text_of(units)], 200, 16).encode([text_of(units)])
    assert len(ids) < len(units) / 2


@pytest.mark.parametrize("least", [2, 5])
def test_small_data_lower_the_vocabulary(least):
    sentences = [text_of(part) for part in np.split(chain(600, seed=3), 6)]
    found = discover(sentences, 5000, 16, least)
    assert found.why == f"further pairs occur fewer than {least} times"
    kinds = len(set("".join(sentences)))
    assert len(found.bpe.pieces) == 1 + kinds + found.bpe.merges < 5000
    # Each merge joined its pair so often; one more would not have.
    assert all(
        sum(line.count(piece) for line in sentences) >= least for piece in found.bpe.pieces[1:] if len(piece) > 1
    )
    more = train(sentences, len(found.bpe.pieces) + 1, 16)
    last = sum(int((ids == more.merges).sum()) for ids in more.encode(sentences))
    assert last < least


def test_a_vocabulary_below_the_units_is_raised():
    found = discover([text_of(np.arange(50))], 10, 16, 2)
    assert "50 units occur" in found.why
    assert len(found.bpe.pieces) == 51


def test_no_pair_is_left():
    found = discover([text_of(np.array([1, 2]))] * 4, 100, 2, 1)
    assert found.why == "no pair is left to merge"
    assert found.bpe.pieces[1:] == [text_of(np.array(u)) for u in ([1, 2], [1], [2])]


def test_sequences():
    units = np.array([9, 9, 1, 1, 2, 9, 9, 3, 9])
    joined = sequence(units, True, np.array([9]))
    assert joined.symbols.tolist() == [9, 1, 2, 9, 3, 9]
    assert joined.starts.tolist() == [0, 2, 4, 5, 7, 8, 9]
    assert joined.spans == [(1, 3), (4, 5)]
    raw = sequence(units, False, np.array([], int))
    assert raw.symbols.tolist() == units.tolist() and raw.starts.tolist() == list(range(10))
    assert raw.spans == [(0, 9)]
    assert sequence(np.array([9, 9]), True, np.array([9])).spans == []


def test_silent_units():
    level_db = np.array([-20.0, -22.0, -55.0, np.nan, -44.0, -70.0])
    frames = np.array([50, 40, 30, 0, 10, 5])
    assert silent_units(level_db, frames, 25).tolist() == [2, 5]
    assert silent_units(level_db, frames, 60).tolist() == []
