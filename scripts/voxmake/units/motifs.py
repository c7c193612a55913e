"""Motifs: stretches of units that come again, found by byte pair encoding of SentencePiece.

One unit is one character, so that merges can happen: units written as numbers between spaces are words of their
own to SentencePiece, and no piece ever spans two of them. The characters are those of the CJK block from U+4E00
on, which no normalisation touches. A stretch of speech between two silences is a sentence.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voxmake.units.measure import entropy_bits, runs

_FIRST = 0x4E00  # CJK Unified Ideographs: 20 992 characters in a row
_UNKNOWN = 1  # the one special piece that SentencePiece insists on


def text_of(units: np.ndarray) -> str:
    """Units as characters."""
    return (np.asarray(units, "<u4") + _FIRST).astype("<u4").tobytes().decode("utf-32-le")


def units_of(text: str) -> np.ndarray:
    """Characters as units again; int64."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64) - _FIRST


@dataclass(frozen=True)
class Symbols:
    """One clip as BPE sees it: its symbols, where each begins (frames, with the end appended), and its sentences.

    `spans` are [first, last) of symbols between silences; the symbols outside of them are silences.
    """

    symbols: np.ndarray
    starts: np.ndarray
    spans: list[tuple[int, int]]


def sequence(units: np.ndarray, joined: bool, silences: np.ndarray) -> Symbols:
    """Prepare one clip.

    Args:
        units: of every frame.
        joined: runs of equal units become one symbol.
        silences: units that no motif may contain; may be empty.
    """
    symbols, starts = runs(units) if joined else (units, np.arange(len(units) + 1))
    quiet = np.isin(symbols, silences)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], quiet, [True]])))
    return Symbols(symbols, starts, [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)])


def silent_units(level_db: np.ndarray, frames: np.ndarray, drop_db: float) -> np.ndarray:
    """Units whose mean level lies so far below the loud ones'.

    Args:
        level_db: mean level of each unit, NaN for unused ones.
        frames: how often each is used.
        drop_db: distance to the level that nine tenths of the frames stay below.
    """
    used = np.flatnonzero(frames > 0)
    order = used[np.argsort(level_db[used], kind="stable")]
    reached = np.cumsum(frames[order]) >= 0.9 * frames.sum()
    return np.sort(order[level_db[order] < level_db[order[int(reached.argmax())]] - drop_db])


# ---------------------------------------------------------------------------- BPE


