"""Listen to every clip of the dataset by speech recognition, compare it with its text, and say PASS or FAIL.

    python scripts/whisper_validate.py --config configs/demo.yaml
    python scripts/whisper_validate.py --config configs/demo.yaml --asr-sample 300
    python scripts/whisper_validate.py --config configs/demo.yaml --whisper-model models/large-v3 --gpus 0,1
    make whisper_validate CONFIG=configs/demo.yaml SET='validation.gate_mean_similarity=0.85'

Reads the run of prepare_dataset, changes nothing in it. Writes validation.csv (one row a clip: similarity,
error rates, a class and whether it passed), passed.csv (the dataset's rows that training may take), SUMMARY.txt,
runner.log and shard_reports/. Exit code 1: a gate says FAIL; all of that is written nevertheless. What was heard
is remembered by the clip's content: other gates, other texts or one more clip recognise nothing twice.
docs/validation.md explains classes and gates.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from voxmake.asr.recognise import CARRIED, recognise, scored
from voxmake.asr.spec import Validate, model_facts, recogniser_keys
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage

if TYPE_CHECKING:
    from voxmake.run.run import Run


def result_keys(config: Any) -> dict:
    return recogniser_keys(config.validation) | ({"seed": config.seed} if config.validation.sample else {})


STAGE = Stage(
    name="whisper_validate",
    version=2,
    summary="recognise every clip, compare it with its text, PASS or FAIL",
    sections={"validation": Validate},
    after=("prepare_dataset",),
    result_keys=result_keys,
    outside=lambda config: model_facts(config.validation),
)


COLUMNS = (
    *CARRIED, "class", "passed", "similarity", "cer", "wer", "edge_start_cer", "edge_end_cer", "chars_per_s",
    "heard_language", "language_probability", "text", "hypothesis", "reference_compared", "hypothesis_compared", "shard",
)  # fmt: skip


def work(run: Run) -> None:
    from voxmake.asr.report import Verdict, asr_sample, failed_shards, shard_files, summary

    spec: Validate = run.config.validation
    rows = drawn(run.inputs["prepare_dataset"].rows(), spec.sample, run.config.seed)
    heard = recognise(run, rows)
    if run.limit is not None:
        rows = sorted(rows, key=lambda row: row["id"])[: run.limit]
    table = [scored(row, heard.get(row["id"]), spec) for row in sorted(rows, key=lambda row: row["id"])]
    run.write_table("validation.csv", COLUMNS, table)
    verdict = Verdict.of(table, spec, sampled=spec.sample is not None)
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
        run.write_text("asr_sample.tsv", asr_sample(table))
    write_stats(run, table, verdict)
    run.publish(rows_out=len(heard))


def drawn(rows: list[dict[str, str]], count: int | None, seed: int) -> list[dict[str, str]]:
    """`count` rows by the seed, the same whatever other rows there are; all if None."""
    if count is None:
        return rows
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}\0asr\0{row['id']}".encode()).hexdigest())[:count]


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
