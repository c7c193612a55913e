"""Listen to every clip of the dataset by speech recognition, compare it with its text, and say PASS or FAIL.

    python scripts/whisper_validate.py --config configs/demo.yaml
    python scripts/whisper_validate.py --config configs/demo.yaml --asr-sample 300
    python scripts/whisper_validate.py --config configs/demo.yaml --whisper-model models/large-v3 --gpus 0,1
    make whisper_validate CONFIG=configs/demo.yaml SET='validation.gate_mean_similarity=0.85'

Reads the run of prepare_dataset, changes nothing in it. Writes validation.csv (one row a clip: similarity,
error rates, a class and whether it passed), passed.csv (the dataset's rows that training may take), SUMMARY.txt,
runner.log and shard_reports/. Exit code 1: a gate says FAIL; all of that is written nevertheless. What was heard is remembered by the clip's content: other
gates, other texts or one more clip recognise nothing twice. docs/validation.md explains classes and gates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxmake.asr.spec import Validate, chosen_engine, model_digest, model_path
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage, data_root
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.run.worker import Output


def result_keys(config: Any) -> dict:
    """Where the model lies is no part of the result; which engine it is for, and what is in it, is."""
    keys = {"validation": config.validation.model_dump(mode="json", exclude={"engine", "model", "model_sha256"})}
    keys["validation"]["engine"] = chosen_engine(config.validation)
    return keys | ({"seed": config.seed} if config.validation.sample else {})


def outside(config: Any) -> dict[str, str]:
    digest = model_digest(config.validation)
    return {} if digest is None else {"model": digest}


STAGE = Stage(
    name="whisper_validate",
    version=2,
    summary="recognise every clip, compare it with its text, PASS or FAIL",
    sections={"validation": Validate},
    after=("prepare_dataset",),
    result_keys=result_keys,
    outside=outside,
)

CARRIED = ("id", "file_name", "split", "speaker", "language", "duration_s")
COLUMNS = (
    *CARRIED, "class", "passed", "similarity", "cer", "wer", "edge_start_cer", "edge_end_cer", "chars_per_s",
    "heard_language", "language_probability", "text", "hypothesis", "reference_compared", "hypothesis_compared", "shard",
)  # fmt: skip


class Recognise:
    """Worker: clips in, what was heard out; the model is loaded when the first unknown clip comes."""

    def __init__(
        self, engine: str, model: str | None, beam_size: int, compute_type: str, batch_size: int, loaders: int
    ):
        self.engine = (engine, model, beam_size, compute_type)
        self.batch_size, self.loaders, self.batches = batch_size, loaders, None

    def many(self, payloads: list[dict], outputs: list[Output]) -> Iterator[Any]:
        """payloads: `path` and `language` of each clip, its `text`, and `heard` if that is known. Yields rows."""
        from voxmake.errors import Rejected

        unknown = iter(self._recognise([payload for payload in payloads if payload["heard"] is None]))
        for payload in payloads:
            heard = payload["heard"] or next(unknown)
            yield heard if isinstance(heard, Rejected) else heard | {"similarity": self._similarity(payload, heard)}

    def _recognise(self, payloads: list[dict]) -> Iterator[Any]:
        if not payloads:
            return
        from concurrent.futures import ThreadPoolExecutor

        from voxmake.asr import engines
        from voxmake.asr.batches import Batches
        from voxmake.errors import Rejected

        if self.batches is None:
            self.batches = Batches(engines.load(*self.engine), self.batch_size)
        with ThreadPoolExecutor(self.loaders) as pool:  # clips are read while the model works on those before
            clips = pool.map(_read, (payload["path"] for payload in payloads))
            languages = (payload["language"] for payload in payloads)
            for heard in self.batches.hear(zip(clips, languages, strict=True)):
                yield heard if isinstance(heard, Rejected) else vars(heard).copy()

    def _similarity(self, payload: dict, heard: dict) -> float:
        """For the display; the rows are scored when all is heard."""
        from voxmake.asr.engines import Heard
        from voxmake.asr.scoring import score

        return score(payload["text"], Heard(**heard), 1.0, payload["language"], 0.0).similarity


def _read(path: str) -> Any:
    from voxmake.asr.batches import read_clip
    from voxmake.errors import Rejected

    try:
        return read_clip(Path(path))
    except Rejected as rejection:
        return rejection


def work(run: Run) -> None:
    from voxmake.asr.report import Verdict, failed_shards, shard_files, summary

    spec: Validate = run.config.validation
    rows = drawn(run.inputs["prepare_dataset"].rows(), spec.sample, run.config.seed)
    heard = recognise(run, rows)
    if run.limit is not None:
        rows = sorted(rows, key=lambda row: row["id"])[: run.limit]
    table = [scored(row, heard.get(row["id"]), spec) for row in sorted(rows, key=lambda row: row["id"])]
    run.write_table("validation.csv", COLUMNS, table)
    verdict = Verdict.of(table, spec)
    for check in verdict.checks(failed_shards(table)):
        run.check(*check)
    engine = run.notes["recogniser"]
    for name, text in shard_files(table, spec).items():
        run.write_text(name, text)
    run.write_text("SUMMARY.txt", summary(table, verdict, run.checks, engine))
    run.write_text("runner.log", runner_log(run, table))
    if spec.sample is None:
        write_passed(run, rows, table)
    else:
        write_sample(run, table)
    write_stats(run, table, verdict)
    run.publish(rows_out=len(heard))


def drawn(rows: list[dict[str, str]], count: int | None, seed: int) -> list[dict[str, str]]:
    """`count` rows by the seed, the same whatever other rows there are; all if None."""
    if count is None:
        return rows
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}\0asr\0{row['id']}".encode()).hexdigest())[:count]


def recognise(run: Run, rows: list[dict[str, str]]) -> dict[str, dict]:
    """What was heard of each clip, by id; clips that failed are missing."""
    from voxmake.asr import engines
    from voxmake.run.cache import Cache
    from voxmake.run.store import read_manifest

    spec, execution = run.config.validation, run.config.execution
    engine, model = chosen_engine(spec), model_path(spec)
    identity = engines.identity(engine, model_digest(spec), spec.beam_size, spec.compute_type)
    run.notes["recogniser"] = identity
    prepared = run.inputs["prepare_dataset"]
    manifest = read_manifest(prepared.path)
    cache = Cache(data_root() / ".cache" / "hypotheses.sqlite", identity)
    keys = {row["id"]: f"{manifest[row['file_name']][1]}:{spoken(row, spec)}" for row in rows}
    known = {key: json.loads(value) for key, value in cache.known(keys.values()).items()}
    items = [
        Item(
            id=row["id"],
            payload={
                "path": str(prepared.path / row["file_name"]),
                "language": spoken(row, spec),
                "text": row["text"],
                "heard": known.get(keys[row["id"]]),
            },
            cost=0.0 if keys[row["id"]] in known else float(row["duration_s"]),
            source=row["file_name"],
        )
        for row in rows
    ]
    if known:
        run.log.info("%d of %d clips were recognised before", sum(item.cost == 0 for item in items), len(items))

    def remember(item_id: str, row: dict) -> None:
        if keys[item_id] not in known:
            value = {name: row[name] for name in ("text", "language", "probability")}
            cache.add({keys[item_id]: json.dumps(value).encode()})

    batch_size = 1 if engine == "pocketsphinx" else execution.batch_size  # it takes one clip after the other
    args = {
        "engine": engine, "model": None if model is None else str(model), "beam_size": spec.beam_size,
        "compute_type": spec.compute_type, "batch_size": batch_size, "loaders": execution.loader_workers,
    }  # fmt: skip
    # Four batches in hand, so that reading and the model overlap. No limits: PyTorch reserves more address space than
    # a useful one allows.
    return run.map(
        items, Recognise, args, Limits(), "clips", at_once=4 * batch_size, on_gpus=True, each=remember,
        shown="similarity",
    )  # fmt: skip


def spoken(row: dict[str, str], spec: Validate) -> str:
    """ISO 639-1 code of the language to recognise; "" if nobody knows."""
    from voxmake.text.normalise import language_code

    return language_code(spec.language or row["language"])


def scored(row: dict[str, str], heard: dict | None, spec: Validate) -> dict[str, Any]:
    """One row of validation.csv."""
    from voxmake.asr.engines import Heard
    from voxmake.asr.report import shard_of
    from voxmake.asr.scoring import score

    told = {column: row[column] for column in CARRIED} | {
        "text": row["text"],
        "shard": shard_of(row["id"], spec.shards),
    }
    if heard is None:
        return told | {"class": "error", "passed": "no"}
    found = Heard(heard["text"], heard["language"], heard["probability"])
    result = score(row["text"], found, float(row["duration_s"]), spoken(row, spec), spec.min_similarity)
    return told | {
        "class": result.kind,
        "passed": "yes" if result.kind == "ok" else "no",
        "similarity": result.similarity,
        "cer": result.cer,
        "wer": result.wer,
        "edge_start_cer": result.edge_start_cer,
        "edge_end_cer": result.edge_end_cer,
        "chars_per_s": result.chars_per_s,
        "heard_language": found.language,
        "language_probability": found.probability,
        "hypothesis": found.text,
        "reference_compared": result.reference,
        "hypothesis_compared": result.hypothesis,
    }


def runner_log(run: Run, table: list[dict[str, Any]]) -> str:
    """What the seed's runner told of its shards, without times: those are in run.log."""
    spec = run.config.validation
    lines = [f"recogniser {run.notes['recogniser']}", f"{len(table)} clips in {spec.shards} shards"]
    for shard in range(spec.shards):
        members = [row for row in table if row["shard"] == shard]
        errors = sum(row["class"] == "error" for row in members)
        lines.append(f"shard {shard}: {len(members)} clips, {errors} not recognised, exit code {int(errors > 0)}")
    return "\n".join(lines) + "\n"


