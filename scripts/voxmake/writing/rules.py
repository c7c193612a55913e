"""The deterministic auditor: what no script may do, each rule with an id. One finding is a veto.

The rules know the item's facts, so wrong names, times and numbers are found by comparison, not by taste.
What a rule can't decide (tone, flow) it leaves to a model or a person: there is no score here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from voxmake.writing.spoken import clock_times, day_parts, numbers


@dataclass(frozen=True)
class Finding:
    """One broken rule: its id, what is wrong in words a writer can use, and the words that prove it."""

    rule: str
    detail: str
    evidence: str = ""


@dataclass(frozen=True)
class Script:
    """A text and all that it is judged by.

    Attributes:
        item: of the plan: type, dj, facts, min_words, max_words.
        persona: its persona, as plain data.
        artists, titles, hosts: every name there is, so that a wrong one is known; hosts without this one.
        words_per_s: rate that the runway was planned with.
    """

    text: str
    item: dict
    persona: dict
    artists: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    words_per_s: float = 2.5
    max_lyric_words: int = 6

    @cached_property
    def plain(self) -> str:
        return plain(self.text)

    @cached_property
    def nameless(self) -> str:
        """The text without title and artist: their words are nobody's fault."""
        return self.without_names(self.plain)

    def without_names(self, text: str) -> str:
        """A plain text with § for title and artist."""
        for name in sorted((plain(self.facts.get(key, "")) for key in ("title", "artist")), key=len, reverse=True):
            text = re.sub(rf"\b{re.escape(name)}\b", "§", text) if name else text
        return text

    @property
    def facts(self) -> dict:
        return self.item["facts"]

    @property
    def is_song(self) -> bool:
        return self.item["type"] in ("intro", "outro")


Check = Callable[[Script], Iterator[str]]
RULES: dict[str, tuple[str, Check]] = {}


def rule(name: str, meaning: str) -> Callable[[Check], Check]:
    """Register a check under its id; `meaning` is what docs and feedback say of it."""

    def register(check: Check) -> Check:
        RULES[name] = (meaning, check)
        return check

    return register


def findings(script: Script) -> list[Finding]:
    """Every broken rule of one script, in the order of the rules; empty text breaks only `empty`."""
    if not script.text.strip():
        return [Finding("empty", "there is no text")]
    return [
        Finding(name, meaning, evidence) for name, (meaning, check) in RULES.items() for evidence in _first(check(script))
    ]  # fmt: skip


def _first(found: Iterator[str]) -> list[str]:
    return [one for one in [next(iter(found), None)] if one is not None]


def plain(text: str) -> str:
    """Lower case, straight quotes, no accents lost, one space between words, dashes as spaces."""
    text = unicodedata.normalize("NFKC", text).lower().translate(str.maketrans("‘’“”–—-", "''\"\"   "))
    return re.sub(r"\s+", " ", text).strip()


def _matches(pattern: str, text: str, flags: int = 0) -> Iterator[str]:
    yield from (match[0].strip() for match in re.finditer(pattern, text, flags))


def _named(names: Iterable[str], text: str) -> Iterator[str]:
    pattern = _any_of(tuple(names))
    if pattern is not None:
        yield from (match[0] for match in pattern.finditer(text))


@lru_cache(maxsize=256)
def _any_of(names: tuple[str, ...]) -> re.Pattern | None:
    """One pattern for many names, longest first; None for no names."""
    words = sorted({plain(name) for name in names if name.strip()}, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)") if words else None


# ---------------------------------------------------------------------------- form


rule("empty", "there is no text")(lambda script: iter(()))


