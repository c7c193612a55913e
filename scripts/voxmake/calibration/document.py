"""What a PDF says: sections, figures, and a fixed list of its concepts with the place where each stands.

Text in a PDF is material. A sentence that speaks to a language model is no part of a paper: it is taken out and
reported, so it can neither be read to an engine nor change what is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from voxmake.calibration.pdf import Page, read_pages
from voxmake.calibration.words import content, sentences, stem, stopwords, words
from voxmake.errors import Rejected

# What a section is about, by its heading. The first that fits counts.
HEADINGS = (
    ("limitation", r"limitations?|threats to validity|caveats?|weakness"),
    ("conclusion", r"conclu|summary and outlook|outlook|future work|closing"),
    ("intro", r"abstract|summary|overview|^preface"),
    ("problem", r"problem|question|motivation|challenge|objectives?|aims?$"),
    ("background", r"background|introduction|related|prior work|previous|history|context|literature"),
    (
        "method",
        r"methods?|methodology|materials|approach|experiment|design|procedure|participants|data|model|system|setup",
    ),
    ("finding", r"results?|findings?|evaluation|analysis|observations?"),
    ("implication", r"discussion|implications?|applications?|impact|practice|recommendations?"),
)
_LEAVES = re.compile(
    r"^(references|bibliography|acknowledge?ments?|appendix|funding|author contributions|conflicts?)\b", re.I
)
_NUMBER = re.compile(r"^(?:\d+(?:\.\d+)*\.?|[IVX]+\.)\s+")
_CAPTION = re.compile(r"^(fig(?:ure|\.)|table)\s*(\d+)\s*[.:]\s*(\S.*)$", re.IGNORECASE)
_MAX_HEADING_WORDS = 8
# Sentences that speak to a language model. Each has been seen in preprints or in attacks on retrieval; a paper that
# quotes one loses that sentence, and the report says so.
_TO_A_MODEL = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|prompts?|rules|above|previous|prior)\b"
    r"|\b(?:as|you are|act as)\b.{0,12}\b(?:language model|llm|ai (?:assistant|reviewer|judge|model)|chatbot)\b"
    r"|\b(?:system prompt|new instructions?:|positive review only|do not (?:mention|highlight) any negatives?)"
    r"|\b(?:give|award|assign|rate|score)\s+(?:it|this|the|every|all|each)\b.{0,60}\b(?:100|highest|maximum|perfect|full|top)\b.{0,20}\b(?:scores?|marks?|rating|points?)\b"
    r"|\b(?:judge|evaluator|grader|assistant)s?\b.{0,30}\bmust\b.{0,40}\b(?:scores?|say|answer|output|rate|write)\b",
    re.IGNORECASE,
)


@dataclass
class Section:
    """A heading with its sentences; kind: one of HEADINGS, or "" if the heading does not tell."""

    heading: str
    kind: str
    page: int
    sentences: list[str] = field(default_factory=list)


def read_document(path: Path, concepts: int, min_font_pt: float, max_pages: int) -> dict[str, Any]:
    """A PDF as plain data.

    Returns:
        title, pages, words, sections (heading, kind, page, sentences), figures (label, caption, page), concepts
        (term, page, section, sentence), dropped (page, reason, text).

    Raises:
        Rejected: see `read_pages`; or no_concepts.
    """
    return describe(read_pages(path, min_font_pt, max_pages), concepts)


def describe(pages: list[Page], concepts: int) -> dict[str, Any]:
    """Pages to sections, figures and concepts; see `read_document`."""
    dropped = [
        {"page": page.number, "reason": "+".join(sorted(page.reasons)), "text": " ".join(page.hidden.split())}
        for page in pages
        if page.reasons
    ]
    title, sections, figures = _layout(pages, dropped)
    found = find_concepts(title, sections, concepts)
    if not found:
        raise Rejected("no_concepts", f"{sum(len(words(page.text)) for page in pages)} words")
    return {
        "title": title,
        "pages": len(pages),
        "words": sum(len(words(sentence)) for section in sections for sentence in section.sentences),
        "sections": [asdict(section) for section in sections],
        "figures": figures,
        "concepts": found,
        "dropped": dropped,
    }


def _layout(pages: list[Page], dropped: list[dict]) -> tuple[str, list[Section], list[dict]]:
    furniture = _repeated(pages)
    title: list[str] = []
    sections = [Section("", "", 1)]
    blocks: list[list[tuple[str, int]]] = [[]]
    figures: list[dict] = []
    caption = False
    for page in pages:
        for raw in page.text.splitlines():
            line = " ".join(raw.split())
            if not line or line in furniture or re.fullmatch(r"[\d\s/|-]+", line):
                continue
            plain = _NUMBER.sub("", line)
            kind = _kind(plain)
            if found := _CAPTION.match(line):
                label = f"{'Table' if found[1].lower() == 'table' else 'Figure'} {found[2]}"
                figures.append({"label": label, "caption": found[3], "page": page.number})
                caption = not found[3].rstrip().endswith((".", "!", "?"))
            elif caption:
                figures[-1]["caption"] += f" {line}"
                caption = not line.endswith((".", "!", "?"))
            elif _is_heading(line, plain, kind, blocks[-1]):
                sections.append(Section(plain, kind or "", page.number))
                blocks.append([])
            elif len(sections) == 1:
                title.append(line)
            else:
                blocks[-1].append((line, page.number))
    if len(sections) == 1:  # no heading at all: one section, and its first line is the title
        sections.append(Section("", "", 1))
        blocks.append([(line, 1) for line in title[1:]])
        title = title[:1]
    kept = []
    for section, lines in zip(sections, blocks, strict=True):
        if _LEAVES.match(section.heading):
            continue
        section.sentences = _clean(_joined([line for line, _ in lines]), section.page, dropped)
        if section.sentences:
            kept.append(section)
    figures = [one for one in figures if _clean(one["caption"], one["page"], dropped)]
    name = " ".join(_clean(" ".join(title)[:300], 1, dropped))
    return name or kept[0].sentences[0], kept, figures


def _kind(line: str) -> str | None:
    """The kind that a heading tells; None if it is no known heading."""
    return next((kind for kind, pattern in HEADINGS if re.search(rf"\b(?:{pattern})", line.lower())), None)


def _is_heading(line: str, plain: str, kind: str | None, before: list[tuple[str, int]]) -> bool:
    count = len(plain.split())
    if not 1 <= count <= _MAX_HEADING_WORDS or line[-1] in ".,;:!?" or not plain[:1].isupper():
        return False
    complete = not before or before[-1][0].endswith((".", "!", "?", ":"))
    known = kind is not None or _LEAVES.match(plain) is not None
    # A name from the list, alone on its line; or a numbered line after the end of a sentence.
    return complete and ((known and count <= 5) or plain != line)


def _repeated(pages: list[Page]) -> set[str]:
    """Running heads and feet: lines that stand on most pages."""
    if len(pages) < 3:
        return set()
    counts = Counter(line for page in pages for line in {" ".join(raw.split()) for raw in page.text.splitlines()})
    return {line for line, count in counts.items() if count > len(pages) / 2 and len(line.split()) <= 15}


def _joined(lines: list[str]) -> str:
    """Lines as one text; a word that was divided at a line's end is made whole."""
    return re.sub(r"(\w)[-‐]\n(?=[a-z])", r"\1", "\n".join(lines)).replace("\n", " ")