def write_passed(run: Run, rows: list[dict[str, str]], table: list[dict[str, Any]]) -> None:
    """The rows of prepare_dataset's metadata.csv that passed, as they are; file_name is relative to that run."""
    passed = {row["id"] for row in table if row["passed"] == "yes"}
    run.write_table("passed.csv", list(rows[0]), [row for row in rows if row["id"] in passed])


def write_sample(run: Run, table: list[dict[str, Any]]) -> None:
    from voxmake.asr.report import tsv

    rows = [
        {"id": row["id"], "ref": row["text"], "hyp": row.get("hypothesis", ""), "similarity": row.get("similarity")}
        for row in table
    ]
    run.write_text("asr_sample.tsv", tsv(("id", "ref", "hyp", "similarity"), rows))


def write_stats(run: Run, table: list[dict[str, Any]], verdict: Any) -> None:
    from voxmake.asr.scoring import CLASSES

    run.stat("similarity_mean", verdict.mean, "0 to 1", "mean similarity of text and recognised text")
    run.stat("low_ratio", verdict.low_ratio, "ratio", "share of the clips whose similarity is below min_similarity")
    run.stat("passed", sum(row["passed"] == "yes" for row in table), "clips", "clips that later stages may take")
    for name, unit, description in (
        ("cer", "ratio", "mean character error rate"),
        ("wer", "ratio", "mean word error rate"),
    ):
        values = [row[name] for row in table if name in row]
        run.stat(name, round(sum(values) / len(values), 6) if values else None, unit, description)
    for kind, meaning in CLASSES.items():
        run.stat(f"class_{kind}", sum(row["class"] == kind for row in table), "clips", meaning)


