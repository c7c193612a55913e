"""What a hypothesis says of a clip: how alike the texts are, where they differ, and a name for what is wrong.

Both texts are written alike first (`comparable`): by the same rules, for the same language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from voxmake.asr.engines import Heard
from voxmake.text.normalise import language_code, normalise

# class -> what it means and what to do. The order is the order of the report.
CLASSES = {
    "ok": "the text is what was said",
    "cut_start": "the text's first words are not in the audio: give the clip more room at its start, or cut the text",
    "cut_end": "the text's last words are not in the audio: give the clip more room at its end, or cut the text",
    "extra_words": "more is said than the text has: complete the text, or trim the clip",
    "missing_words": "words inside the text are not in the audio: correct the text, or look for a drop-out",
    "wrong_text": "another text: the row belongs to another clip, or nobody can be understood in it",
    "wrong_language": "it sounds like another language than the row says",
    "hallucination": "the recogniser repeats itself or says its set phrases: silence, noise or music; listen",
    "empty": "nothing was recognised: silence, noise, or a very quiet clip; listen",
    "error": "the recogniser failed on the clip; rejected.csv has the reason",
}

# A clip that reaches `min_similarity` is called cut only if this much of its text has no counterpart at that end:
# shorter endings are lost by recognisers all the time.
_CUT_CHARS = 4
_CUT_RATIO = 0.10
_GAP_CHARS = 8  # of consecutive words without counterpart that make a gap
_GAP_RATIO = 0.15
_REST_RATIO = 0.25  # of the text that has to be left to recognise it by
_ALIKE = 0.5  # of what is left without the piece that is cut, missing or added: else it is another text
# NeMo speech data processor, DetectWhisperHallucinationFeatures: unique-word share 0.4; Curator: 40 characters a second.
_UNIQUE_SHARE = 0.4
_UNIQUE_WORDS = 6  # fewer words repeat by chance
MAX_CHARS_PER_S = 40.0
_REPEATS = 3  # a group of words so many times in a row
_LANGUAGE_PROBABILITY = 0.8  # Emilia's bound for its language detection

# What Whisper is known to say over silence and music, comparable; subtitles were its training data.
PHRASES = (
    "thanks for watching", "thank you for watching", "please subscribe", "like and subscribe", "subscribe to my channel",
    "see you in the next video", "subtitles by the amara org community", "transcription by castingwords",
    "untertitel im auftrag des zdf", "untertitel der amara org community", "untertitelung des zdf",
    "vielen dank fürs zuschauen", "sous titres réalisés para la communauté d amara org", "merci d avoir regardé",
    "subtítulos realizados por la comunidad de amara org", "gracias por ver el video", "sottotitoli creati dalla comunità",
    "sottotitoli e revisione a cura di", "legendas pela comunidade amara org", "ondertiteld door de amara org gemeenschap",
    "ondertitels ingediend door de amara org gemeenschap", "продолжение следует", "субтитры сделал dimatorzok",
    "субтитры создавал dimatorzok", "спасибо за просмотр", "napisy stworzone przez społeczność amara org",
    "ご視聴ありがとうございました", "시청해 주셔서 감사합니다", "谢谢观看", "请不吝点赞",
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """Numbers of one clip.

    Attributes:
        kind: a key of CLASSES.
        similarity: 1 - edit distance of the characters over the length of the longer text, 0 to 1.
        cer, wer: edit distance over the length of the reference, in characters and words; above 1 if much is added.
        edge_start_cer, edge_end_cer: of the reference's first and last characters: the share without counterpart.
        chars_per_s: of the hypothesis, in comparable characters.
        reference, hypothesis: both texts as they were compared.
    """

    kind: str
    similarity: float
    cer: float
    wer: float
    edge_start_cer: float
    edge_end_cer: float
    chars_per_s: float
    reference: str
    hypothesis: str


def comparable(text: str, language: str) -> str:
    """Words alone: numbers spelled out, no case, no punctuation, one form of every character.

    Apostrophes are dropped, not made spaces: recognisers write "its" and "it's" as they like.
    """
    text = normalise(unicodedata.normalize("NFKC", text), language).casefold()
    text = text.replace("'", "")
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split())


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Word error rate: insertions, deletions and substitutions over the reference's words."""
    if not reference:
        return float(bool(hypothesis))
    return Levenshtein.distance(reference, hypothesis) / len(reference)


def score(
    text: str, heard: Heard, duration_s: float, language: str, min_similarity: float, edge_chars: int = 5
) -> Score:
    """Compare a clip's text with what was heard.

    Args:
        language: of the text; "" if it is not known: then what was heard decides how numbers are spelled.
        min_similarity: from here on a text is the clip's, unless a piece is missing.
        edge_chars: length of the edges.
    """
    code = language_code(language) or heard.language
    reference, hypothesis = comparable(text, code), comparable(heard.text, code)
    similarity = Levenshtein.normalized_similarity(reference, hypothesis)
    length = max(len(reference), 1)
    lost = _lost(reference, hypothesis)
    rate = len(hypothesis) / max(duration_s, 1e-3)
    words, said = reference.split(), hypothesis.split()
    kind = _kind(words, said, similarity, rate, heard, language_code(language), min_similarity)
    edge = max(min(edge_chars, len(reference)), 1)
    return Score(
        kind,
        round(similarity, 6),
        round(Levenshtein.distance(reference, hypothesis) / length, 6),
        round(word_errors(words, said), 6),
        round(sum(lost[:edge]) / edge, 6),
        round(sum(lost[-edge:]) / edge, 6),
        round(rate, 3),
        reference,
        hypothesis,
    )


