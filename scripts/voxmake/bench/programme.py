"""What programmes cost: rules and novelty for many scripts, and speech for each engine that needs no model.

    python scripts/bench.py --only programme

Times are CPU times: those of the machine's clock hang on who else works on it.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from voxmake.run.stage import PROJECT_ROOT

SCRIPTS = 100_000
WORDS = "amber birch cedar dune ember fern grove heath iris jade kelp lark moss north oak pine quill reed sage thorn"
TEXT = "Good evening, friend. It is half past seven, and the street lamp outside the shop flickers a little tonight."
SPEAK = """
import sys; sys.path.insert(0, {scripts!r})
from voxmake.tts.engine import load
voice = load("espeak", None, 1.0)
voice.begin(None, 0, 1)
print(sum(len(voice.speak({text!r})) for _ in range({times})) / voice.rate_hz)
"""


def rows() -> list[dict]:
    return [*audit(), *novelty(), *speech()]


def some(count: int) -> list[str]:
    chosen, words = random.Random(0), WORDS.split()
    return [
        f"{' '.join(chosen.choices(words, k=8)).capitalize()}, friend. Ada Finch made Copper Kettle Morning in nineteen "
        f"fifty-one, and it says {' '.join(chosen.choices(words, k=6))}."
        for _ in range(count)
    ]


def audit() -> list[dict]:
    """All rules on every script, one core."""
    from voxmake.writing.material import read_personas, read_songs
    from voxmake.writing.rule import Script
    from voxmake.writing.rules import findings

    persona = read_personas(PROJECT_ROOT / "configs/personas", ["julie"])["julie"].model_dump(mode="json")
    songs = read_songs(PROJECT_ROOT / "data/demo/catalog.yaml")
    song = next(one for one in songs if one.artist == "Ada Finch")
    facts = {"artist": song.artist, "title": song.title, "year_number": song.year, "lyrics": song.lyrics}
    item = {"type": "intro", "dj": "julie", "facts": facts, "min_words": 8, "max_words": 60}
    names = tuple(one.artist for one in songs), tuple(one.title for one in songs)

    def check() -> None:
        for text in some(SCRIPTS):
            findings(Script(text, item, persona, *names, ("Mr New Vegas",)))

    return [told(f"audit rules, {SCRIPTS:,} scripts, one core", SCRIPTS / cpu_s(check), "scripts/s")]


def novelty() -> list[dict]:
    """Ten times as many scripts, and how many times as long: quadratic would be 100. One in ten is a near-copy."""
    from voxmake.writing.novelty import repeated

    def check(count: int) -> float:
        chosen = random.Random(1)
        texts = [" ".join(f"word{chosen.randrange(3000)}" for _ in range(30)) for _ in range(count)]
        texts[::10] = [f"{text} again" for text in texts[1::10]]
        scripts = [(f"{number:06}", "julie intro", text) for number, text in enumerate(texts)]
        return cpu_s(lambda: repeated(scripts, 2, 0.7))

    took = [check(SCRIPTS // 10), check(SCRIPTS)]
    return [
        told(f"novelty of {SCRIPTS:,} scripts", took[1], "s"),
        told("the same: times as long as a tenth of them", took[1] / took[0], ""),
    ]


def speech() -> list[dict]:
    """Real-time factor of espeak, with one and with two processes: seconds of the clock for a second of speech."""
    found = []
    code = SPEAK.format(scripts=str(PROJECT_ROOT / "scripts"), text=TEXT, times=100)
    for workers in (1, 2):
        begun_s = time.monotonic()
        running = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(workers)
        ]
        spoken_s = sum(float(one.communicate()[0]) for one in running)
        seconds = time.monotonic() - begun_s
        found.append(
            told(f"espeak, {workers} worker{'s'[: workers > 1]}, start included", seconds / spoken_s, "s per s")
        )
    return found


def cpu_s(call: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    call()
    return max(1e-3, resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)


def told(what: str, value: float, unit: str) -> dict:
    return {"what": what, "unit": unit, "voxmake": float(f"{value:.3g}"), "against": ""}
