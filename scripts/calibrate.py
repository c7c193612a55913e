"""Tune a podcast prompt against what people made of the same papers.

    python scripts/calibrate.py run --config configs/podcast.yaml
    python scripts/calibrate.py list-pairs --config configs/podcast.yaml
    make calibrate CONFIG=configs/podcast.yaml SET='calibrate.max_trials=3'

Reads pairs <id>.pdf and <id>.mp3: the paper, and the episode that people made of it. Each trial writes a script for every
pair, speaks it, and measures five losses against the human one; then only the marked guidance block of the prompt
is changed, the best is kept, and it ends when trials stop paying. Writes trial_NNN/ (scripts, audio, results.json),
training_report.json, prompt.j2 (the best prompt) and index.html. docs/calibration.md explains losses and rules.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import generate
import tts
from voxmake.asr.spec import Validate, chosen_engine, model_digest, model_path
from voxmake.calibration.pairs import Found, Ingest, Pair, check_partner, find_pairs, lines
from voxmake.calibration.spec import Calibrate, Judge
from voxmake.errors import BadInput, Rejected
from voxmake.run.entry import parser, reporting, run_stage
from voxmake.run.stage import PROJECT_ROOT, Stage, data_root, load_config
from voxmake.run.work import Item, Limits
from voxmake.tts.spec import Tts
from voxmake.writing import engine, items, material

if TYPE_CHECKING:
    from voxmake.calibration.loop import Course
    from voxmake.calibration.speech import Speaker
    from voxmake.calibration.trials import Trial
    from voxmake.run.run import Run

PROMPTS = (
    "podcast", "podcast_system", "podcast_segments", "podcast_coverage", "podcast_judge", "podcast_refine",
)  # fmt: skip
GRAMMAR = "podcast_grammar.yaml"
_RECOGNISER_KEYS = ("beam_size", "compute_type")
# Scripts are spoken once, by one voice, as MP3: what concerns the checks and other formats decides nothing here.
_NOT_SPOKEN = {
    "voices", "file_format", "retries", "max_wer", "min_similarity", "longest_s", "shortest_s_per_word",
}  # fmt: skip


def outside(config: Any) -> dict[str, str]:
    """The content of everything that is read: pairs, prompts, models (those of voice and recogniser as tts has them)."""
    from voxmake.run.digest import remembered_sha256

    spec = config.calibrate
    cache = data_root() / ".cache" / "digests.sqlite"
    found = {
        f"{one.id}{path.suffix.lower()}": remembered_sha256(path, cache)
        for one in find_pairs(spec.pairs)
        for path in (one.pdf, one.mp3)
        if path is not None
    }
    folder = PROJECT_ROOT / spec.prompts
    found |= {f"prompt {name}": material.digest(folder / f"{name}.j2") for name in PROMPTS}
    if spec.engine == "grammar":
        found["grammar"] = material.digest(folder / GRAMMAR)
    judge = {f"judge {name}": value for name, value in engine.model_digest(config.judge).items()}
    return found | engine.model_digest(spec) | judge | tts.outside(config)


def result_keys(config: Any) -> dict:
    spec = config.calibrate
    keys = engine.result_keys(spec)
    hidden = ("pairs", "prompts", "max_cpu_s")
    recogniser = {name: getattr(config.validation, name) for name in _RECOGNISER_KEYS}
    voice = tts.result_keys(config)["tts"]
    return {
        "calibrate": {name: value for name, value in keys.items() if name not in hidden},
        "judge": engine.result_keys(config.judge),
        "tts": {name: value for name, value in voice.items() if name not in _NOT_SPOKEN},
        "recogniser": recogniser | {"engine": chosen_engine(config.validation)},
    }


STAGE = Stage(
    name="calibrate",
    version=1,
    summary="tune a podcast prompt against human episodes of the same papers",
    sections={"calibrate": Calibrate, "judge": Judge, "validation": Validate, "tts": Tts},
    seeded=True,
    result_keys=result_keys,
    outside=outside,
)


def work(run: Run) -> None:
    from voxmake.calibration import loop, segments
    from voxmake.calibration.asking import Questions
    from voxmake.calibration.page import write_page
    from voxmake.calibration.speech import TAKES
    from voxmake.calibration.trials import Bench
    from voxmake.calibration.writer import read_grammar

    spec = run.config.calibrate
    folder = PROJECT_ROOT / spec.prompts
    templates = items.read_prompts(folder, PROMPTS)
    found, ingested = ingest(run)
    grammar = read_grammar(folder / GRAMMAR) if spec.engine == "grammar" else None
    bench = Bench(run, spec, run.config.judge, Questions(templates), grammar, speaker(run.config), generate.server)
    pairs = analyse(bench, ingested)
    training, held = divide(pairs, spec.hold_out, run.config.seed)
    bench.profile = segments.aggregate(
        [vars(pair) | {"duration_s": pair.duration_s} for pair in training if pair.structure is not None]
    )
    for pair in pairs:
        write_pair(run, pair, found[pair.id])
    names: dict[str, str] = {}

    def tell(course: Course) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        names[course.trials[-1].name] = f"{course.trials[-1].name}_{stamp}"
        for line in console(course, spec.max_trials):
            run.log.info("%s", line)

    course = loop.calibrate(bench, templates["podcast"], training, tell)
    unseen = loop.hold_out(bench, course, held)
    report = summary(run, course, unseen, training, held, bench.profile)
    run.write_json("training_report.json", report)
    run.write_text("prompt.j2", course.winner.template)
    write_page(run, report, course, unseen, pairs)
    for line in ending(report):
        run.log.info("%s", line)
    write_stats(run, report)
    run.notes["trials"] = names  # the time of each trial stands in its name here and in the link, and in no result
    run.leave_out(TAKES)
    run.publish(rows_out=len(pairs))
    link_trials(run, names)


def speaker(config: Any) -> Speaker:
    from voxmake.calibration.speech import Speaker
    from voxmake.tts.pieces import read_lexicon

    spec = config.tts
    return Speaker(spec, tts.Speak, tts.Finish, read_lexicon(PROJECT_ROOT / spec.lexicon if spec.lexicon else None))


# ---------------------------------------------------------------------------- pairs


def ingest(run: Run) -> tuple[dict[str, Found], dict[str, dict]]:
    """Read the papers and listen to the episodes. What was heard is remembered by the content of the file."""
    from voxmake.asr import engines
    from voxmake.run.cache import Cache
    from voxmake.run.digest import remembered_sha256
    from voxmake.text.normalise import language_code

    spec, asr = run.config.calibrate, run.config.validation
    whole: dict[str, Found] = {}
    for one in find_pairs(spec.pairs):
        try:
            check_partner(one)
            whole[one.id] = one
        except Rejected as rejection:
            run.reject(one.id, one.source, rejection.reason, rejection.detail)
            run.log.warning("%s rejected: %s, %s", one.id, rejection.reason, rejection.detail)
    chosen, model = chosen_engine(asr), model_path(asr)
    identity = engines.identity(chosen, model_digest(asr), asr.beam_size, asr.compute_type)
    run.notes["recogniser"] = identity
    cache = Cache(data_root() / ".cache" / "episodes.sqlite", identity)
    digests = data_root() / ".cache" / "digests.sqlite"
    keys = {key: f"{remembered_sha256(one.mp3, digests)}:{spec.language}" for key, one in whole.items()}
    known = {key: json.loads(value) for key, value in cache.known(keys.values()).items()}

    def remember(key: str, row: dict) -> None:
        cache.add({keys[key]: json.dumps(row["heard"]).encode()})

    args = {
        "recogniser": {
            "engine": chosen, "model": None if model is None else str(model), "beam_size": asr.beam_size,
            "compute_type": asr.compute_type,
        },
        "reading": {"concepts": spec.concepts, "min_font_pt": spec.min_font_pt, "max_pages": spec.max_pages},
        "language": language_code(spec.language),
        "batch_size": run.config.execution.batch_size,
    }  # fmt: skip
    todo = [
        Item(
            key,
            {"pdf": str(one.pdf), "mp3": str(one.mp3), "heard": known.get(keys[key])},
            cost=one.mp3.stat().st_size,
            source=one.source,
        )
        for key, one in whole.items()
    ]
    rows = run.map(todo, Ingest, args, Limits(cpu_s=spec.max_cpu_s), "pairs", on_gpus=True, each=remember)
    for key, row in rows.items():
        for one in row["document"]["dropped"]:
            run.log.warning("%s: page %d: left out (%s): %.80s", key, one["page"], one["reason"], one["text"])
    if not rows:
        raise BadInput("no pair can be used; the lines above and rejected.csv say why")
    return whole, rows


def analyse(bench: Any, rows: dict[str, dict]) -> list[Pair]:
    """Segments and profiles of every reference."""
    from voxmake.calibration import segments
    from voxmake.calibration.asking import NoAnswer

    units = {key: [one["text"] for one in row["heard"]["utterances"]] for key, row in rows.items()}
    if bench.grammar is not None:
        kinds: dict[str, Any] = {key: segments.classify(units[key], row["document"]) for key, row in rows.items()}
    else:
        kinds = bench.kinds_of("references", units, 0)
    pairs = []
    for key, row in rows.items():
        spans = [(one["start_s"], one["end_s"]) for one in row["heard"]["utterances"]]
        found = None if isinstance(kinds[key], NoAnswer) else segments.structure(units[key], kinds[key], spans)
        pairs.append(Pair(key, row["document"], row["heard"], found, segments.style(row["heard"])))
    if all(pair.structure is None for pair in pairs):
        raise BadInput("the text engine classified no reference; take another model, or engine: grammar")
    return pairs


def divide(pairs: list[Pair], hold_out: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Training pairs and the hold-out, drawn by the seed from those whose structure is known; one always trains."""
    able = [pair for pair in pairs if pair.structure is not None]
    drawn = sorted(able, key=lambda pair: engine.seed_of(seed, f"hold-out {pair.id}", 0))
    held = {pair.id for pair in drawn[: min(hold_out, len(able) - 1)]}
    return [pair for pair in pairs if pair.id not in held], [pair for pair in pairs if pair.id in held]


