"""Text to pieces that an engine can speak at once, and the spoken pieces to one clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxmake.errors import ConfigError
from voxmake.run.config import parse_yaml
from voxmake.text.normalise import language_code, normalise

_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+")
# Where a sentence that is too long may be cut, best first.
_BREAKS = (re.compile(r"(?<=[;:])\s+"), re.compile(r"(?<=,)\s+"), re.compile(r"\s+"))
_SILENCE_DB = -50.0  # below the piece's peak: what an engine leaves before and after it
_PAD_S = 0.02  # of it stays: breath and reverberation are quieter than that


@dataclass(frozen=True)
class Piece:
    """What is spoken at once; `ends`: a sentence ends with it."""

    text: str
    ends: bool


def read_lexicon(path: Path | None) -> dict[str, str]:
    """word -> how to say it.

    Raises:
        ConfigError: no mapping of text to text.
    """
    if path is None:
        return {}
    try:
        data, lines = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tts.lexicon: {path}: can't be read as UTF-8 text: {error}") from None
    for word, spoken in (data or {}).items() if isinstance(data, dict | None) else [("", None)]:
        if not (isinstance(word, str) and isinstance(spoken, str) and word.strip() and spoken.strip()):
            raise ConfigError(f"{path}:{lines.get((word,), 1)}: must read word: how to say it")
    return data or {}


def spoken(text: str, language: str, lexicon: dict[str, str]) -> str:
    """The text as it goes to the engine: numbers in words, and the lexicon's spellings; what people read stays."""
    text = normalise(text, language_code(language))
    if not lexicon:
        return text
    by_word = {word.casefold(): said for word, said in lexicon.items()}
    longest_first = "|".join(re.escape(word) for word in sorted(lexicon, key=lambda word: (-len(word), word)))
    return re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", lambda found: by_word[found[0].casefold()], text, flags=re.I)


def cut(text: str, most_chars: int) -> list[Piece]:
    """Sentences, and parts of those that are too long; a word that is too long alone is one piece."""
    pieces = []
    for sentence in filter(None, _SENTENCE.split(text.strip())):
        parts = _parts(sentence, most_chars)
        pieces += [Piece(part, number == len(parts) - 1) for number, part in enumerate(parts)]
    return pieces


def _parts(text: str, most: int, level: int = 0) -> list[str]:
    if len(text) <= most or level == len(_BREAKS):
        return [text]
    joined: list[str] = []
    for part in (one for piece in _BREAKS[level].split(text) for one in _parts(piece, most, level + 1)):
        if joined and len(joined[-1]) + 1 + len(part) <= most:
            joined[-1] += f" {part}"
        else:
            joined.append(part)
    return joined


def trimmed(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """Without the silence at both ends."""
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max(initial=0.0) * 10 ** (_SILENCE_DB / 20))
    if not len(loud):
        return samples[:0]
    pad = round(_PAD_S * rate_hz)
    return samples[max(0, loud[0] - pad) : loud[-1] + 1 + pad]


def join(
    spoken_pieces: Sequence[tuple[Piece, np.ndarray]], rate_hz: int, gap_s: float, crossfade_s: float
) -> np.ndarray:
    """One clip: a gap behind each sentence, an equal-power crossfade where a sentence was cut.

    Args:
        spoken_pieces: each piece with its trimmed samples, float32.

    Returns:
        shape (n,), float32.
    """
    clip = np.zeros(0, np.float32)
    gap = np.zeros(round(gap_s * rate_hz), np.float32)
    for number, (piece, samples) in enumerate(spoken_pieces):
        fade = min(round(crossfade_s * rate_hz), len(samples) // 2)
        rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
        samples = samples.copy()
        samples[:fade] *= rise
        samples[len(samples) - fade :] *= rise[::-1]
        overlap = min(fade, len(clip)) if number and not spoken_pieces[number - 1][0].ends else 0
        start = len(clip) - overlap
        longer = np.zeros(start + len(samples), np.float32)
        longer[: len(clip)] = clip
        longer[start:] += samples
        last = number == len(spoken_pieces) - 1
        clip = longer if last or not piece.ends else np.concatenate([longer, gap])
    return clip