@rule("meta_text", "speaks about the task or the script instead of being the script")
def _meta_text(script: Script) -> Iterator[str]:
    yield from _matches(
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
    yield from _matches(
        r"</?(think|thinking|thought|reasoning|scratchpad)\b[^>]*>?|^(let me think|okay, so|hmm,|first, i (need|should)|"
        r"the user (wants|needs|is asking)|i need to (write|create|introduce|come up))",
        script.plain,
    )


@rule("instruction_text", "repeats or gives instructions to a model")
def _instruction(script: Script) -> Iterator[str]:
    yield from _matches(
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
    yield from _matches(r"(?<!\w)[:;]-?[)(DPp](?!\w)", script.text)


@rule("brackets", "holds brackets or stage directions")
def _brackets(script: Script) -> Iterator[str]:
    yield from _matches(r"[\[({<][^\])}>]{0,60}[\])}>]?|[\])}>]", script.text)


@rule("markdown", "holds markup: asterisks, headings, backticks, underscores, bullets")
def _markdown(script: Script) -> Iterator[str]:
    yield from _matches(r"\*+[^*]{0,40}\**|^\s*#+ |`+|__|^\s*[-•–] |^\s*\d+[.)] |~~", script.text, re.MULTILINE)


@rule("wrapping_quotes", "the whole text stands in quotation marks")
def _wrapped(script: Script) -> Iterator[str]:
    text = script.text.strip()
    if len(text) > 1 and text[0] in "\"'“‘«" and text[-1] in "\"'”’»":
        yield text[:20]


@rule("speaker_label", "begins with a name or a label and a colon")
def _label(script: Script) -> Iterator[str]:
    names = "|".join(re.escape(plain(name)) for name in (script.persona["name"], *script.hosts))
    yield from _matches(
        rf"^({names}|dj|host|announcer|narrator|speaker|intro|outro|introduction|script|time|weather|response|output)( \w+)?:",
        script.plain,
    )


@rule("placeholder", "a blank was not filled in")
def _placeholder(script: Script) -> Iterator[str]:
    yield from _matches(
        r"\b(artist name|song title|song name|title here|name here|your name|tbd|tba|lorem ipsum|xxx+|insert (the )?\w+)\b|_{3,}|\bnull\b|\bundefined\b",
        script.nameless,
    )


@rule("address", "holds an address, a handle or a hashtag")
def _address(script: Script) -> Iterator[str]:
    yield from _matches(
        r"https?:\S+|\bwww\.\S+|\b\w+\.(com|org|net|fm|co|io)\b|(?<!\w)[@#]\w+|\S+@\S+\.\w+", script.text, re.I
    )


@rule("mojibake", "characters were decoded wrongly")
def _mojibake(script: Script) -> Iterator[str]:
    yield from _matches(r"â€.?|Ã[\u0080-\u00bf€™œ©¨¡³±¼¶¤]|Â[\u0080-\u00bf]|ðŸ.{0,2}|\ufffd|ï¿½", script.text)


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
    yield from _matches(r"[!?]{2,}|,,+|;;+|(?<!\.)\.\.(?!\.)|\.{4,}|[.!?],|,[.!?]|\s[,.;!?]|:{2,}", script.text)


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
    yield from (one for one in _matches(r"\b(\w+) \1\b", script.nameless) if one not in allowed)


@rule("looping", "repeats itself")
def _looping(script: Script) -> Iterator[str]:
    sentences = [plain(one) for one in _sentences(script.text) if len(one.split()) > 2]
    yield from (one for one in sentences if sentences.count(one) > 1)
    tokens = re.findall(r"[\w']+", script.nameless)
    grams = [" ".join(tokens[at : at + 4]) for at in range(len(tokens) - 3)]
    yield from (one for one in grams if grams.count(one) > 2)


# ---------------------------------------------------------------------------- the host


@rule("era_word", "a word from after the host's time")
def _era(script: Script) -> Iterator[str]:
    yield from _named(script.persona["era_words"], script.nameless)


@rule("era_year", "a year after the host's time")
def _era_year(script: Script) -> Iterator[str]:
    last = script.persona["last_year"]
    known = script.facts.get("year_number")
    for value, _ in numbers(script.nameless):
        if last and 1900 <= value <= 2100 and value > last and value != known:
            yield f"{value:g}"
    if last and last < 2000:
        yield from _matches(
            r"\b(twenty first century|this millennium|the (nineties|eighties|two thousands)|\b(19[7-9]|20\d)0'?s)\b",
            script.nameless,
        )


@rule("banned_phrase", "a phrase that this host never uses")
def _banned(script: Script) -> Iterator[str]:
    yield from _named(script.persona["banned"], script.nameless)


@rule("wrong_host", "names another host")
def _host(script: Script) -> Iterator[str]:
    yield from _named(script.hosts, script.nameless)


@rule("profanity", "swears")
def _swears(script: Script) -> Iterator[str]:
    yield from _matches(
        r"\b(fuck\w*|shit\w*|bitch\w*|asshole\w*|bastards?|cunts?|motherfuck\w*|bullshit|goddamn\w*)\b", script.nameless
    )


# ---------------------------------------------------------------------------- songs


@rule("missing_artist", "does not name the artist as written")
def _artist(script: Script) -> Iterator[str]:
    if script.is_song and not list(_named([script.facts["artist"]], script.plain)):
        yield script.facts["artist"]


@rule("missing_title", "does not name the title as written")
def _title(script: Script) -> Iterator[str]:
    if script.is_song and not list(_named([script.facts["title"]], script.plain)):
        yield script.facts["title"]


@rule("wrong_artist", "names another artist")
def _other_artist(script: Script) -> Iterator[str]:
    if script.is_song:
        own = plain(script.facts["artist"])
        yield from (name for name in _named(script.artists, script.nameless) if name != own)


@rule("wrong_title", "names another song")
def _other_title(script: Script) -> Iterator[str]:
    if script.is_song:  # a title of one word is a word as well
        own = plain(script.facts["title"])
        yield from (name for name in _named(script.titles, script.nameless) if name != own and " " in name)


@rule("wrong_year", "gives the song another year than the catalog, or one the catalog does not know")
def _year(script: Script) -> Iterator[str]:
    if script.is_song:
        for value, behind in numbers(script.nameless):
            if 1850 <= value <= 2100 and value != script.facts.get("year_number") and behind not in ("miles", "people"):
                yield f"{value:g}"


@rule("wrong_direction", "an intro speaks of the song as over, or an outro as still to come")
def _direction(script: Script) -> Iterator[str]:
    over = r"\bthat was (§|the|a|an|our|your)? ?§|\b(you|we) (just|have just|'ve just) (heard|listened)|\bthere (goes|went) §|\b(we|you) heard §"
    coming = r"\b(coming up|up next|next up|here (is|comes|'s) §|about to (hear|play)|let's (hear|listen)|get ready for|stay tuned for §|next is §)"
    if script.item["type"] == "intro":
        yield from _matches(over, script.nameless)
    elif script.item["type"] == "outro":
        yield from _matches(coming, script.nameless)


@rule("lyric_quote", "quotes the lyrics at length")
def _lyrics(script: Script) -> Iterator[str]:
    longest = script.max_lyric_words + 1
    lyrics = re.findall(r"[\w'§]+", script.without_names(plain(script.facts.get("lyrics") or "")))
    known = f" {' '.join(lyrics)} "
    tokens = re.findall(r"[\w'§]+", script.nameless)
    for at in range(len(tokens) - longest + 1):
        if f" {' '.join(tokens[at : at + longest])} " in known:
            yield " ".join(tokens[at : at + longest])


@rule("clock_leak", "says the time of day, which is wrong by the time it is heard")
def _clock(script: Script) -> Iterator[str]:
    if script.item["type"] != "time" and (found := _says_time(script.nameless)):
        yield found


def _says_time(text: str) -> str:
    """A time that is told, not just a word such as midnight."""
    told = [
        m
        for m in re.finditer(
            r"o'clock|\d:\d\d|\b(half|quarter) (past|to|after)\b|\b(it is|it's|the time is) (now )?(noon|midnight)\b",
            text,
        )
    ]
    return told[0][0] if told and clock_times(text) else ""


@rule("weather_leak", "reports the weather, which it has no data for")
def _weather_leak(script: Script) -> Iterator[str]:
    if script.item["type"] != "weather":
        yield from _matches(
            r"\b(\w+ )?degrees (outside|out there|celsius|fahrenheit)\b|\bthe (weather )?forecast\b|\b(it is|it's) (raining|snowing|sunny|storming) (outside|out there|today|tonight)",
            script.nameless,
        )


# ---------------------------------------------------------------------------- time


@rule("wrong_time", "does not say the time of its slot, or says another one")
def _time(script: Script) -> Iterator[str]:
    if script.item["type"] == "time":
        hour, minute = (int(part) for part in script.facts["at"].split(":"))
        said = clock_times(script.text)
        if not said:
            yield "no time"
        yield from (f"{one // 60 or 12}:{one % 60:02}" for one in said if one != (hour * 60 + minute) % 720)


@rule("wrong_day_part", "speaks of another part of the day")
def _day_part(script: Script) -> Iterator[str]:
    if script.item["type"] == "time":
        allowed = day_parts(script.facts["at"])
        for match in re.finditer(r"\b(?:good|this|in the|at) (morning|afternoon|evening|night)\b", script.plain):
            if match[1] not in allowed and (match[1], "evening" in allowed) != ("night", True):
                yield match[0]
        before_noon = int(script.facts["at"][:2]) < 12
        for match in re.finditer(r"(?<=\d) ?([ap])m\b|\b([ap])\.m\b", script.plain):
            if ((match[1] or match[2]) == "a") != before_noon:
                yield match[0]


@rule("digits", "holds digits where everything is spoken")
def _digits(script: Script) -> Iterator[str]:
    if script.item["type"] in ("time", "weather"):
        yield from _matches(r"\d+(:\d+)?", script.text)


# ---------------------------------------------------------------------------- weather

_SKY = {
    "clear": r"\b(clear|sunny|sunshine|cloudless|bright skies|starry)\b",
    "cloudy": r"\b(cloud|clouds|cloudy|overcast|gr[ea]y sk(y|ies))\b",
    "rain": r"\b(rain|raining|rainy|drizzle|drizzling|shower|showers|wet)\b",
    "storm": r"\b(storm|storms|stormy|thunder|thunderstorm|thunderstorms|lightning)\b",
    "snow": r"\b(snow|snowing|snowy|snowfall|flurries|blizzard)\b",
    "fog": r"\b(fog|foggy|mist|misty|haze|hazy)\b",
    "wind": r"\b(wind|winds|windy|breeze|breezy|gust|gusts|gale)\b",
}
# What may be said beside a sky without saying another one: storms bring rain and wind.
_GOES_WITH = {"storm": {"rain", "wind", "cloudy"}, "rain": {"cloudy"}, "snow": {"cloudy", "wind"}, "fog": {"cloudy"}}


@rule("wrong_sky", "does not say what the sky does, or says something else")
def _sky(script: Script) -> Iterator[str]:
    if script.item["type"] == "weather":
        text = script.plain.replace(plain(script.facts["place"]), "§")
        if not re.search(_SKY[script.facts["sky"]], text):
            yield f"no {script.facts['sky']}"
        allowed = {script.facts["sky"]} | _GOES_WITH.get(script.facts["sky"], set())
        for sky, pattern in _SKY.items():
            if sky not in allowed and not (sky == "wind" and len(script.facts["numbers"]) > 3):
                yield from _matches(pattern, text)


@rule("wrong_place", "does not name the place")
def _place(script: Script) -> Iterator[str]:
    if script.item["type"] == "weather" and not list(_named([script.facts["place"]], script.plain)):
        yield script.facts["place"]


@rule("wrong_temperature", "does not say the temperature of the data, or says another one")
def _temperature(script: Script) -> Iterator[str]:
    if script.item["type"] == "weather":
        allowed = script.facts["numbers"]
        said = [value for value, behind in numbers(script.text) if behind.startswith("degree")]
        if allowed[0] not in said:
            yield f"not {script.facts['temperature']}"
        yield from (f"{value:g} degrees" for value in said if value not in allowed)


@rule("invented_number", "says a number that the data does not hold")
def _invented(script: Script) -> Iterator[str]:
    if script.item["type"] == "weather":
        for value, behind in numbers(script.text):
            if value not in script.facts["numbers"] and not behind.startswith("degree"):
                yield f"{value:g} {behind}".strip()


# ---------------------------------------------------------------------------- a batch

# Found by comparing scripts with each other (`novelty.py`); listed here so that every rule is.
BATCH_RULES = {
    "repeated_opener": "begins with the same four words as other scripts of this host",
    "near_duplicate": "is nearly the same as another script of this host",
}