def write_pair(run: Run, pair: Pair, found: Found) -> None:
    """pairs/<id>.json: the paper, the concepts, the transcript and the profiles; and the reference to listen to."""
    run.write_json(
        f"pairs/{pair.id}.json",
        {
            "id": pair.id,
            "document": pair.document,
            "heard": pair.heard,
            "structure": pair.structure,
            "style": pair.style,
        },
    )
    run.write_bytes(f"pairs/{pair.id}_reference.mp3", found.mp3.read_bytes())


# ---------------------------------------------------------------------------- results


def summary(
    run: Run, course: Course, unseen: dict[str, Trial], training: list[Pair], held: list[Pair], profile: dict
) -> dict[str, Any]:
    """training_report.json."""
    from voxmake.calibration.trials import gain

    spec = run.config.calibrate
    lower, base = gain(course.trials[0], course.winner, spec.weights)
    beyond = lower > course.noise["floor"]
    found = {
        "best_trial": course.winner.name,
        "verdict": "improved beyond noise" if beyond else "no improvement beyond noise",
        "stopped": course.stopped,
        "first_total": course.trials[0].total,
        "best_total": course.winner.total,
        "gain": round(lower, 6),
        "gain_share": round(lower / base, 6) if base else None,
        "noise": course.noise,
        "weights": spec.weights,
        "engines": {
            "writer": generate.described_engine(spec),
            "judge": generate.described_engine(run.config.judge)
            if run.config.judge.engine != "measures"
            else {"engine": "measures", "model": "", "note": "named measures; no judge has read these scripts"},
            "recogniser": run.notes["recogniser"],
            "voice": run.config.tts.engine,
        },
        "profile": profile,
        "pairs": {"training": [pair.id for pair in training], "hold_out": [pair.id for pair in held]},
        "trials": [
            {
                "kept": number == 0 or course.best[number] == number,
                "best_so_far": course.trials[course.best[number]].name,
            }
            | {key: value for key, value in trial.record().items() if key != "pairs"}
            for number, trial in enumerate(course.trials)
        ],
        "refused": course.refused,
        "hold_out": None,
    }
    if unseen:
        first, best = unseen["first"], unseen.get("best", unseen["first"])
        found["hold_out"] = {
            "first_total": first.total,
            "best_total": best.total,
            "gain": round(gain(first, best, spec.weights)[0], 6),
            "first": first.means(),
            "best": best.means(),
        }
    return found