# Short for --set, with the seed's names: what a flag decides is a key like any other.
FLAGS = {
    "--asr-sample": ("validation.sample", "recognise so many clips only, drawn by the seed"),
    "--whisper-model": ("validation.model", "file or folder of the model"),
    "--whisper-backend": ("validation.engine", "recogniser"),
    "--whisper-language": ("validation.language", "language that is spoken"),
    "--whisper-beam-size": ("validation.beam_size", "hypotheses kept"),
    "--whisper-compute-type": ("validation.compute_type", "numbers it computes with"),
    "--whisper-batch-size": ("execution.batch_size", "clips at once"),
    "--whisper-num-workers": ("execution.loader_workers", "threads that read audio ahead"),
    "--gpus": ("execution.gpus", "GPUs, as in 0,1"),
    "--workers-per-gpu": ("execution.workers_per_gpu", "processes on each GPU"),
    "--progress-mode": ("execution.progress", "display"),
}


def assignment(key: str, text: str) -> str:
    return f"{key}=[{text}]" if key == "execution.gpus" else f"{key}={text}"


def flags() -> Any:
    told = parser(__doc__)
    for flag, (key, meaning) in FLAGS.items():
        told.add_argument(
            flag, dest="assignments", action="append", metavar="VALUE", help=f"{meaning}; short for --set {key}=VALUE",
            type=lambda text, key=key: assignment(key, text),
        )  # fmt: skip
    return told


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, flags(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
