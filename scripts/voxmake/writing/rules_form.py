"""Rules of form: what can't be spoken, length, repetition. They need no facts but the room that a script has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from voxmake.writing.rule import Script, matches, plain, rule

# ---------------------------------------------------------------------------- form


rule("empty", "there is no text")(lambda script: iter(()))


@rule("meta_text", "speaks about the task or the script instead of being the script")
def _meta_text(script: Script) -> Iterator[str]:
    yield from matches(
        r"^(sure|certainly|of course|absolutely|okay|ok|alright)[,.!:] (here|i|let|this)|"
        r"\bhere('s| is| are) (an?|the|your|my) [^.!?]{0,40}?\b(script|intro|introduction|outro|announcement|version|draft|response)\b|"
        r"\bas an? (ai|artificial|language|large language|virtual) ?\w*|\blanguage model\b|\bi('m| am) an ai\b|"
        r"\bi (cannot|can't|am unable to|'m unable to) (assist|help|write|provide|comply|generate|create)\b|"
        r"\b(word count|words? total|approximately \d+ words|rewritten|revised version|note to self|let me know if you)\b|"
        r"\bhope (this|that) (helps|works|meets)\b|\b(the )?(prompt|user) (asks|asked|wants|says|requested)\b",
        script.plain,
    )


@rule("thinking_text", "holds the model's thinking")
def _thinking(script: Script) -> Iterator[str]:
    yield from matches(
        r"</?(think|thinking|thought|reasoning|scratchpad)\b[^>]*>?|^(let me think|okay, so|hmm,|first, i (need|should)|"
        r"the user (wants|needs|is asking)|i need to (write|create|introduce|come up))",
        script.plain,
    )


@rule("instruction_text", "repeats or gives instructions to a model")
def _instruction(script: Script) -> Iterator[str]:
    yield from matches(
        r"\b(ignore|disregard|forget) (all |any |the |your |every )*(previous|prior|above|earlier|other) (instructions?|rules?|prompts?)|"
        r"\bsystem prompt\b|<<<|>>>|‹‹‹|›››|\bdata [0-9a-f]{12}\b|\[/?inst\]|<\|[^|]*\|>|"
        r"\b(output|return|respond with|answer with) (only )?(json|passed|the following|a score)|\bscore (this|it|me) (a )?(10|ten)\b",
        script.plain,
    )


@rule("emoji", "holds emoji or pictures, which can't be spoken")
def _emoji(script: Script) -> Iterator[str]:
    for character in script.text:
        code = ord(character)
        if unicodedata.category(character) == "So" or 0x1F000 <= code <= 0x1FAFF or code in (0xFE0F, 0x20E3):
            yield character
    yield from matches(r"(?<!\w)[:;]-?[)(DPp](?!\w)", script.text)


@rule("brackets", "holds brackets or stage directions")
def _brackets(script: Script) -> Iterator[str]:
    yield from matches(r"[\[({<][^\])}>]{0,60}[\])}>]?|[\])}>]", script.text)


@rule("markdown", "holds markup: asterisks, headings, backticks, underscores, bullets")
def _markdown(script: Script) -> Iterator[str]:
    yield from matches(r"\*+[^*]{0,40}\**|^\s*#+ |`+|__|^\s*[-•–] |^\s*\d+[.)] |~~", script.text, re.MULTILINE)


@rule("wrapping_quotes", "the whole text stands in quotation marks")
def _wrapped(script: Script) -> Iterator[str]:
    text = script.text.strip()
    if len(text) > 1 and text[0] in "\"'“‘«" and text[-1] in "\"'”’»":
        yield text[:20]


@rule("speaker_label", "begins with a name or a label and a colon")
def _label(script: Script) -> Iterator[str]:
    names = "|".join(re.escape(plain(name)) for name in (script.persona["name"], *script.hosts))
    yield from matches(
        rf"^({names}|dj|host|announcer|narrator|speaker|intro|outro|introduction|script|time|weather|response|output)( \w+)?:",
        script.plain,
    )


@rule("placeholder", "a blank was not filled in")
def _placeholder(script: Script) -> Iterator[str]:
    yield from matches(
        r"\b(artist name|song title|song name|title here|name here|your name|tbd|tba|lorem ipsum|xxx+|insert (the )?\w+)\b|_{3,}|\bnull\b|\bundefined\b",
        script.nameless,
    )


@rule("address", "holds an address, a handle or a hashtag")
def _address(script: Script) -> Iterator[str]:
    yield from matches(
        r"https?:\S+|\bwww\.\S+|\b\w+\.(com|org|net|fm|co|io)\b|(?<!\w)[@#]\w+|\S+@\S+\.\w+", script.text, re.I
    )


@rule("mojibake", "characters were decoded wrongly")
def _mojibake(script: Script) -> Iterator[str]:
    yield from matches(r"â€.?|Ã[\u0080-\u00bf€™œ©¨¡³±¼¶¤]|Â[\u0080-\u00bf]|ðŸ.{0,2}|\ufffd|ï¿½", script.text)


@rule("invisible", "holds invisible or control characters")
def _invisible(script: Script) -> Iterator[str]:
    for character in script.text:
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn") and character not in "\n\t\ufe0f\u200d":
            yield f"U+{ord(character):04X}"


@rule("line_breaks", "is more than one paragraph")
def _lines(script: Script) -> Iterator[str]:
    if "\n" in script.text.strip():
        yield script.text.strip().partition("\n")[0][-30:]


@rule("double_punctuation", "punctuation is doubled")
def _double(script: Script) -> Iterator[str]:
    yield from matches(r"[!?]{2,}|,,+|;;+|(?<!\.)\.\.(?!\.)|\.{4,}|[.!?],|,[.!?]|\s[,.;!?]|:{2,}", script.text)


@rule("no_end", "does not end with a full stop, a question mark or an exclamation mark")
def _end(script: Script) -> Iterator[str]:
    if not re.search(r"[.!?][\"'”’]?$|…$", script.text.strip()):
        yield script.text.strip()[-30:]


@rule("unbalanced_quotes", "a quotation mark is open")
def _quotes(script: Script) -> Iterator[str]:
    if script.text.count('"') % 2 or script.text.count("“") != script.text.count("”"):
        yield '"'


@rule("shouting", "words in capitals")
def _shouting(script: Script) -> Iterator[str]:
    allowed = set(re.findall(r"\w+", f"{script.facts.get('title', '')} {script.facts.get('artist', '')}"))
    for word in re.findall(r"\b[A-ZÀ-Þ]{4,}\b", script.text):
        if word not in allowed:
            yield word


@rule("other_script", "is written in another script than the host's language")
def _script(script: Script) -> Iterator[str]:
    if script.persona["language"] in ("en", "de", "fr", "es", "it", "nl", "pt", "sv"):
        known = script.facts.get("title", "") + script.facts.get("artist", "")
        yield from (
            c for c in script.text if c.isalpha() and c not in known and "LATIN" not in unicodedata.name(c, "LATIN")
        )


@rule("exclamations", "more than two exclamation marks")
def _exclamations(script: Script) -> Iterator[str]:
    if script.text.count("!") > 2:
        yield "!"


# ---------------------------------------------------------------------------- length


@rule("too_short", "has fewer words than asked for")
def _short(script: Script) -> Iterator[str]:
    if (count := len(script.text.split())) < script.item["min_words"]:
        yield f"{count} words, at least {script.item['min_words']}"


@rule("too_long", "has more words than asked for")
def _long(script: Script) -> Iterator[str]:
    if (count := len(script.text.split())) > script.item["max_words"]:
        yield f"{count} words, at most {script.item['max_words']}"


@rule("over_runway", "would still be spoken when the vocals start")
def _runway(script: Script) -> Iterator[str]:
    runway_s = script.facts.get("runway_s")
    if script.item["type"] == "intro" and runway_s is not None:
        seconds = len(script.text.split()) / script.words_per_s
        if seconds > runway_s + 0.5 / script.words_per_s:
            yield f"{seconds:.1f} s, vocals after {runway_s:g} s"


@rule("breathless", "a sentence of more than 45 words")
def _breathless(script: Script) -> Iterator[str]:
    for sentence in _sentences(script.text):
        if len(sentence.split()) > 45:
            yield sentence[:40]


@rule("too_many_sentences", "more than eight sentences")
def _many(script: Script) -> Iterator[str]:
    if (count := len(_sentences(script.text))) > 8:
        yield f"{count} sentences"


def _sentences(text: str) -> list[str]:
    return [one for one in re.split(r"(?<=[.!?…])[\"'”’]?\s+", text.strip()) if one]


# ---------------------------------------------------------------------------- repetition inside


@rule("doubled_word", "a word stands twice in a row")
def _doubled(script: Script) -> Iterator[str]:
    allowed = ("had had", "that that", "very very", "no no", "bye bye", "well well", "now now", "there there")
    yield from (one for one in matches(r"\b(\w+) \1\b", script.nameless) if one not in allowed)


@rule("looping", "repeats itself")
def _looping(script: Script) -> Iterator[str]:
    sentences = [plain(one) for one in _sentences(script.text) if len(one.split()) > 2]
    yield from (one for one in sentences if sentences.count(one) > 1)
    tokens = re.findall(r"[\w']+", script.nameless)
    grams = [" ".join(tokens[at : at + 4]) for at in range(len(tokens) - 3)]
    yield from (one for one in grams if grams.count(one) > 2)
