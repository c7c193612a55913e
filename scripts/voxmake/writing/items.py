"""What is to be written: one item for each song, time or weather report and host, with its facts and its room.

A plan is plain data, and it goes into the run as plan.json: whoever audits a script, or writes it once
more, needs nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from voxmake.errors import ConfigError
from voxmake.writing.engine import TextRequest, seed_of
from voxmake.writing.material import Persona, Report, Song, slug
from voxmake.writing.spoken import clock_words, words, year_words

Type = Literal["intro", "outro", "time", "weather"]
PROMPTS = ("system", "intro", "outro", "time", "weather", "feedback")
# How a host may say what the sky does, and the words that give it away (`rules.py`).
CONDITIONS = {
    "clear": "clear sky", "cloudy": "cloud", "rain": "rain", "storm": "a storm", "snow": "snow", "fog": "fog",
    "wind": "a strong wind",
}  # fmt: skip


def plan(spec: Any, seed: int, songs: list[Song], reports: list[Report], personas: dict[str, Persona]) -> list[dict]:
    """Every item of a run, sorted by id.

    Returns:
        for each item: id ("julie/intro/ada-finch-copper-kettle-morning"), dj, type, name, source, facts,
        min_words and max_words. An intro whose vocals start too soon has max_words below min_words.
    """
    chosen = choose(spec, seed, songs)
    stems = _stems(chosen)
    items = []
    for dj, persona in personas.items():
        for kind in spec.content:
            low, high = spec.words[kind]
            for name, source, facts in _few(kind, spec, seed, _facts(kind, spec, chosen, stems, reports, persona)):
                room = {"min_words": low, "max_words": high}
                if kind == "intro" and (runway_s := facts.get("runway_s")) is not None:
                    most = min(high, int(runway_s * spec.words_per_s))
                    names = len(f"{facts['artist']} {facts['title']}".split())
                    room = {"min_words": low if most >= 1.5 * low else max(spec.least_words, names), "max_words": most}
                items.append({"id": f"{dj}/{kind}/{name}", "dj": dj, "type": kind, "name": name, "source": source,
                              "facts": facts} | room)  # fmt: skip
    return sorted(items, key=lambda item: item["id"])


def _few(kind: str, spec: Any, seed: int, facts: Iterable[tuple[str, str, dict]]) -> Iterator[tuple[str, str, dict]]:
    """Those that the section asks for by name, and so many slots of the day."""
    some = [one for one in facts if spec.only is None or one[0] in spec.only]
    if kind in ("time", "weather") and spec.slots is not None:
        order = sorted(some, key=lambda one: _lot(seed, one[0])) if spec.choose == "random" else some
        taken = order[: spec.slots]
        some = [one for one in some if one in taken]
    yield from some


def _lot(seed: int, *names: str) -> str:
    return hashlib.sha256("\0".join([str(seed), *names]).encode()).hexdigest()


def choose(spec: Any, seed: int, songs: list[Song]) -> list[Song]:
    """The songs of a run: all, the first so many, or so many by lot (each song's lot hangs on itself alone)."""
    if spec.songs is None:
        return songs
    if spec.choose == "first":
        return songs[: spec.songs]

    taken = sorted(songs, key=lambda song: _lot(seed, song.artist, song.title))[: spec.songs]
    return [song for song in songs if song in taken]


def _stems(songs: list[Song]) -> list[str]:
    """File names of songs, artist-title; where two would be one, both get a mark of their own."""
    names = [slug(song.artist, song.title) for song in songs]
    return [
        name
        if names.count(name) == 1
        else f"{name}-{hashlib.sha256(f'{song.artist}{chr(0)}{song.title}'.encode()).hexdigest()[:8]}"
        for name, song in zip(names, songs, strict=True)
    ]


def _facts(kind: str, spec: Any, songs: list[Song], stems: list[str], reports: list[Report], persona: Persona):
    """Name, source and facts of each item of one kind and host."""
    if kind in ("intro", "outro"):
        for song, stem in zip(songs, stems, strict=True):
            facts = {
                "title": song.title,
                "artist": song.artist,
                "year": year_words(song.year) if song.year else "",
                "year_number": song.year,
                "genre": song.genre,
                "mood": song.mood,
                "instruments": song.instruments,
                "lyrics": song.lyrics.strip()[: spec.lyrics_chars],
                "runway_s": song.vocals_start_s,
            }
            yield stem, f"{song.artist}: {song.title}", facts
    elif kind == "time":
        for minute in range(0, 1440, spec.time_every_min):
            clock = f"{minute // 60:02}:{minute % 60:02}"
            yield clock.replace(":", ""), clock, {"at": clock, "time": clock_words(clock), "spoken": clock_words(clock)}
    else:
        for report in reports:
            facts = {
                "at": report.at,
                "place": report.place,
                "sky": report.condition,
                "condition": CONDITIONS[report.condition],
                "numbers": [
                    degrees(value, persona) for value in (report.temperature_c, report.high_c, report.low_c) if value is not None
                ] + ([round(report.wind_kmh)] if report.wind_kmh is not None else []),
            } | {
                key: degrees_words(value, persona)
                for key, value in (("temperature", report.temperature_c), ("high", report.high_c), ("low", report.low_c))
                if value is not None
            }  # fmt: skip
            yield f"{slug(report.place)}-{report.at.replace(':', '')}", f"{report.place} {report.at}", facts


def degrees(value_c: float, persona: Persona) -> int:
    """A temperature as this host says it, rounded half up."""
    value = value_c * 9 / 5 + 32 if persona.temperature_unit == "fahrenheit" else value_c
    return int((value + 0.5) // 1)


def degrees_words(value_c: float, persona: Persona) -> str:
    number = degrees(value_c, persona)
    return f"{words(number)} degree{'' if abs(number) == 1 else 's'}"


def read_prompts(folder: Path, names: tuple[str, ...] = PROMPTS) -> dict[str, str]:
    """The text of each prompt template, by name."""
    found = {}
    for name in names:
        path = folder / f"{name}.j2"
        try:
            found[name] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{path}: no such prompt template, or not UTF-8") from None
    return found


class Prompter:
    """Templates to prompts. A template sees what it is given and a `data(label, text)` that delimits material."""

    def __init__(self, templates: dict[str, str]):
        from jinja2 import DictLoader, StrictUndefined, TemplateSyntaxError
        from jinja2.sandbox import SandboxedEnvironment

        loader = DictLoader({f"{name}.j2": text for name, text in templates.items()})
        # Plain text for a model: HTML escaping would change what it reads.
        self.environment = SandboxedEnvironment(
            loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        for name in templates:
            try:
                self.environment.get_template(f"{name}.j2")
            except TemplateSyntaxError as error:
                raise ConfigError(f"prompt {name}.j2:{error.lineno}: {error.message}") from None

    def render(self, name: str, mark: str, **values: Any) -> str:
        """One prompt.

        Args:
            mark: of the delimiters; from the item's seed, so that no text can hold it by chance or on purpose.
        """
        from jinja2 import TemplateError

        def data(label: str, text: str) -> str:
            inside = str(text).replace("<<<", "‹‹‹").replace(">>>", "›››")
            return f"<<<DATA {mark} {label}\n{inside}\nDATA {mark}>>>"

        try:
            return self.environment.get_template(f"{name}.j2").render(data=data, mark=mark, **values).strip()
        except TemplateError as error:
            raise ConfigError(f"prompt {name}.j2: {error}") from None


def mark_of(seed: int) -> str:
    """What delimits material in the prompt of the item with this seed."""
    return hashlib.sha256(f"mark\0{seed}".encode()).hexdigest()[:12]


def request(
    item: dict, persona: dict, prompter: Prompter | None, run_seed: int, attempt: int, feedback: list[str]
) -> TextRequest:
    """What an engine is asked for one item.

    Args:
        prompter: None for the grammar, which reads no prompt.
        attempt: 1 for the first; each has a seed of its own.
        feedback: why the attempts before were turned down.
    """
    seed = seed_of(run_seed, item["id"], attempt)
    material = {key: item[key] for key in ("type", "facts", "min_words", "max_words")} | {"grammar": persona["grammar"]}
    if prompter is None:
        return TextRequest(item["id"], "", "", seed, material=material)
    mark = mark_of(seed)
    room = {"min_words": item["min_words"], "max_words": item["max_words"]}
    prompt = prompter.render(item["type"], mark, facts=item["facts"], persona=persona, feedback=feedback, **room)
    return TextRequest(item["id"], prompter.render("system", mark, persona=persona), prompt, seed, material=material)