def word_diff(reference: str, hypothesis: str) -> list[tuple[str, str]]:
    """Where two comparable texts differ, for people.

    Returns:
        runs of words in their order, each with where it stands: "both", "text" or "heard".
    """
    words, said = reference.split(), hypothesis.split()
    found, begin, start = [], 0, 0
    # Whatever is between two equal runs is one difference, however the distance came about.
    for at, to, count in Levenshtein.opcodes(words, said).as_matching_blocks():
        for side, run in (("text", words[begin:at]), ("heard", said[start:to]), ("both", words[at : at + count])):
            if run:
                found.append((side, " ".join(run)))
        begin, start = at + count, to + count
    return found


def _lost(reference: str, hypothesis: str) -> list[bool]:
    """Of each character of the reference: whether it is deleted or replaced, or something is added beside it."""
    lost = [False] * len(reference)
    for edit in Levenshtein.editops(reference, hypothesis):
        if lost:
            lost[min(edit.src_pos, len(lost) - 1)] = True
    return lost


def _kind(
    words: list[str], said: list[str], similarity: float, rate: float, heard: Heard, language: str, enough: float
) -> str:
    if not said:
        return "empty"
    if language and heard.language not in ("", language) and (heard.probability or 0.0) >= _LANGUAGE_PROBABILITY:
        return "wrong_language"
    if similarity < enough and _hallucinated(words, said, rate):
        return "hallucination"
    piece = _piece(words, said)
    if piece is not None:
        return piece
    return "ok" if similarity >= enough else "wrong_text"


def _hallucinated(words: list[str], said: list[str], rate: float) -> bool:
    if rate > MAX_CHARS_PER_S:
        return True
    if len(said) >= _UNIQUE_WORDS and len(set(said)) / len(said) <= _UNIQUE_SHARE < len(set(words)) / max(
        len(words), 1
    ):
        return True
    text, reference = " ".join(said), " ".join(words)
    if any(phrase in text and phrase not in reference for phrase in PHRASES):
        return True
    return _repeats(said) > max(_repeats(words), _REPEATS - 1)


def _repeats(words: list[str]) -> int:
    """How often the most repeated group of one to four words stands in a row."""
    most = 1
    for size in (1, 2, 3, 4):
        for begin in range(len(words) - 2 * size + 1):
            count = 1
            while words[begin + count * size : begin + (count + 1) * size] == words[begin : begin + size]:
                count += 1
            most = max(most, count)
    return most


def _piece(words: list[str], said: list[str]) -> str | None:
    """The kind of a clip whose texts are alike but for one piece; None if they are not."""
    gaps = _gaps(words, said)
    if not gaps:
        return None
    whole = len(" ".join(words))
    # The piece that weighs most; of equal ones the first.
    kind, chars, (w_begin, w_end), (s_begin, s_end) = max(gaps, key=lambda gap: gap[1])
    least_chars, least_ratio = (_CUT_CHARS, _CUT_RATIO) if kind.startswith("cut") else (_GAP_CHARS, _GAP_RATIO)
    if chars < max(least_chars, least_ratio * whole):
        return None
    rest = " ".join(words[:w_begin] + words[w_end:]), " ".join(said[:s_begin] + said[s_end:])
    if len(rest[0]) < _REST_RATIO * whole:
        return None
    return kind if Levenshtein.normalized_similarity(*rest) >= _ALIKE else None


def _gaps(words: list[str], said: list[str]) -> list[tuple[str, int, tuple[int, int], tuple[int, int]]]:
    """Runs of words on one side that the other side has nothing for: kind, characters, both ranges."""
    gaps = []
    edits = [edit for edit in Levenshtein.opcodes(words, said) if edit.tag != "equal"]
    regions: list[list[int]] = []  # neighbouring edits are one: a cut word is often heard as another one
    for edit in edits:
        if regions and regions[-1][1] == edit.src_start and regions[-1][3] == edit.dest_start:
            regions[-1][1], regions[-1][3] = edit.src_end, edit.dest_end
        else:
            regions.append([edit.src_start, edit.src_end, edit.dest_start, edit.dest_end])
    for w_begin, w_end, s_begin, s_end in regions:
        missing, added = len(" ".join(words[w_begin:w_end])), len(" ".join(said[s_begin:s_end]))
        if added > missing:
            kind = "extra_words"
        elif w_begin == 0:
            kind = "cut_start"
        elif w_end == len(words):
            kind = "cut_end"
        else:
            kind = "missing_words"
        gaps.append((kind, abs(missing - added), (w_begin, w_end), (s_begin, s_end)))
    return gaps