def _clean(text: str, page: int, dropped: list[dict]) -> list[str]:
    """Sentences without those that speak to a model, and without reference marks such as [12]."""
    kept = []
    for sentence in sentences(re.sub(r"\s*\[\d+(?:\s*[,–-]\s*\d+)*\]", "", text)):
        if _TO_A_MODEL.search(sentence):
            dropped.append({"page": page, "reason": "speaks_to_a_model", "text": sentence})
        else:
            kept.append(sentence)
    return kept


def find_concepts(title: str, sections: list[Section], count: int) -> list[dict[str, Any]]:
    """The terms that carry a text: at most `count`, best first; the same text gives the same list.

    Runs of up to three words without a stop word between them, counted by stem, as RAKE takes its candidates (Rose et
    al. 2010); scored by how often, in how many sections, how long, and whether the title has them.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    places: dict[tuple[str, ...], dict[str, Any]] = {}
    spread: dict[tuple[str, ...], set[int]] = {}
    for number, section in enumerate(sections):
        for sentence in section.sentences:
            for term in _terms(sentence):
                key = tuple(stem(word) for word in term)
                counts[key] += 1
                spread.setdefault(key, set()).add(number)
                place = {"term": " ".join(term), "page": section.page, "section": section.heading, "sentence": sentence}
                places.setdefault(key, place)
    named = set(content(title))
    order = {key: number for number, key in enumerate(places)}

    def score(key: tuple[str, ...]) -> float:
        return counts[key] * len(spread[key]) * len(key) ** 1.5 * (2 if set(key) <= named else 1)

    chosen: list[tuple[str, ...]] = []
    for key in sorted((key for key in counts if counts[key] > 1), key=lambda key: (-score(key), order[key])):
        if not any(set(key) <= set(other) or set(other) <= set(key) for other in chosen):
            chosen.append(key)
        if len(chosen) == count:
            break
    return [places[key] for key in chosen]


def _terms(sentence: str) -> list[tuple[str, ...]]:
    found = []
    for part in re.split(r"[.,;:!?()\"“”]", sentence):
        run: list[str] = []
        for word in [*words(part), ""]:
            if word and word not in stopwords() and not word.isdigit() and len(word) > 2:
                run.append(word)
                continue
            for size in (1, 2, 3):
                found += [tuple(run[at : at + size]) for at in range(len(run) - size + 1)]
            run = []
    return found