def console(course: Course, most: int) -> list[str]:
    """What is said of the last trial."""
    trial = course.trials[-1]
    told = [f"Trial {len(course.trials)}/{most}"]
    if trial.change:
        told.append(f"  changed for {trial.change['component']}: {trial.change['what']}")
    for key, one in trial.pairs.items():
        losses = {name: "not measured" if v is None else f"{v:.3f}" for name, v in one["components"].items()}
        said = sum(concept["evidence"] is not None for concept in one["concepts"] or [])
        count = len(one["concepts"] or [])
        marks = one["quality"]["marks"] or {}
        quality = ", ".join(f"{n}={m if isinstance(m, float) else m['score']}" for n, m in marks.items())
        rouge = one["rouge"] or dict.fromkeys(("rouge1", "rouge2", "rougeLsum"), 0.0)
        total = "not measured" if one["total"] is None else f"{one['total']:.3f}"
        told += [
            f"  {key}",
            f"    Duration: {one['duration_s'] or 0:.0f}s (ref: {one['reference_s']:.0f}s) - Loss: {losses['duration']}",
            f"    Coverage: {100 * said / max(count, 1):.0f}% ({said}/{count} concepts) - Loss: {losses['coverage']}",
            f"    Structure: {len(one['order'] or [])} parts (ref: {len(one['reference_order'] or [])}) - Loss: {losses['structure']}",
            f"    Quality: {quality} - Loss: {losses['quality']}",
            f"    ROUGE: R1={rouge['rouge1']:.2f}, R2={rouge['rouge2']:.2f}, RL={rouge['rougeLsum']:.2f} - Loss: {losses['rouge']}",
            f"    Total Loss: {total}",
            *(f"    not measured: {note}" for note in one["not_measured"]),
        ]
    average = "not measured" if trial.total is None else f"{trial.total:.3f}"
    return [*told, f"  Average Total Loss: {average}"]


