"""Test a vocoder on clips it was not trained with, beside baselines in one table.

    python scripts/evaluate_vocoder.py --config configs/demo.yaml
    make evaluate_vocoder CONFIG=configs/demo.yaml SET='vocoder_test.clips=50 vocoder_test.recognise=true'
    make vocoder_test CONFIG=configs/demo.yaml    # the same, for short

Reads the test clips that train_vocoder held out. Needs the package group vocoder. Writes orig_0000.wav and
synth_0000.wav pairs with spectrograms, files.csv (every measure of every file and system), test_results.json (means),
index.html with the table and players. Exit code 1 if the vocoder is worse on any measure than another utterance.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import Field

from voxmake.errors import BadInput
from voxmake.run.config import Section
from voxmake.run.entry import parser, run_stage
from voxmake.run.run import read_table
from voxmake.run.stage import Stage
from voxmake.run.work import Item, Limits

if TYPE_CHECKING:
    from voxmake.run.run import Run
    from voxmake.units.corpus import Corpus


class VocoderTest(Section):
    """Measures of a vocoder on clips that were held out."""

    clips: int = Field(
        20, ge=2, description="test clips, at most; two at least, since each is also the other's baseline"
    )
    recognise: bool = Field(
        False, description="word and character error rates too, by the recogniser of the section `validation`"
    )


def result_keys(config: Any) -> dict:
    keys = {"vocoder_test": config.vocoder_test.model_dump(mode="json")}
    if config.vocoder_test.recognise:
        from voxmake.asr.spec import chosen_engine

        spec = config.validation
        keys["recogniser"] = [chosen_engine(spec), spec.beam_size, spec.compute_type, spec.language]
    return keys


def outside(config: Any) -> dict[str, str]:
    """The recogniser's model, by content."""
    from voxmake.asr.spec import model_facts

    return model_facts(config.validation) if config.vocoder_test.recognise else {}


STAGE = Stage(
    name="evaluate_vocoder",
    version=1,
    summary="test a vocoder on clips that were held out",
    sections={"vocoder_test": VocoderTest},
    after=("train_vocoder", "encode_units", "segment"),
    seeded=True,
    result_keys=result_keys,
    outside=outside,
)


def work(run: Run) -> None:
    from voxmake.units.corpus import read_corpus
    from voxmake.vocoder.measures import MEASURES
    from voxmake.vocoder.packages import need
    from voxmake.vocoder.testing import SYSTEMS, checks, page, totals

    for package in ("pysptk", "pyworld", "pesq", "pystoi"):
        need(package, "evaluate_vocoder")
    corpus = read_corpus(run.inputs["encode_units"].path)
    check_tokeniser(run, corpus)
    rows = chosen_clips(run, corpus)
    found = examine(run, rows, corpus)
    kept = [row for row in rows if row["id"] in found]
    number = {row["id"]: f"{rows.index(row):04}" for row in kept}
    files = {row["id"]: found[row["id"]]["systems"] for row in kept}
    if run.config.vocoder_test.recognise:
        add_errors(run, kept, files, number, anothers(rows))
    columns = ("number", "id", "system", *MEASURES)
    run.write_table(
        "files.csv",
        columns,
        (
            {"number": number[name], "id": name, "system": system} | file[system]
            for name, file in files.items()
            for system in SYSTEMS
        ),
    )
    total = totals(list(files.values()))
    for check in checks(total):
        run.check(*check)
    record = json.loads((run.inputs["train_vocoder"].path / "vocoder_final.json").read_text(encoding="utf-8"))
    seconds = sum(found[row["id"]]["seconds"] for row in kept)
    told = {name: vars(measure) for name, measure in MEASURES.items()}
    run.write_json(
        "test_results.json",
        {
            "files": len(kept),
            "seconds": round(seconds, 2),
            "tokeniser": corpus.tokeniser,
            "systems": total,
            "measures": told,
        },
    )
    facts = [
        ("generator", record["vocoder"]["generator"]), ("epoch", str(record["epoch"])), ("files", str(len(kept))),
        ("seconds", f"{seconds:.0f}"), ("tokeniser", corpus.tokeniser[:12]),
    ]  # fmt: skip
    pairs = [
        {
            "number": number[row["id"]],
            "id": row["id"],
            "text": row["transcription"],
            "told": summary(files[row["id"]]["vocoder"]),
        }
        for row in kept
    ]
    verdict = "PASS" if all(check["passed"] for check in run.checks) else "FAIL"
    run.write_text("index.html", page(run.config.project, facts, total, pairs, verdict))
    for key, measure in MEASURES.items():
        if one := total["vocoder"][key]:
            run.stat(key, one["mean"], measure.unit, f"{measure.meaning}; mean of the test clips")
    run.publish(rows_out=len(kept))


