"""Make one package of a trained voice that loads the first time: model, card, licence, samples, reports, checksums.

    python scripts/release.py --config configs/demo_voice.yaml
    make release CONFIG=configs/demo_voice.yaml SET='release.name=anna release.data_licence=CC0-1.0'

Reads the voice that `release.voice` names, train_mms or train_piper. Writes package/<lang>-<name>-<quality>/ and the
same as .tar.gz. A Piper voice is an .onnx and a complete .onnx.json: Piper, Home Assistant and sherpa-onnx open it. An
MMS voice is the folder that transformers opens, and an .onnx with tokens.txt for sherpa-onnx. At the end the archive is
unpacked and speaks in a process that knows nothing of voxmake. The licence is inherited from base model and recordings.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from voxmake.errors import Failure
from voxmake.run.config import Section
from voxmake.run.entry import parser, run_stage
from voxmake.run.stage import Stage

if TYPE_CHECKING:
    from voxmake.run.run import Published, Run


class Release(Section):
    """A voice as one package."""

    voice: Literal["train_mms", "train_piper"] = Field("train_piper", description="the training whose voice it is")
    name: str = Field(
        "voice", pattern=r"^[a-z0-9][a-z0-9_]{0,39}$", description="of the voice: <lang>-<name>-<quality>.onnx"
    )
    language: str | None = Field(
        None, description="code such as en_US; null: the dataset's, with the country that Piper's voices have"
    )
    description: str = Field("", description="a sentence for the voice card: who speaks, how it was recorded")
    data_licence: str | None = Field(None, description="licence of the recordings, SPDX; a release must state it")
    base_licence: str | None = Field(
        None, description="licence of the model that training began with, if any; MMS is CC-BY-NC-4.0"
    )
    consent: str = Field("", description="how the speaker agreed to a voice being made; written into the card")
    quality_report: bool = Field(False, description="add the quality report of the dataset to the package")


def not_needed(config: Any) -> tuple[str, ...]:
    spec = config.release
    other = {"train_mms": "train_piper", "train_piper": "train_mms"}[spec.voice]
    left_out = [other]
    if not getattr(config, spec.voice).validated:
        left_out.append("whisper_validate")
    return (*left_out, *(() if spec.quality_report else ("quality_report",)))


STAGE = Stage(
    name="release",
    version=1,
    summary="package a voice: model, card, licence, samples, reports, checksums; unpacked and heard",
    sections={"release": Release},
    after=("prepare_dataset", "quality_report", "whisper_validate", "train_mms", "train_piper"),
    without=not_needed,
)

# What is taken from each run into reports/<stage>/, where it is there.
REPORTS = ("stats.json", "rejected.csv", "SUMMARY.txt", "sizes.json", "quality_report.md", "missing_characters.csv")
INFERENCE = {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8}  # VITS' own, where a voice says nothing


def work(run: Run) -> None:
    from voxmake.vits import package

    spec: Release = run.config.release
    trained = run.inputs[spec.voice]
    record = json.loads((trained.path / "run.json").read_text(encoding="utf-8"))
    has_base = bool(record["identity"].get("outside"))
    licence = package.licence_of_voice(spec.data_licence, spec.base_licence, has_base)
    rows = [row for row in run.inputs["prepare_dataset"].rows() if row["split"] == "train"]
    run.take_in(1)
    code = package.full_code(spec.language or (rows[0]["language"] if rows else ""))
    voice_id = f"{code}-{spec.name}-{quality_of(trained, spec)}"
    folder = run.path / "package" / voice_id
    add_model(trained, folder, voice_id, spec, code)
    add_evidence(run, trained, folder, record)
    facts = card_facts(run, voice_id, code, rows, licence, has_base, record)
    stats = json.loads((trained.path / "stats.json").read_text(encoding="utf-8"))
    put(folder / "VOICE_CARD.md", package.card(facts, stats, record["gate"]["checks"]))
    put(folder / "voice.json", package.to_json(facts | {"metrics": stats, "gate": record["gate"]}))
    sums = [f"{digest(path)}  {path.relative_to(folder).as_posix()}" for path in files_of(folder)]
    put(folder / "SHA256SUMS", "\n".join(sums) + "\n")
    run.write_bytes(f"package/{voice_id}.tar.gz", package.archive(folder, voice_id))
    for path in files_of(folder):
        run.add_file(path.relative_to(run.path).as_posix())
    spoken = smoke(run, run.path / "package" / f"{voice_id}.tar.gz", voice_id)
    run.stat("voice", voice_id, "name", "of the package")
    run.stat("licence", licence, "SPDX", "that the voice inherits")
    run.stat("smoke_duration", spoken["duration_s"], "s", "what the unpacked voice said in a process of its own")
    size = (run.path / "package" / f"{voice_id}.tar.gz").stat().st_size
    run.stat("package_mb", round(size / 1e6, 3), "MB", "size of the archive")
    run.publish(rows_out=1)


def quality_of(trained: Published, spec: Release) -> str:
    """The last part of the name: Piper's quality, or mms."""
    if spec.voice == "train_mms":
        return "mms"
    return json.loads((trained.path / "model" / "model.onnx.json").read_text(encoding="utf-8"))["audio"]["quality"]


