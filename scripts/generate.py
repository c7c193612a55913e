"""Write what hosts say: song intros, outros, the time, the weather.

    python scripts/generate.py --config configs/demo.yaml
    make generate CONFIG=configs/demo.yaml SET='generate.songs=10 generate.content=[intro,outro]'

Reads a catalog with lyrics, weather reports, personas and prompt templates. Writes metadata.csv with one
script a row, the same as scripts/<dj>/<name>.txt, and plan.json, all that an auditor needs to know. An item
that no text came of goes to rejected.csv; it never becomes an empty script.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from voxmake.errors import ConfigError, Rejected
from voxmake.run.digest import digest_of
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage
from voxmake.run.work import Item, Limits
from voxmake.writing import engine, items, material, remember

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output


class Generate(engine.TextModel):
    """What hosts say, and who or what writes it."""

    engine: Literal["grammar", "openai", "transformers"] = Field(
        "grammar", description="grammar: the personas' own sentences, no model; openai: any OpenAI-compatible server"
    )
    catalog: str | None = Field(None, description="songs: YAML or JSON; relative to the project's folder")
    weather: str | None = Field(None, description="weather reports: YAML or JSON; relative to the project's folder")
    personas: str = Field("configs/personas", description="folder of <id>.yaml, one for each host")
    prompts: str = Field("configs/prompts", description="folder of the prompt templates")
    djs: list[str] | None = Field(None, description="ids of the hosts that speak; null: all")
    content: list[items.Type] = Field(
        ["intro"], min_length=1, description="what is written: intro, outro, time, weather"
    )
    songs: int | None = Field(None, ge=1, description="how many songs of the catalog; null: all")
    slots: int | None = Field(None, ge=1, description="how many times of day and weather reports; null: all")
    only: list[str] | None = Field(
        None, min_length=1, description="names of the items that are written, as in their files; null: all"
    )
    choose: Literal["first", "random"] = Field(
        "first", description="which of them, where `songs` or `slots` is fewer than all"
    )
    time_every_min: int = Field(30, ge=1, le=1440, description="minutes between two time announcements, from midnight")
    words: dict[items.Type, tuple[int, int]] = Field(
        {"intro": (12, 75), "outro": (8, 60), "time": (5, 35), "weather": (10, 60)},
        description="fewest and most words of each kind",
    )
    words_per_s: float = Field(2.5, gt=0, le=6, description="speaking rate that intros are fitted to the runway with")
    least_words: int = Field(
        4, ge=1, description="fewest words of an intro with a short runway; with less room there is none"
    )
    lyrics_chars: int = Field(500, ge=0, description="characters of the lyrics that the writer and the auditor see")

    @field_validator("content")
    @classmethod
    def _once(cls, content: list[str]) -> list[str]:
        if len(set(content)) < len(content):
            raise ValueError("names a kind twice")
        return content

    @model_validator(mode="after")
    def _bounds(self) -> Generate:
        for kind in self.content:
            if kind not in self.words or not 1 <= self.words[kind][0] <= self.words[kind][1]:
                raise ValueError(f"words: {kind} needs [fewest, most], fewest first")
        return self


def outside(config: Any) -> dict[str, str]:
    """The content of everything that is read."""
    spec = config.generate
    if spec.catalog is None and {"intro", "outro"} & set(spec.content):
        raise ConfigError("generate.catalog: names no file of songs; see docs/writing.md")
    if spec.weather is None and "weather" in spec.content:
        raise ConfigError("generate.weather: names no file of weather reports; see docs/writing.md")
    folder = PROJECT_ROOT / spec.personas
    found = {
        f"persona {name}": material.digest(folder / f"{name}.yaml") for name in material.read_personas(folder, spec.djs)
    }
    if {"intro", "outro"} & set(spec.content):
        found["catalog"] = material.digest(PROJECT_ROOT / spec.catalog)
    if "weather" in spec.content:
        found["weather"] = material.digest(PROJECT_ROOT / spec.weather)
    for name in items.PROMPTS if spec.engine != "grammar" else ():
        found[f"prompt {name}"] = material.digest(PROJECT_ROOT / spec.prompts / f"{name}.j2")
    return found | engine.model_digest(spec)


def result_keys(config: Any) -> dict:
    """Where the files lie is no part of the result; what is in them is."""
    keys = engine.result_keys(config.generate)
    return {"generate": {key: v for key, v in keys.items() if key not in ("catalog", "weather", "personas", "prompts")}}


# What chooses items, or is in the items already.
_SELECTION = {
    "djs", "content", "songs", "slots", "only", "choose", "time_every_min", "words", "words_per_s", "least_words",
    "lyrics_chars",
}  # fmt: skip


def item_keys(config: Any, plan: dict) -> dict[str, str]:
    """What decides each text of a plan, by id: a changed song, persona, prompt, model or seed changes only its items'."""
    spec = config.generate
    engine_keys = {key: v for key, v in result_keys(config)["generate"].items() if key not in _SELECTION}
    general = {"version": STAGE.version, "keys": engine_keys, "seed": config.seed, **engine.model_digest(spec)}
    found = {}
    for item in plan["items"]:
        prompts = {name: plan["prompts"][name] for name in ("system", item["type"])} if plan["prompts"] else {}
        found[item["id"]] = digest_of(general, item, plan["personas"][item["dj"]], prompts)
    return found


STAGE = Stage(
    name="generate",
    version=1,
    summary="write intros, outros, time and weather for each host",
    sections={"generate": Generate},
    seeded=True,
    result_keys=result_keys,
    outside=outside,
)

COLUMNS = (
    "id", "file_name", "text", "dj", "type", "name", "artist", "title", "at", "place", "language", "words",
    "min_words", "max_words", "runway_s", "seed", "engine", "model",
)  # fmt: skip