@dataclass(frozen=True)
class Bpe:
    """A trained model: its file, and its pieces in the model's order ("" is the unknown one)."""

    proto: bytes
    pieces: list[str]
    merges: int

    def encode(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """Piece numbers of each sentence."""
        from sentencepiece import SentencePieceProcessor

        found = SentencePieceProcessor(model_proto=self.proto).encode(list(sentences), num_threads=1)
        return [np.array(ids, np.int64) for ids in found]

    def vocab(self) -> str:
        """motifs.vocab: piece, score and units of each piece, tab-separated."""
        from sentencepiece import SentencePieceProcessor

        model = SentencePieceProcessor(model_proto=self.proto)
        lines = ["<unk>\t0\t\n"]
        for number, piece in enumerate(self.pieces[1:], start=1):
            lines.append(f"{piece}\t{model.get_score(number):g}\t{' '.join(map(str, units_of(piece)))}\n")
        return "".join(lines)


def train(sentences: Sequence[str], size: int, longest: int) -> Bpe:
    """Train on sentences.

    Args:
        size: pieces in all: every unit that occurs, the unknown piece, and merges.
        longest: units in a piece, at most.

    Every setting that SentencePiece would change units by is off: normalisation, dummy prefix, dropping of rare
    characters, splitting at scripts or numbers, dropping of long sentences. A vocabulary that data can't fill is
    smaller, not an error (hard_vocab_limit).
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    kinds = len(set().union(*sentences))
    proto = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=proto, model_type="bpe",
        vocab_size=max(size, kinds + _UNKNOWN), hard_vocab_limit=False, character_coverage=1.0,
        max_sentencepiece_length=longest, max_sentence_length=4 * max(map(len, sentences)) + 4,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        split_by_unicode_script=False, split_by_number=False, split_by_whitespace=False,
        unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    model = SentencePieceProcessor(model_proto=proto.getvalue())
    pieces = ["", *(model.id_to_piece(number) for number in range(1, model.get_piece_size()))]
    return Bpe(proto.getvalue(), pieces, sum(len(piece) > 1 for piece in pieces))


@dataclass(frozen=True)
class Found:
    """A model, what it makes of each sentence, and why its vocabulary is not the one asked for ("" if it is)."""

    bpe: Bpe
    encoded: list[np.ndarray]
    why: str

    def counts(self) -> np.ndarray:
        """How often each piece is used."""
        return np.bincount(np.concatenate(self.encoded), minlength=len(self.bpe.pieces))


def discover(sentences: Sequence[str], size: int, longest: int, least: int) -> Found:
    """The largest vocabulary up to `size` in which every merge joins a pair that occurs `least` times or more.

    Small data run out of pairs that repeat; what BPE merges then are not motifs, but the sentences themselves.
    Merges come in falling frequency, so the last one that is frequent enough is found by halving.
    """
    kinds = len(set().union(*sentences)) + _UNKNOWN
    bpe = train(sentences, size, longest)
    if size < kinds:
        why = f"{kinds - _UNKNOWN} units occur, and each needs a piece of its own"
        return Found(bpe, bpe.encode(sentences), why)
    why = "" if len(bpe.pieces) == size else "no pair is left to merge"
    encoded = bpe.encode(sentences)
    if bpe.merges and _last_merge_count(bpe, encoded) < least:
        low, high = 0, bpe.merges  # low is enough, high is too many
        while high - low > 1:
            middle = (low + high) // 2
            tried = train(sentences, kinds + middle, longest)
            if _last_merge_count(tried, tried.encode(sentences)) >= least:
                low = middle
            else:
                high = middle
        bpe = train(sentences, kinds + low, longest)
        encoded = bpe.encode(sentences)
        why = f"further pairs occur fewer than {least} times"
    return Found(bpe, encoded, why)


def _last_merge_count(bpe: Bpe, encoded: list[np.ndarray]) -> int:
    """How often the last merge joined its pair: nothing came after it that could use it up."""
    last = bpe.merges  # merges are pieces 1, 2, …; single units follow
    return sum(int((ids == last).sum()) for ids in encoded)


# ---------------------------------------------------------------------------- numbers


def summary(found: Found, frames: int, symbols: int, silences: int, seconds: float, asked: int) -> dict:
    """What a vocabulary gives.

    Args:
        frames: units before runs are joined.
        symbols: symbols that BPE worked on, silences included.
        silences: symbols outside of sentences; each stays a token.
        seconds: of speech.
    """
    counts = found.counts()
    size = len(found.bpe.pieces)
    tokens = int(counts.sum()) + silences
    # Silences are one more kind of token, so that all vocabularies are compared over the same stream.
    entropy = entropy_bits(np.append(counts, silences)) if tokens else 0.0
    return {
        "asked": asked,
        "size": size,
        "adjusted": found.why,
        "merges": found.bpe.merges,
        "used": int((counts > 0).sum()),
        "vocabulary_use": round(float((counts > 0).sum()) / max(size - _UNKNOWN, 1), 4),
        "tokens": tokens,
        "tokens_per_s": round(tokens / seconds, 3),
        "compression_symbols": round(symbols / tokens, 4),
        "compression_raw": round(frames / tokens, 4),
        "entropy_bits": round(entropy, 4),
        "entropy_normalised": round(entropy / np.log2(size), 4),
        "bitrate": round(tokens / seconds * float(np.log2(size)), 2),
        "bitrate_entropy": round(tokens / seconds * entropy, 2),
        # Two-part code: the tokens at their entropy, and each merge as a pair of pieces.
        "description_bits": round(tokens * entropy + found.bpe.merges * 2 * float(np.log2(size))),
    }