def add_model(trained: Published, folder: Path, voice_id: str, spec: Release, code: str) -> None:
    """The voice under its name, and smoke.json: the ids of a sentence, so that it speaks with onnxruntime alone."""
    import onnxruntime

    from voxmake.vits import package

    model = trained.path / "model"
    put(folder / f"{voice_id}.onnx", (model / "model.onnx").read_bytes())
    put(folder / "tokens.txt", (model / "tokens.txt").read_bytes())
    if spec.voice == "train_piper":
        config = json.loads((model / "model.onnx.json").read_text(encoding="utf-8"))
        config = package.complete_piper_config(config, spec.name, code, config["audio"]["quality"])
        put(folder / f"{voice_id}.onnx.json", package.to_json(config))
        inference = config["inference"]
    else:
        for path in sorted(model.iterdir()):
            if path.name not in ("model.onnx", "tokens.txt"):
                put(folder / "transformers" / path.name, path.read_bytes())
        inference = INFERENCE
    names = [entry.name for entry in onnxruntime.InferenceSession(str(model / "model.onnx")).get_inputs()]
    said = json.loads((trained.path / "sentences.json").read_text(encoding="utf-8"))[0]
    told = {"model": f"{voice_id}.onnx", "text": said["text"]} | package.smoke_feed(names, said["ids"], inference)
    put(folder / "smoke.json", package.to_json(told))


def add_evidence(run: Run, trained: Published, folder: Path, record: dict[str, Any]) -> None:
    """Samples, training log, plots, config, and the report of every stage that the voice comes from."""
    for name in ("samples.csv", "training_log.json"):
        put(folder / name, (trained.path / name).read_bytes())
    for part in ("samples", "plots"):
        for path in sorted((trained.path / part).iterdir()):
            put(folder / part / path.name, path.read_bytes())
    from voxmake.vits.package import to_json

    put(folder / "config.json", to_json(record["config"]))
    for stage, read in run.inputs.items():
        for name in REPORTS:
            if (read.path / name).is_file():
                put(folder / "reports" / stage / name, (read.path / name).read_bytes())
        told = json.loads((read.path / "run.json").read_text(encoding="utf-8"))
        kept = {key: told[key] for key in ("stage", "hash", "identity", "gate", "versions") if key in told}
        put(folder / "reports" / stage / "run.json", to_json(kept))


def card_facts(
    run: Run, voice_id: str, code: str, rows: list[dict], licence: str, has_base: bool, record: dict[str, Any]
) -> dict[str, Any]:
    """What the card and voice.json tell."""
    from voxmake.vits.package import language_facts

    spec: Release = run.config.release
    prepared = run.inputs["prepare_dataset"]
    manifest = digest(prepared.path / "MANIFEST.sha256")
    hours = sum(float(row["duration_s"]) for row in rows) / 3600
    text = f"{licence}, inherited: recordings under {spec.data_licence}"
    text += f", base model under {spec.base_licence}." if has_base else "; trained from scratch."
    if "NC" in licence.upper().split("-"):
        text += " Not for commercial use."
    return {
        "id": voice_id,
        "description": spec.description or "A voice made with voxmake.",
        "language": language_facts(code),
        "licence": licence,
        "licence_text": text,
        "rows": {
            "language": f"{language_facts(code)['name_english']} ({code})",
            "hours": f"{hours:.4f} of training audio, {len(rows)} clips",
            "speakers": len({row["speaker"] for row in rows}),
            "licence": licence,
            "consent": spec.consent or "not stated",
            "data": f"prepare_dataset/{prepared.hash12}, manifest sha256 {manifest}",
            "training": f"{spec.voice}/{record['hash']}" if "hash" in record else spec.voice,
            "base": json.dumps(record["identity"].get("outside", {})) if has_base else "none: from scratch",
        },
    }


def smoke(run: Run, package: Path, voice_id: str) -> dict[str, Any]:
    """Unpack the archive somewhere else, check its sums, and let it speak in a clean process.

    Raises:
        Failure: it does not.
    """
    import tarfile

    from voxmake.vits.package import SMOKE

    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(package) as tar:
            tar.extractall(place, filter="data")
        folder = Path(place) / voice_id
        for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
            wanted, _, name = line.partition("  ")
            if digest(folder / name) != wanted:
                raise Failure(f"{package}: {name} is not what SHA256SUMS says: run again")
        # -I: no PYTHONPATH, no user packages, nothing from this folder.
        command = [sys.executable, "-I", "-c", SMOKE, str(folder)]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": place}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place, env=environment)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise Failure(f"{package}: the unpacked voice does not speak: {last}")
    run.log.info("%s speaks: %s", voice_id, done.stdout.strip())
    return json.loads(done.stdout)


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv: list[str] | None = None) -> int:
    return run_stage(STAGE, work, parser(__doc__), argv)


if __name__ == "__main__":
    raise SystemExit(main())
