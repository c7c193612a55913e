"""What programmes are made of: songs, weather and the people who speak, read from files and checked.

    songs:                                     reports:
      - title: Copper Kettle Morning             - {place: Oakhollow, at: "07:00", condition: fog, temperature_c: 6}
        artist: Ada Finch
        year: 1951
        vocals_start_s: 8.0
        lyrics: |
          Copper kettle morning, steam upon the glass

A persona is one file, `<id>.yaml`; its id names it everywhere. JSON is read as well: YAML 1.2 holds it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from voxmake.errors import BadInput, ConfigError
from voxmake.run.config import Section, parse_yaml
from voxmake.run.digest import file_sha256, tree_digest

Condition = Literal["clear", "cloudy", "rain", "storm", "snow", "fog", "wind"]
_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"


class Song(Section):
    """One song of the catalog. What is not known stays empty, and nothing is said of it."""

    title: str = Field(min_length=1, max_length=200)
    artist: str = Field(min_length=1, max_length=200)
    year: int | None = Field(None, ge=1000, le=2100)
    genre: str = Field("", max_length=100)
    mood: str = Field("", max_length=100)
    instruments: str = Field("", max_length=200)
    vocals_start_s: float | None = Field(None, ge=0, le=3600)
    lyrics: str = Field("", max_length=20000)

    @field_validator("title", "artist", "genre", "mood", "instruments")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if any(unicodedata.category(character) in ("Cc", "Cf") for character in text):
            raise ValueError("holds control characters or line breaks: delete them")
        return unicodedata.normalize("NFC", text.strip())


class Report(Section):
    """The weather of one place at one time of day."""

    place: str = Field(min_length=1, max_length=100)
    at: str = Field(pattern=_CLOCK)
    condition: Condition
    temperature_c: float = Field(ge=-90, le=60)
    high_c: float | None = Field(None, ge=-90, le=60)
    low_c: float | None = Field(None, ge=-90, le=60)
    wind_kmh: float | None = Field(None, ge=0, le=400)


class Persona(Section):
    """Who speaks: for the prompt (description, voice, samples), for the rules (last_year, words), for the grammar."""

    name: str = Field(min_length=1, max_length=100)
    description: str = ""
    voice: list[str] = []
    samples: list[str] = []
    language: str = "en"
    temperature_unit: Literal["celsius", "fahrenheit"] = "celsius"
    last_year: int | None = None
    era_words: list[str] = []
    banned: list[str] = []
    grammar: dict[str, list[str]] = {}


class _Catalog(Section):
    songs: list[Song] = Field(min_length=1)


class _Weather(Section):
    reports: list[Report] = Field(min_length=1)


def read_songs(path: Path) -> list[Song]:
    """Songs in the order of the file.

    Raises:
        BadInput: the file can't be read, or an entry is wrong: file, line and key are named.
    """
    songs = _read(path, _Catalog).songs
    seen: dict[tuple[str, str], int] = {}
    for number, song in enumerate(songs, start=1):
        key = (song.artist.casefold(), song.title.casefold())
        if key in seen:
            raise BadInput(f"{path}: songs {seen[key]} and {number} are both {song.artist}, {song.title}: take one out")
        seen[key] = number
    return songs


def read_reports(path: Path) -> list[Report]:
    """Weather reports in the order of the file; raises like `read_songs`."""
    return _read(path, _Weather).reports


def read_personas(folder: Path, wanted: list[str] | None) -> dict[str, Persona]:
    """Personas by id, sorted; all of the folder, or those that are wanted.

    Raises:
        ConfigError: the folder has none, or not the one that is wanted.
    """
    there = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not there:
        raise ConfigError(f"generate.personas: {folder} holds no persona (<id>.yaml)")
    for name in wanted or []:
        if name not in there:
            raise ConfigError(f"generate.djs: no persona {name!r} in {folder}; there are: {' '.join(there)}")
    return {name: _read(path, Persona) for name, path in there.items() if wanted is None or name in wanted}


def _read(path: Path, model: type[BaseModel]) -> Any:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: can't be read as UTF-8 text: {error}") from None
    try:
        data, lines = parse_yaml(text, str(path))
    except ConfigError as error:
        raise BadInput(str(error)) from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        place = tuple(fault["loc"])
        line = next((lines[place[:depth]] for depth in range(len(place), 0, -1) if place[:depth] in lines), 1)
        key = ".".join(str(part) for part in place)
        raise BadInput(f"{path}:{line}: {key}: {fault['msg'].removeprefix('Value error, ')}") from None


def digest(path: Path, cache: Path | None = None) -> str:
    """Content digest of a file, or of every file below a folder.

    Raises:
        ConfigError: there is nothing.
    """
    if path.is_file():
        return file_sha256(path)
    files = [file for file in path.rglob("*") if file.is_file()]
    if not files:
        raise ConfigError(f"{path}: no such file or folder, or nothing in it")
    return tree_digest(files, path, cache)


def slug(*parts: str) -> str:
    """A file name of lower-case ASCII for what people typed; a hash is added where letters had to go.

    "Ada Finch", "Copper Kettle Morning" -> "ada-finch-copper-kettle-morning".
    """
    text = " ".join(parts)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()
    name = re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace("’", "")).strip("-")
    lost = any(c.isalnum() and not c.isascii() for c in plain) or len(name) > 80 or not name
    mark = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return f"{name[:80].strip('-')}-{mark}".strip("-") if lost else name