def ending(report: dict[str, Any]) -> list[str]:
    told = [f"stopped: {report['stopped']}"]
    if report["first_total"] is not None and report["best_total"] is not None:
        told.append(
            f"best: {report['best_trial']}, {report['best_total']:.3f} after {report['first_total']:.3f}; "
            f"noise floor {report['noise']['floor']:.4f}: {report['verdict']}"
        )
    if held := report["hold_out"]:
        told.append(f"hold-out: {held['best_total']} after {held['first_total']}")
    return told


def write_stats(run: Run, report: dict[str, Any]) -> None:
    run.stat("loss_first", report["first_total"], "0 to 1", "mean total loss of the prompt as it came")
    run.stat("loss_best", report["best_total"], "0 to 1", "mean total loss of the best prompt")
    run.stat("gain", report["gain"], "0 to 1", "how much lower it is, over what was measured in both")
    run.stat("noise_floor", report["noise"]["floor"], "0 to 1", "a change that one prompt shows by chance alone")
    run.stat("trials", len(report["trials"]), "trials", "prompts that were tried")
    held = report["hold_out"] or {}
    run.stat("hold_out_first", held.get("first_total"), "0 to 1", "total loss of the first prompt on unseen pairs")
    run.stat("hold_out_best", held.get("best_total"), "0 to 1", "total loss of the best prompt on unseen pairs")


def link_trials(run: Run, names: dict[str, str]) -> None:
    """data/projects/<project>/trials/trial_000_<time> -> the trial's folder. For people, as the stage's own link is."""
    folder = data_root() / "projects" / run.config.project / "trials"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_symlink():
            old.unlink()
    for name, stamped in names.items():
        (folder / stamped).symlink_to(os.path.relpath(run.work.final / name, folder))


# ---------------------------------------------------------------------------- command line


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument(
        "verb", nargs="?", choices=("run", "list-pairs"), default="run",
        help="run: calibrate (the default); list-pairs: say which pairs there are, and what has no partner",
    )  # fmt: skip
    args = flags.parse_args(argv)
    if args.verb == "run":
        return run_stage(STAGE, work, flags, argv)
    with reporting(STAGE.name, args.verbose) as ended:
        config = load_config(args.config, args.assignments)
        for line in lines(find_pairs(config.calibrate.pairs)):
            print(line)
    return ended.code


if __name__ == "__main__":
    raise SystemExit(main())