def check_tokeniser(run: Run, corpus: Corpus) -> None:
    """Units of another tokeniser than the vocoder's are refused before anything is computed."""
    folder = run.inputs["train_vocoder"].path
    own = json.loads((folder / "vocoder_final.json").read_text(encoding="utf-8"))["tokeniser"]
    if own != corpus.tokeniser:
        raise BadInput(
            f"{run.inputs['encode_units'].path}: units of tokeniser {corpus.tokeniser[:12]}, but {folder} speaks those of "
            f"{own[:12]} only; give the units it was trained on, or train a vocoder on these"
        )


def chosen_clips(run: Run, corpus: Corpus) -> list[dict[str, str]]:
    """Rows of the clips that were held out for this, in the order of their ids."""
    split = {row["id"]: row["part"] for row in read_table(run.inputs["train_vocoder"].path / "split.csv")}
    known = [row for row in run.inputs["segment"].rows() if row["id"] in corpus.units]
    rows = sorted((row for row in known if split.get(row["id"]) == "test"), key=lambda row: row["id"])
    rows = rows[: run.config.vocoder_test.clips][: run.limit]
    if len(rows) < 2:
        raise BadInput(f"{len(rows)} test clips: two are the least; raise vocoder.test_clips, or give more clips")
    return rows


def anothers(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """Of each clip the next one of its speaker, going round; without one the next of all."""
    found = {}
    for row in rows:
        own = [one for one in rows if one["speaker"] == row["speaker"]]
        among = own if len(own) > 1 else rows
        found[row["id"]] = among[(among.index(row) + 1) % len(among)]
    return found


def examine(run: Run, rows: list[dict[str, str]], corpus: Corpus) -> dict[str, dict]:
    from encode_units import model_folder
    from voxmake.vocoder.testing import Examine

    source, another = run.inputs["segment"].path, anothers(rows)
    items = [
        Item(
            id=row["id"],
            payload={
                "path": str(source / row["file_name"]),
                "another": str(source / another[row["id"]]["file_name"]),
                "units": corpus.units[row["id"]].tolist(),
                "speaker": row["speaker"],
                "number": number,
            },
            cost=float(row["duration_s"]),
            source=row["source"],
        )
        for number, row in enumerate(rows)
    ]
    args = {
        "vocoder": str(run.inputs["train_vocoder"].path), "units": str(run.inputs["encode_units"].path),
        "model": model_folder(run.config.units), "seed": run.config.seed,
    }  # fmt: skip
    return run.map(items, Examine, args, Limits(), "clips", on_gpus=True)


def add_errors(run: Run, rows: list[dict], files: dict, number: dict[str, str], another: dict[str, dict]) -> None:
    """Word and character error rates of the vocoder and of another utterance, and what they add to the original's.

    The reference is the transcript; a clip without one is compared with what is heard of the original.
    """
    from voxmake.asr.engines import Heard
    from voxmake.asr.recognise import Recognise, spoken, worker
    from voxmake.asr.scoring import score

    language = {row["id"]: spoken(row, run.config.validation) for row in rows}
    items = [
        Item(
            id=f"{side}_{number[row['id']]}",
            payload={
                "path": str(run.path / f"{side}_{number[row['id']]}.wav"), "language": language[row["id"]],
                "text": row["transcription"], "heard": None,
            },
            cost=float(row["duration_s"]),
            source=row["source"],
        )
        for row in rows
        for side in ("orig", "synth")
    ]  # fmt: skip
    args, at_once = worker(run)
    heard = run.map(items, Recognise, args, Limits(), "recordings", at_once=at_once, on_gpus=True, again=True)
    texts = {name: row["text"] for name, row in heard.items()}
    for row in rows:
        own = number[row["id"]]
        reference = row["transcription"] or texts.get(f"orig_{own}", "")

        def rates(name: str, reference: str = reference, code: str = language[row["id"]]) -> tuple[float, float] | None:
            if not reference or name not in texts:
                return None
            found = score(reference, Heard(texts[name]), 1.0, code, 0.0)
            return round(found.wer, 4), round(found.cer, 4)

        original = rates(f"orig_{own}")
        if (other := another[row["id"]]["id"]) in number and (told := rates(f"orig_{number[other]}")):
            files[row["id"]]["another"] |= {"wer": told[0], "cer": told[1]}
        if (told := rates(f"synth_{own}")) and original:
            files[row["id"]]["vocoder"] |= {
                "wer": told[0], "wer_delta": round(told[0] - original[0], 4),
                "cer": told[1], "cer_delta": round(told[1] - original[1], 4),
            }  # fmt: skip


def summary(measured: dict[str, float | None]) -> str:
    names = ("mcd_db", "log_f0_rmse", "voicing_error", "log_mel_l1", "stoi", "unit_error", "wer")
    return " · ".join(f"{name} {measured[name]:.3g}" for name in names if measured.get(name) is not None)


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
