"""Rules of content: who speaks, and whether names, years, times and weather are those of the item's facts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxmake.writing.rule import Script, matches, named, plain, rule
from voxmake.writing.spoken import clock_times, day_parts, numbers

# ---------------------------------------------------------------------------- the host


@rule("era_word", "a word from after the host's time")
def _era(script: Script) -> Iterator[str]:
    yield from named(script.persona["era_words"], script.nameless)


@rule("era_year", "a year after the host's time")
def _era_year(script: Script) -> Iterator[str]:
    last = script.persona["last_year"]
    known = script.facts.get("year_number")
    for value, _ in numbers(script.nameless):
        if last and 1900 <= value <= 2100 and value > last and value != known:
            yield f"{value:g}"
    if last and last < 2000:
        yield from matches(
            r"\b(twenty first century|this millennium|the (nineties|eighties|two thousands)|\b(19[7-9]|20\d)0'?s)\b",
            script.nameless,
        )


@rule("banned_phrase", "a phrase that this host never uses")
def _banned(script: Script) -> Iterator[str]:
    yield from named(script.persona["banned"], script.nameless)


@rule("wrong_host", "names another host")
def _host(script: Script) -> Iterator[str]:
    yield from named(script.hosts, script.nameless)


@rule("profanity", "swears")
def _swears(script: Script) -> Iterator[str]:
    yield from matches(
        r"\b(fuck\w*|shit\w*|bitch\w*|asshole\w*|bastards?|cunts?|motherfuck\w*|bullshit|goddamn\w*)\b", script.nameless
    )


# ---------------------------------------------------------------------------- songs


@rule("missing_artist", "does not name the artist as written")
def _artist(script: Script) -> Iterator[str]:
    if script.is_song and not list(named([script.facts["artist"]], script.plain)):
        yield script.facts["artist"]


@rule("missing_title", "does not name the title as written")
def _title(script: Script) -> Iterator[str]:
    if script.is_song and not list(named([script.facts["title"]], script.plain)):
        yield script.facts["title"]


@rule("wrong_artist", "names another artist")
def _other_artist(script: Script) -> Iterator[str]:
    if script.is_song:
        own = plain(script.facts["artist"])
        yield from (name for name in named(script.artists, script.nameless) if name != own)


@rule("wrong_title", "names another song")
def _other_title(script: Script) -> Iterator[str]:
    if script.is_song:  # a title of one word is a word as well
        own = plain(script.facts["title"])
        yield from (name for name in named(script.titles, script.nameless) if name != own and " " in name)


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
        yield from matches(over, script.nameless)
    elif script.item["type"] == "outro":
        yield from matches(coming, script.nameless)


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
        yield from matches(
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
        yield from matches(r"\d+(:\d+)?", script.text)


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
                yield from matches(pattern, text)


@rule("wrong_place", "does not name the place")
def _place(script: Script) -> Iterator[str]:
    if script.item["type"] == "weather" and not list(named([script.facts["place"]], script.plain)):
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