class Write:
    """Worker: a group of items in, their texts out."""

    def __init__(self, spec: dict, base_url: str | None, personas: dict, prompts: dict[str, str] | None, seed: int):
        self.spec, self.base_url, self.personas, self.seed = spec, base_url, personas, seed
        self.prompter = items.Prompter(prompts) if prompts else None
        self.engine: engine.TextEngine | None = None

    def __call__(self, payloads: list[dict], output: Output) -> list[dict | Rejected]:
        """payloads: `item`, `attempt`, `feedback`. Rows: text and seed."""
        self.engine = self.engine or engine.load(self.spec, self.base_url)
        requests = [
            items.request(
                one["item"], self.personas[one["item"]["dj"]], self.prompter, self.seed, one["attempt"], one["feedback"]
            )
            for one in payloads
        ]
        answers = self.engine.generate(requests)
        return [
            {"text": answer.text, "seed": asked.seed}
            if isinstance(answer, engine.Text)
            else Rejected(answer.kind, answer.detail)
            for asked, answer in zip(requests, answers, strict=True)
        ]


def work(run: Run) -> None:
    plan = read_plan(run.config)
    spec = run.config.generate
    todo = []
    for item in plan["items"]:
        if item["max_words"] < item["min_words"]:
            run.reject(item["id"], item["source"], "no_runway", f"{item['facts']['runway_s']:g} s before the vocals")
        else:
            todo.append(Item(item["id"], {"item": item, "attempt": 1, "feedback": []}, source=item["source"]))
    if not todo:
        run.log.warning("nothing to write")
    with server(run, spec) as base_url:
        made = write(run, todo, spec, base_url, plan)
    described = {item["id"]: item for item in plan["items"]}
    rows = [row(described[key], plan, spec, text) for key, text in made.items()]
    for one in rows:
        run.write_text(one["file_name"], one["text"] + "\n")
    run.write_table("metadata.csv", COLUMNS, rows)
    run.write_json("plan.json", plan | {"items": [described[key] for key in made]})
    for kind in spec.content:
        run.stat(f"scripts_{kind}", sum(one["type"] == kind for one in rows), "scripts", f"{kind} scripts")
    run.stat("words", sum(one["words"] for one in rows), "words", "words in all scripts")
    run.notes["engine"] = described_engine(spec)
    run.publish(rows_out=len(rows))


def read_plan(config: Any) -> dict:
    """Everything that is read from outside, as plain data: personas, prompts, the catalog's names, the items."""
    spec = config.generate
    songs = material.read_songs(PROJECT_ROOT / spec.catalog) if {"intro", "outro"} & set(spec.content) else []
    reports = material.read_reports(PROJECT_ROOT / spec.weather) if "weather" in spec.content else []
    personas = material.read_personas(PROJECT_ROOT / spec.personas, spec.djs)
    return {
        "personas": {name: persona.model_dump(mode="json") for name, persona in personas.items()},
        "prompts": items.read_prompts(PROJECT_ROOT / spec.prompts) if spec.engine != "grammar" else None,
        "artists": sorted({song.artist for song in songs}),
        "titles": sorted({song.title for song in songs}),
        "words_per_s": spec.words_per_s,
        "items": items.plan(spec, config.seed, songs, reports, personas),
    }


def server(run: Run, spec: Any) -> Any:
    """The server that a section asks to launch, while it is needed; gives its address, or None."""
    if run.work is None or spec.engine != "openai" or not spec.launch:
        return nullcontext()
    from voxmake.writing.launch import launched

    return launched(spec, run.path / "run.log", run.log)


def write(
    run: Run, todo: list[Item], spec: Any, base_url: str | None, plan: dict, again: bool = False
) -> dict[str, dict]:
    """Text and seed of each item, by id; audit.py calls it for its second attempts."""
    args = {
        "spec": spec.model_dump(mode="json"),
        "base_url": base_url,
        "personas": plan["personas"],
        "prompts": plan["prompts"],
        "seed": run.config.seed,
    }

    def made(items: list[Item], **options: Any) -> dict[str, dict]:
        return run.map(items, Write, args, Limits(), "scripts", batch=spec.batch_size, again=again, **options)

    if spec.engine == "grammar":  # written again sooner than looked up
        return made(todo)
    keys = item_keys(run.config, plan | {"items": [item.payload["item"] for item in todo]})
    asked = {
        item.id: digest_of(
            keys[item.payload["item"]["id"]],
            item.payload["attempt"],
            item.payload["feedback"],
            plan["prompts"]["feedback"] if item.payload["feedback"] else "",
        )
        for item in todo
    }
    return remember.through("texts", run, todo, asked, made, again)


def row(item: dict, plan: dict, spec: Any, made: dict) -> dict:
    """One line of metadata.csv."""
    facts = item["facts"]
    return {
        "id": item["id"],
        "file_name": f"scripts/{item['dj']}/{item['name']}_{item['type']}.txt",
        "text": made["text"],
        **{key: item[key] for key in ("dj", "type", "name", "min_words", "max_words")},
        **{key: facts.get(key) for key in ("artist", "title", "at", "place", "runway_s")},
        "language": plan["personas"][item["dj"]]["language"],
        "words": len(made["text"].split()),
        "seed": made["seed"],
        **described_engine(spec),
    }


def described_engine(spec: Any) -> dict[str, str]:
    """What wrote it, as far as it may be known: never the path of a model."""
    if spec.engine == "grammar":
        return {"engine": "grammar", "model": ""}
    digest = engine.model_digest(spec).get("model")
    return {"engine": spec.engine, "model": f"sha256:{digest[:12]}" if digest else spec.model}


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
